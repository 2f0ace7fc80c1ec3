"""Market-1501 with the 500,000 distractors of the same authors in its gallery.

Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015,
https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html (Market-1501+500k, distractors_500k.zip)

The data set is that of market1501.py; the images of the archive, a directory images/, belong beside its other
directories:

    data/market1501/ or data/Market-1501-v15.09.15/
        bounding_box_train/, query/, bounding_box_test/
        images/, distractors_500k/ or distractors_500k/images/    the distractors

Names are those of Market-1501, with pid 0 or -1. Every image of that directory is a distractor (pid 0): it matches no
query and counts as wrong wherever it is ranked. The number of distractors is not compared with the published one.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import content_of
from datasets.readers.market1501 import NUM_CAMERAS, PUBLISHED, read_market1501
from datasets.readers.market_layout import IMAGE_SUFFIXES
from datasets.readers.validation import DISTRACTOR_PID
from utils.errors import UserError
from utils.image_listing import list_images
from utils.structures import Counts, DatasetSplits, ImageRecord

DIRECTORIES = ("images", "distractors_500k/images", "distractors_500k")
NAME = re.compile(r"(?:0+|-1)_c(?P<camera>[1-6])[^\d].*", re.ASCII)


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    return read_market1501_500k(root, errors, own_subset=not cfg.DATASETS.CHECK_COUNTS)


def read_market1501_500k(root: str | Path, errors: FileErrors, *, own_subset: bool = False) -> DatasetSplits:
    """Reads Market-1501 below `root`, and the distractors in its directory.

    Args:
        root, errors, own_subset: see read_market1501.

    Raises:
        UserError: the data set or the distractors are missing, or incomplete.
    """
    splits = read_market1501(root, errors, own_subset=own_subset)
    directory = Path(splits.root)
    place = next((directory / name for name in DIRECTORIES if (directory / name).is_dir()), None)
    if place is None:
        raise UserError(
            f"Market-1501+500k: {directory} has no directory of distractors, {' or '.join(DIRECTORIES)}; it holds "
            f"{content_of(directory)}. Unpack distractors_500k.zip there, or test without distractors: DATASETS.NAMES "
            "market1501"
        )
    distractors = tuple(_read_distractors(place, errors))
    if not distractors:
        raise UserError(f"Market-1501+500k: {place}: no distractors in it. Unpack distractors_500k.zip again")
    return replace(
        splits,
        name="market1501_500k",
        gallery=(*splits.gallery, *distractors),
        published={**PUBLISHED, "gallery": Counts(None, PUBLISHED["gallery"].identities)},
    )


def _read_distractors(directory: Path, errors: FileErrors) -> Iterator[ImageRecord]:
    for name in list_images(directory, errors.add, suffixes=IMAGE_SUFFIXES, recursive=False):
        if match := NAME.fullmatch(name):
            yield ImageRecord(str(directory / name), DISTRACTOR_PID, int(match["camera"]) - 1)
        else:
            errors.add(
                f"{directory / name}: expected the name of a distractor, 0000_c<camera>... or -1_c<camera>..., with a "
                f"camera of 1 to {NUM_CAMERAS}. Rename or remove the file"
            )
