"""MSMT17, in its two published versions.

Wei, Zhang, Gao, Tian: Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018,
https://www.pkuvmc.com/dataset.html

    data/MSMT17_V1/, or data/MSMT17_V2/ (faces masked), or either as data/MSMT17/ or data/msmt17/, or in any
    directory up to three levels below data/ that has this content
        train/ and test/ (V1), or mask_train_v2/ and mask_test_v2/ (V2), with <pid>/<name>.jpg below them
        list_train.txt      30,248 pictures of 1,041 identities
        list_val.txt         2,373 pictures of the same identities
        list_query.txt      11,659 pictures of 3,060 identities
        list_gallery.txt    82,161 pictures of the same 3,060

A line of a list is `0000/0000_000_01_0303morning_0008_0.jpg 0`: the path below the directory of training or test
pictures, and the pid; the third field of the name is the camera, 01 to 15. Results of published methods differ by 2 to
4 points between the versions.
"""

import functools
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import check_inside, content_of, find_by_content, find_directory, holds
from datasets.readers.validation import report_spellings
from utils.errors import UserError
from utils.files import MIB, read_text
from utils.structures import Counts, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

AUTO = "auto"
DIRECTORIES = {"V1": ("MSMT17_V1", "MSMT17", "msmt17"), "V2": ("MSMT17_V2", "MSMT17", "msmt17")}
PICTURES = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
LIST_TRAIN, LIST_VAL, LIST_QUERY, LIST_GALLERY = (f"list_{name}.txt" for name in ("train", "val", "query", "gallery"))
TRAIN, TRAIN_WITHOUT_VAL = Counts(32621, 1041), Counts(30248, 1041)
QUERY, GALLERY = Counts(11659, 3060), Counts(82161, 3060)
NUM_CAMERAS = 15
MAX_LIST = 64 * MIB  # the longest published one has 4 MB
LINE = re.compile(
    r"(?P<path>(?P<directory>\d{1,9})/(?P<file>[^/\\\s_]+_[^/\\\s_]+_(?P<camera>\d{1,9})_[^/\\\s]+))"
    r"\s+(?P<pid>-?\d{1,9})",
    re.ASCII,
)
EXAMPLE = "0000/0000_000_01_0303morning_0008_0.jpg 0"


def read_msmt17(root_dir: str | Path, faults: FileErrors, *, version: str = AUTO, with_val: bool = True) -> DatasetSplits:
    """MSMT17 below `root_dir`, each split in the order of its paths.

    Args:
        root_dir: directory that holds the data set's own.
        faults: takes up lines of the lists that are wrong, or whose picture is missing.
        version: V1, V2, or auto, the one that is there.
        with_val: train with the validation set too.

    Raises:
        UserError: not there, or in part there; another version; auto where both are there; a list is no UTF-8.
    """
    train_lists = (LIST_TRAIN, LIST_VAL) if with_val else (LIST_TRAIN,)
    version, directory = _find(Path(root_dir), version, (*train_lists, LIST_QUERY, LIST_GALLERY))
    logger.info("MSMT17: %s, in %s; results on V1 and on V2 do not compare", version, directory)
    train_pictures, test_pictures = (directory / name for name in PICTURES[version])
    test_lists = {"query": (LIST_QUERY,), "gallery": (LIST_GALLERY,)}
    train = _read_lists(train_pictures, {"train": train_lists}, TRAIN.identities - 1, faults)
    test = _read_lists(test_pictures, test_lists, QUERY.identities - 1, faults)
    return DatasetSplits(
        **train,
        **test,
        name="msmt17",
        root=str(directory),
        version=f"MSMT17_{version}",
        common_pids=False,
        published={"train": TRAIN if with_val else TRAIN_WITHOUT_VAL, "query": QUERY, "gallery": GALLERY},
        published_cameras=NUM_CAMERAS,
    )


def _find(root: Path, version: str, lists: tuple[str, ...]) -> tuple[str, Path]:
    """The version to read, and its directory."""
    there = {}
    for known, names in DIRECTORIES.items():
        for place in (root / name for name in names):
            if holds(place, PICTURES[known]):
                there.setdefault(known, place)
    if not there or version not in (AUTO, *there):
        for known, pictures in PICTURES.items():
            place = find_by_content(root, (*pictures, *lists), title=f"MSMT17 {known}", name=DIRECTORIES[known][0])
            if place:
                there.setdefault(known, place)
    found = " and ".join(f"{known} in {place}" for known, place in there.items())
    if version == AUTO and len(there) > 1:
        raise UserError(
            f"DATASETS.MSMT17.VERSION auto: found {found}, results on which do not compare; choose one: "
            "DATASETS.MSMT17.VERSION V1, or V2"
        )
    if there and version not in (AUTO, *there):
        raise UserError(
            f"DATASETS.MSMT17.VERSION {version}: found only {found}; expected {' and '.join(PICTURES[version])} in "
            f"{root / DIRECTORIES[version][0]}. Fetch them, or set DATASETS.MSMT17.VERSION to what is there"
        )
    look_for = functools.partial(
        find_directory,
        root,
        title="MSMT17",
        download="Request MSMT17 at https://www.pkuvmc.com/dataset.html and unpack MSMT17_V1 or MSMT17_V2 into "
        f"{root}/ (or point DATASETS.ROOT_DIR to where it is)",
    )
    if version == AUTO and not there:
        directory = look_for(tuple(dict.fromkeys(sum(DIRECTORIES.values(), ()))), lists)
        expected = ", nor ".join(f"{' and '.join(pictures)} ({known})" for known, pictures in PICTURES.items())
        raise UserError(
            f"MSMT17: {directory}: neither {expected} where they belong; {directory} holds {content_of(directory)}. "
            "Unpack the archive again, or rename what bears another name; V1 belongs in MSMT17_V1, V2 in MSMT17_V2"
        )
    if version == AUTO:
        (version,) = there
    inside = (*PICTURES[version], *lists)
    if version not in there:
        return version, look_for(DIRECTORIES[version], inside)
    check_inside(there[version], inside, title="MSMT17")
    return version, there[version]


def _read_lists(
    pictures: Path, lists: dict[str, tuple[str, ...]], last_pid: int, faults: FileErrors
) -> dict[str, tuple[ImageRecord, ...]]:
    """Split -> records, in the order of their paths.

    Args:
        pictures: directory of the pictures, beside the lists.
        lists: split -> its lists, which name a picture once in all.
        last_pid: the greatest pid, the first being 0.
        faults: takes up wrong lines.
    """
    files = functools.cache(lambda directory: _list_files(pictures / directory, faults))
    first: dict[str, str] = {}  # picture -> where it stood first
    spellings = defaultdict(set)
    splits = {}
    for split, names in lists.items():
        records = []
        for where, line in (line for name in names for line in _parse(pictures.parent / name, faults)):
            path, pid, camera = line["path"], int(line["pid"]), int(line["camera"])
            if not (int(line["directory"]) == pid <= last_pid and 1 <= camera <= NUM_CAMERAS):
                faults.add(
                    f"{where}: {path}, pid {pid}, camera {camera}; expected a pid that is the directory's, 0 to "
                    f"{last_pid}, and a camera of 1 to {NUM_CAMERAS}. Correct or remove the line"
                )
            elif first.setdefault(path, where) is not where:
                faults.add(f"{where}: {path} a second time, as in {first[path]}; remove one of the lines")
            elif line["file"] not in files(line["directory"]):
                faults.add(
                    f"{where}: picture {pictures / path} does not exist; unpack the archive again, or remove the line"
                )
            else:
                spellings[pid].add(line["directory"])
                records.append(ImageRecord(f"{pictures}/{path}", pid, camera - 1))
        splits[split] = tuple(sorted(records, key=lambda record: record.path))
    report_spellings(spellings, str(pictures))
    return splits


def _parse(path: Path, faults: FileErrors) -> Iterator[tuple[str, re.Match]]:
    """The lines of a list: where each stands, and its match with LINE."""
    for number, line in enumerate(_read_list(path).split("\n"), start=1):
        if line := line.strip():
            where = f"{path}, line {number}"
            if match := LINE.fullmatch(line):
                yield where, match
            else:
                faults.add(f"{where}: '{line[:200]}' does not parse; expected a line like {EXAMPLE}")


def _list_files(directory: Path, faults: FileErrors) -> frozenset[str]:
    """Names of the files in a directory: one look at it in place of one per line."""
    try:
        # Only links cost a look of their own.
        return frozenset(
            entry.name
            for entry in os.scandir(directory)
            if entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
        )
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        faults.add(f"{directory}: cannot be read ({error.strerror}). Mend its permissions, or unpack the archive again")
        return frozenset()


def _read_list(path: Path) -> str:
    try:
        return read_text(path, max_bytes=MAX_LIST)
    except UserError as error:
        raise UserError(f"{error}; expected lines like {EXAMPLE}. Unpack the archive again") from error
