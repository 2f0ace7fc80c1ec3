"""Market-1501, and any data set in its layout.

Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015,
https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html

    data/market1501/ or data/Market-1501-v15.09.15/
        bounding_box_train/    12,936 pictures of 751 identities
        query/                  3,368 pictures of 750 identities
        bounding_box_test/     19,732 pictures: 15,913 count (750 identities and distractors, pid 0),
                               3,819 are junk (pid -1)

Any other directory up to three levels below data/, or data/ itself, is recognised by this content.

Names are <pid>_c<camera>s<sequence>_<frame>_<box>.jpg, cameras 1 to 6. Junk is dropped on reading, distractors stay.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from corruption.copies import MANIFEST, PICTURE_SUFFIXES, SETTINGS, SPLITS
from datasets.faults import Faults
from datasets.places import check_inside, find_directory
from datasets.records import MAX_CAMERAS, MAX_PID, report_spellings
from utils.errors import UserError
from utils.listing import list_images
from utils.ranking import JUNK_PID
from utils.structures import Counts, DatasetSplits, ImageRecord

DIRECTORIES = ("market1501", "Market-1501-v15.09.15")
SPLIT_DIRECTORIES = {split: directory for directory, split in SPLITS.items()}
PUBLISHED = {"train": Counts(12936, 751), "query": Counts(3368, 750), "gallery": Counts(15913, 750)}
NUM_CAMERAS, LAST_PID = 6, 1501
FIRST_NAMES = 20  # of a split, by which a data set is recognised


class FileNames(NamedTuple):
    """How pictures are named: `pattern` with groups pid and camera, the whole name; `example` of one; the greatest pid
    and camera, the first being -1 (junk) and 1."""

    pattern: re.Pattern
    example: str
    last_pid: int = MAX_PID
    num_cameras: int = MAX_CAMERAS


FILE_NAMES = FileNames(
    re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+)s\d+_\d+_\d+\.(jpg|png)", re.IGNORECASE | re.ASCII),
    "<pid>_c<camera>s<sequence>_<frame>_<box>.jpg, e.g. 0002_c1s1_000451_03.jpg",
)


def read_market1501(root_dir: str | Path, faults: Faults, *, own_subset: bool = False) -> DatasetSplits:
    """Market-1501 below `root_dir`.

    Args:
        root_dir: directory that holds the data set's own.
        faults: takes up what is wrong with single files.
        own_subset: pids and cameras need not be in the published range.

    Raises:
        UserError: not there, or in part there.
    """
    directory = find_directory(
        root_dir,
        DIRECTORIES,
        tuple(SPLITS),
        title="Market-1501",
        download=f"Download Market-1501-v15.09.15.zip from the data set's page, unpack it into {root_dir}/ (or point "
        "DATASETS.ROOT_DIR to where it is).\nTo try the framework without any download, use the synthetic set: "
        "--config_file configs/Synthetic/cfat.yml",
        fits=lambda place: _may_be_original(place) and has_names(place, FILE_NAMES),
    )
    names = FILE_NAMES if own_subset else FILE_NAMES._replace(last_pid=LAST_PID, num_cameras=NUM_CAMERAS)
    return read_market_layout(
        directory, faults, name="market1501", names=names, published=PUBLISHED, cameras=NUM_CAMERAS
    )


def _may_be_original(directory: Path) -> bool:
    """Whether a directory is no corrupted copy and no synthetic set, unless its name says that this one stands for
    Market-1501."""
    is_synthetic = (directory / MANIFEST).exists() and "market" not in directory.name.lower()
    return not (is_synthetic or (directory / SETTINGS).exists())


def has_names(directory: Path, names: FileNames) -> bool:
    """Whether the images of the splits in `directory` are named so, as far as their first ones tell."""
    looks = [
        [names.pattern.fullmatch(name) is not None for name in islice(_list(directory / folder, Faults()), FIRST_NAMES)]
        for folder in SPLITS
    ]
    return any(map(any, looks)) and all(any(look) for look in looks if look)


def _list(directory: Path, faults: Faults, *, recursive: bool = False) -> Iterator[str]:
    return list_images(directory, faults.add, suffixes=PICTURE_SUFFIXES, recursive=recursive)


def read_market_layout(
    directory: str | Path,
    faults: Faults,
    *,
    name: str,
    names: FileNames = FILE_NAMES,
    published: dict[str, Counts] | None = None,
    cameras: int = 0,
) -> DatasetSplits:
    """Reads a directory in Market-1501's layout; pictures in the order of their names.

    Args:
        directory: holds bounding_box_train/, query/ and bounding_box_test/.
        faults: takes up names that do not parse.
        name: of the data set.
        names: how its pictures are named.
        published, cameras: see DatasetSplits.

    Raises:
        UserError: a split's directory is missing.
    """
    directory = Path(directory)
    check_inside(directory, tuple(SPLITS), title=name)
    spellings = defaultdict(set)
    splits = {
        split: _read_split(directory / folder, names, faults, spellings) for split, folder in SPLIT_DIRECTORIES.items()
    }
    report_spellings(spellings, str(directory))
    return DatasetSplits(
        **splits,
        name=name,
        root=str(directory),
        has_distractors=True,
        published=published or {},
        published_cameras=cameras,
    )


def _read_split(
    directory: Path, names: FileNames, faults: Faults, spellings: dict[int, set[str]]
) -> tuple[ImageRecord, ...]:
    """Records of a split; `spellings` takes up pid -> how names write it."""
    records = []
    names_there = list(_list(directory, faults))
    if not names_there and (below := next(_list(directory, Faults(), recursive=True), None)):
        raise UserError(
            f"{directory}: no picture in it, but {below} below it; expected the pictures in {directory} itself: a "
            "directory level is too much, move them up"
        )
    for relative in names_there:
        path = directory / relative
        match = names.pattern.fullmatch(relative)
        if match is None:
            faults.add(f"{path}: the name does not parse; expected {names.example}. Rename or remove the file")
            continue
        text, pid, camera = match["pid"], int(match["pid"]), int(match["camera"])
        is_junk = text == str(JUNK_PID)
        known = is_junk or (not text.startswith("-") and pid <= names.last_pid)
        if not (known and 1 <= camera <= names.num_cameras):
            faults.add(
                f"{path}: pid {text}, camera {camera}; expected a pid of -1 to {names.last_pid} and a camera of 1 to "
                f"{names.num_cameras}. Rename or remove the file"
            )
        elif not is_junk:
            spellings[pid].add(text)
            records.append(ImageRecord(str(path), pid, camera - 1))
    return tuple(records)
