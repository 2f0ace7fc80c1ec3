"""Market-1501.

Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015,
https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html

    data/market1501/ or data/Market-1501-v15.09.15/
        bounding_box_train/    12,936 images of 751 identities
        query/                  3,368 images of 750 identities
        bounding_box_test/     19,732 images: 15,913 count (750 identities and distractors, pid 0),
                               3,819 are junk (pid -1)

Any other directory up to three levels below data/, or data/ itself, is recognised by this content.

Names are <pid>_c<camera>s<sequence>_<frame>_<box>.jpg, cameras 1 to 6.
"""

from pathlib import Path

from yacs.config import CfgNode

from datasets.copy_format import MANIFEST, SETTINGS
from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import find_directory
from datasets.readers.market_layout import FILE_NAMES, SPLIT_DIRECTORIES, has_names, read_market_layout
from utils.structures import Counts, DatasetSplits

DIRECTORIES = ("market1501", "Market-1501-v15.09.15")
PUBLISHED = {"train": Counts(12936, 751), "query": Counts(3368, 750), "gallery": Counts(15913, 750)}
NUM_CAMERAS, LAST_PID = 6, 1501


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    return read_market1501(root, errors, own_subset=not cfg.DATASETS.CHECK_COUNTS)


def read_market1501(root: str | Path, errors: FileErrors, *, own_subset: bool = False) -> DatasetSplits:
    """Reads Market-1501 below `root`.

    Args:
        root: directory that holds the data set's own.
        errors: collects errors of single files.
        own_subset: pids and cameras need not be in the published range.

    Raises:
        UserError: the data set is missing, or incomplete.
    """
    directory = find_directory(
        root,
        DIRECTORIES,
        tuple(SPLIT_DIRECTORIES.values()),
        title="Market-1501",
        download=f"Download Market-1501-v15.09.15.zip from the data set's page, unpack it into {root}/ (or point "
        "DATASETS.ROOT_DIR to where it is).\nTo try the framework without any download, use the synthetic set: "
        "--config_file configs/Synthetic/cfat.yml",
        fits=_is_original,
    )
    names = FILE_NAMES if own_subset else FILE_NAMES._replace(last_pid=LAST_PID, num_cameras=NUM_CAMERAS)
    return read_market_layout(
        directory, errors, name="market1501", names=names, published=PUBLISHED, cameras=NUM_CAMERAS
    )


def _is_original(directory: Path) -> bool:
    """Whether a directory in Market-1501's layout is neither a corrupted copy nor a synthetic set.

    A synthetic set whose directory is named after Market-1501 is taken for it.
    """
    is_synthetic = (directory / MANIFEST).exists() and "market" not in directory.name.lower()
    return not (is_synthetic or (directory / SETTINGS).exists()) and has_names(directory, FILE_NAMES)
