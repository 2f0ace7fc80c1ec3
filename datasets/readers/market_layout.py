"""Reads directories in Market-1501's layout, which many data sets, the synthetic set and corrupted copies share.

    bounding_box_train/, query/, bounding_box_test/    images named <pid>_c<camera>...
    image_train/, image_query/, image_test/            the same in VeRi-776

Junk (pid -1) is dropped on reading, distractors (pid 0) stay.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import check_inside
from datasets.readers.validation import MAX_CAMERAS, MAX_PID, report_spellings
from utils.errors import UserError
from utils.image_listing import list_images
from utils.structures import JUNK_PID, SPLIT_NAMES, Counts, DatasetSplits, ImageRecord

SPLIT_DIRECTORIES = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
VERI_DIRECTORIES = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}
FIRST_NAMES = 20  # of a split, by which a data set is recognised


class FileNames(NamedTuple):
    """How images are named.

    `pattern` has groups pid and camera and matches the whole name, `example` is for messages. pids go from -1 (junk) to
    `last_pid`, cameras from 1 to `num_cameras`.
    """

    pattern: re.Pattern
    example: str
    last_pid: int = MAX_PID
    num_cameras: int = MAX_CAMERAS


FILE_NAMES = FileNames(
    re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+)s\d+_\d+_\d+\.(jpg|png)", re.IGNORECASE | re.ASCII),
    "<pid>_c<camera>s<sequence>_<frame>_<box>.jpg, e.g. 0002_c1s1_000451_03.jpg",
)


def read_market_layout(
    directory: str | Path,
    errors: FileErrors,
    *,
    name: str,
    names: FileNames = FILE_NAMES,
    directories: dict[str, str] = SPLIT_DIRECTORIES,
    has_distractors: bool = True,
    published: dict[str, Counts] | None = None,
    cameras: int = 0,
) -> DatasetSplits:
    """Reads a directory in Market-1501's layout; images in the order of their names.

    Args:
        directory: holds the directories of the splits.
        errors: collects names that do not parse.
        name: of the data set.
        names: how its images are named.
        directories: of train, query and gallery.
        has_distractors, published, cameras: see DatasetSplits.

    Raises:
        UserError: a split's directory is missing.
    """
    directory = Path(directory)
    check_inside(directory, tuple(directories.values()), title=name)
    spellings: dict[int, set[str]] = defaultdict(set)
    train, query, gallery = (
        tuple(read_images(directory / directories[split], names, errors, spellings)) for split in SPLIT_NAMES
    )
    report_spellings(spellings, str(directory))
    return DatasetSplits(
        train,
        query,
        gallery,
        name=name,
        root=str(directory),
        has_distractors=has_distractors,
        published=published or {},
        published_cameras=cameras,
    )


def has_names(directory: Path, names: FileNames, directories: dict[str, str] = SPLIT_DIRECTORIES) -> bool:
    """Whether the first images of each split in `directory` are named so."""
    matches = [
        [names.pattern.fullmatch(name) is not None for name in islice(_list(directory / folder), FIRST_NAMES)]
        for folder in directories.values()
    ]
    return any(map(any, matches)) and all(any(split) for split in matches if split)


def _list(directory: Path, errors: FileErrors | None = None, *, recursive: bool = False) -> Iterator[str]:
    return list_images(directory, (errors or FileErrors()).add, suffixes=IMAGE_SUFFIXES, recursive=recursive)


def read_images(
    directory: Path, names: FileNames, errors: FileErrors, spellings: dict[int, set[str]]
) -> Iterator[ImageRecord]:
    """Records of the images in one directory; adds to `spellings`: pid -> how names write it."""
    files = list(_list(directory, errors))
    if not files and (below := next(_list(directory, recursive=True), None)):
        raise UserError(
            f"{directory}: no image in it, but {below} below it; expected the images in {directory} itself: move them "
            "up one level"
        )
    for file in files:
        path = directory / file
        match = names.pattern.fullmatch(file)
        if match is None:
            errors.add(f"{path}: the name does not parse; expected {names.example}. Rename or remove the file")
            continue
        text, pid, camera = match["pid"], int(match["pid"]), int(match["camera"])
        is_junk = text == str(JUNK_PID)
        is_known = is_junk or (not text.startswith("-") and pid <= names.last_pid)
        if not (is_known and 1 <= camera <= names.num_cameras):
            errors.add(
                f"{path}: pid {text}, camera {camera}; expected a pid of -1 to {names.last_pid} and a camera of 1 to "
                f"{names.num_cameras}. Rename or remove the file"
            )
        elif not is_junk:
            spellings[pid].add(text)
            yield ImageRecord(str(path), pid, camera - 1)
