"""The synthetic set, rendered on first use, in Market-1501's layout (datasets/synthetic/).

    data/synthetic/    bounding_box_train/, query/, bounding_box_test/, manifest.json

Its counts are those of its settings; nothing is published.
"""

from functools import partial
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.file_errors import FileErrors
from datasets.readers.market_layout import read_market_layout
from datasets.synthetic.generate import NAME, ensure_synthetic, place_of, settings_of
from utils.distributed import once_per_node
from utils.structures import DatasetSplits


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    settings = None if cfg.DATASETS.CHECK_COUNTS else settings_of(place_of(root))
    directory = once_per_node(partial(ensure_synthetic, root, settings=settings))
    return read_market_layout(directory, errors, name=NAME)
