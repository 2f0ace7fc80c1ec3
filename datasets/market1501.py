"""Market-1501, and any data set in its layout.

Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015,
https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html

    data/market1501/ or data/Market-1501-v15.09.15/
        bounding_box_train/    12,936 pictures of 751 identities
        query/                  3,368 pictures of 750 identities
        bounding_box_test/     19,732 pictures: 15,913 count (750 identities and distractors, pid 0),
                               3,819 are junk (pid -1)

Names are <pid>_c<camera>s<sequence>_<frame>_<box>.jpg, cameras 1 to 6. Junk is dropped on reading, distractors stay.
"""

import logging
import re
from pathlib import Path

from corruption.copies import PICTURE_SUFFIXES, SPLITS
from utils.errors import UserError
from utils.ranking import JUNK_PID
from utils.structures import DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

DIRECTORIES = ("market1501", "Market-1501-v15.09.15")
SPLIT_DIRECTORIES = {split: directory for directory, split in SPLITS.items()}
# split: (pictures that count, identities without distractors)
PUBLISHED_COUNTS = {"train": (12936, 751), "query": (3368, 750), "gallery": (15913, 750)}
FILE_NAME = re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+)s\d+_\d+_\d+\.(jpg|png)", re.IGNORECASE)
DISTRACTOR_PID = 0


def read_market1501(root_dir: str | Path, *, check_counts: bool = True) -> DatasetSplits:
    """Market-1501 below `root_dir`.

    Raises:
        UserError: not there, in part there, or (unless check_counts is False) with other counts than published.
    """
    root_dir = Path(root_dir)
    directory = next((root_dir / name for name in DIRECTORIES if (root_dir / name).is_dir()), None)
    if directory is None:
        raise UserError(
            f"Market-1501 not found: neither {root_dir / DIRECTORIES[0]} nor {root_dir / DIRECTORIES[1]} exists.\n"
            f"Download Market-1501-v15.09.15.zip from the data set's page, unpack it into {root_dir}/ (or point "
            "DATASETS.ROOT_DIR to where it is).\nTo try the framework without any download, use the synthetic set: "
            "--config_file configs/Synthetic/cfat.yml"
        )
    splits = read_market_layout(directory, name="market1501")
    check_published_counts(splits, PUBLISHED_COUNTS, check_counts=check_counts)
    return splits


def check_published_counts(
    splits: DatasetSplits, published: dict[str, tuple[int, int]], *, check_counts: bool = True
) -> None:
    """Raises UserError where counts are not the published ones; with check_counts False, logs a warning."""
    faults = []
    for split, expected in published.items():
        found = count(getattr(splits, split))
        if found != expected:
            faults.append(
                f"{split}: {found[0]} pictures of {found[1]} identities, published {expected[0]} of {expected[1]}"
            )
    if faults:
        message = f"{splits.root}: not the published Market-1501: " + "; ".join(faults)
        if check_counts:
            raise UserError(f"{message}. Unpack the archive again, or accept a subset with DATASETS.CHECK_COUNTS False")
        logger.warning("%s", message)


def count(records: tuple[ImageRecord, ...]) -> tuple[int, int]:
    """Pictures, and identities without distractors."""
    return len(records), len({record.pid for record in records} - {DISTRACTOR_PID})


def read_market_layout(directory: str | Path, *, name: str) -> DatasetSplits:
    """Reads a directory in Market-1501's layout; pictures in the order of their names.

    Raises:
        UserError: a split's directory missing or empty, or a picture whose name does not parse (named).
    """
    directory = Path(directory)
    missing = [folder for folder in SPLIT_DIRECTORIES.values() if not (directory / folder).is_dir()]
    if missing:
        raise UserError(
            f"{directory}: {', '.join(missing)} missing; expected {', '.join(SPLIT_DIRECTORIES.values())}. "
            "The archive is not fully unpacked, or this is another directory level"
        )
    records = {split: _read_split(directory / folder) for split, folder in SPLIT_DIRECTORIES.items()}
    return DatasetSplits(name=name, root=str(directory), **records)


def _read_split(directory: Path) -> tuple[ImageRecord, ...]:
    records = []
    for path in sorted(directory.iterdir()):
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            continue  # Thumbs.db and the like come with the archive
        match = FILE_NAME.fullmatch(path.name)
        if match is None:
            raise UserError(
                f"{path}: the name does not parse; expected <pid>_c<camera>s<sequence>_<frame>_<box>.jpg, "
                "e.g. 0002_c1s1_000451_03.jpg. Rename or remove the file"
            )
        pid, camera = int(match["pid"]), int(match["camera"])
        if pid < JUNK_PID or camera < 1:
            raise UserError(f"{path}: pid {pid}, camera {camera}; expected a pid of -1 or more and cameras from 1")
        if pid != JUNK_PID:
            records.append(ImageRecord(str(path), pid, camera - 1))
    if not records:
        raise UserError(
            f"{directory}: no pictures; expected files such as 0002_c1s1_000451_03.jpg. Unpack the archive again"
        )
    return tuple(records)
