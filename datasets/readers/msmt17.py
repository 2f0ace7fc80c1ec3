"""MSMT17, in its two published versions.

Wei, Zhang, Gao, Tian: Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018,
https://www.pkuvmc.com/dataset.html

    data/MSMT17_V1/, or data/MSMT17_V2/ (faces masked), or either as data/MSMT17/ or data/msmt17/, or in any
    directory up to three levels below data/ that has this content
        train/ and test/ (V1), or mask_train_v2/ and mask_test_v2/ (V2), with <pid>/<name>.jpg below them
        list_train.txt      30,248 images of 1,041 identities
        list_val.txt         2,373 images of the same identities
        list_query.txt      11,659 images of 3,060 identities
        list_gallery.txt    82,161 images of the same 3,060

A line of a list is `0000/0000_000_01_0303morning_0008_0.jpg 0`: the path below the directory of training or test
images, and the pid; the third field of the name is the camera, 01 to 15. Results of published methods differ by 2 to 4
points between the versions.
"""

import functools
import logging
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.file_errors import FileErrors
from datasets.readers.image_lists import list_files, parse_lines
from datasets.readers.locate import check_inside, content_of, find_by_content, find_directory, holds
from datasets.readers.validation import report_spellings
from utils.errors import UserError
from utils.structures import Counts, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

AUTO = "auto"
DIRECTORIES = {"V1": ("MSMT17_V1", "MSMT17", "msmt17"), "V2": ("MSMT17_V2", "MSMT17", "msmt17")}
IMAGES = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
LIST_TRAIN, LIST_VAL, LIST_QUERY, LIST_GALLERY = (f"list_{name}.txt" for name in ("train", "val", "query", "gallery"))
NUM_TRAIN_PIDS, NUM_TEST_PIDS, NUM_CAMERAS = 1041, 3060, 15
TRAIN, TRAIN_WITHOUT_VAL = Counts(32621, NUM_TRAIN_PIDS), Counts(30248, NUM_TRAIN_PIDS)
QUERY, GALLERY = Counts(11659, NUM_TEST_PIDS), Counts(82161, NUM_TEST_PIDS)
LINE = re.compile(
    r"(?P<path>(?P<directory>\d{1,9})/(?P<file>[^/\\\s_]+_[^/\\\s_]+_(?P<camera>\d{1,9})_[^/\\\s]+))"
    r"\s+(?P<pid>-?\d{1,9})",
    re.ASCII,
)
EXAMPLE = "0000/0000_000_01_0303morning_0008_0.jpg 0"


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    return read_msmt17(root, errors, version=cfg.DATASETS.MSMT17.VERSION, with_val=cfg.DATASETS.MSMT17.WITH_VAL)


def read_msmt17(root: str | Path, errors: FileErrors, *, version: str = AUTO, with_val: bool = True) -> DatasetSplits:
    """Reads MSMT17 below `root`, each split in the order of its paths.

    Args:
        root: directory that holds the data set's own.
        errors: collects lines of the lists that are wrong, or whose image is missing.
        version: V1, V2, or auto, the one that is there.
        with_val: add the validation set to the training set.

    Raises:
        UserError: missing, or incomplete; another version; auto where both exist; a list is not UTF-8.
    """
    train_lists = (LIST_TRAIN, LIST_VAL) if with_val else (LIST_TRAIN,)
    version, directory = _find(Path(root), version, (*train_lists, LIST_QUERY, LIST_GALLERY))
    logger.info("MSMT17: %s, in %s; results on V1 and on V2 do not compare", version, directory)
    train_images, test_images = (directory / name for name in IMAGES[version])
    train = _Lists(train_images, NUM_TRAIN_PIDS - 1, errors)
    test = _Lists(test_images, NUM_TEST_PIDS - 1, errors)
    splits = DatasetSplits(
        train.read(train_lists),
        test.read([LIST_QUERY]),
        test.read([LIST_GALLERY]),
        name="msmt17",
        root=str(directory),
        version=f"MSMT17_{version}",
        common_pids=False,
        published={"train": TRAIN if with_val else TRAIN_WITHOUT_VAL, "query": QUERY, "gallery": GALLERY},
        published_cameras=NUM_CAMERAS,
    )
    for lists in (train, test):
        report_spellings(lists.spellings, str(lists.images))
    return splits


def _find(root: Path, version: str, lists: tuple[str, ...]) -> tuple[str, Path]:
    """The version to read, and its directory."""
    existing: dict[str, Path] = {}
    for known, names in DIRECTORIES.items():
        for place in (root / name for name in names):
            if holds(place, IMAGES[known]):
                existing.setdefault(known, place)
    if not existing or version not in (AUTO, *existing):
        for known, images in IMAGES.items():
            found = find_by_content(root, (*images, *lists), title=f"MSMT17 {known}", name=DIRECTORIES[known][0])
            if found:
                existing.setdefault(known, found)
    listed = " and ".join(f"{known} in {place}" for known, place in existing.items())
    if version == AUTO and len(existing) > 1:
        raise UserError(
            f"DATASETS.MSMT17.VERSION auto: found {listed}, results on which do not compare; choose one: "
            "DATASETS.MSMT17.VERSION V1, or V2"
        )
    if existing and version not in (AUTO, *existing):
        raise UserError(
            f"DATASETS.MSMT17.VERSION {version}: found only {listed}; expected {' and '.join(IMAGES[version])} in "
            f"{root / DIRECTORIES[version][0]}. Download them, or set DATASETS.MSMT17.VERSION to the version found"
        )
    look_for = functools.partial(
        find_directory,
        root,
        title="MSMT17",
        download="Request MSMT17 at https://www.pkuvmc.com/dataset.html and unpack MSMT17_V1 or MSMT17_V2 into "
        f"{root}/ (or point DATASETS.ROOT_DIR to where it is)",
    )
    if version == AUTO and not existing:
        directory = look_for(tuple(dict.fromkeys(sum(DIRECTORIES.values(), ()))), lists)
        expected = ", nor ".join(f"{' and '.join(images)} ({known})" for known, images in IMAGES.items())
        raise UserError(
            f"MSMT17: {directory}: neither {expected} where they belong; {directory} holds {content_of(directory)}. "
            "Unpack the archive again, or rename the directories; V1 belongs in MSMT17_V1, V2 in MSMT17_V2"
        )
    if version == AUTO:
        (version,) = existing
    inside = (*IMAGES[version], *lists)
    if version not in existing:
        return version, look_for(DIRECTORIES[version], inside)
    check_inside(existing[version], inside, title="MSMT17")
    return version, existing[version]


class _Lists:
    """Reads the lists of the images in one directory, which name an image once in all.

    Args:
        images: directory of the images, beside the lists.
        last_pid: the largest pid; the smallest is 0.
        errors: collects wrong lines.

    Attributes:
        spellings: pid -> how the lists write it.
    """

    def __init__(self, images: Path, last_pid: int, errors: FileErrors) -> None:
        self.images, self.last_pid, self.errors = images, last_pid, errors
        self.spellings: dict[int, set[str]] = defaultdict(set)
        self.listed_in: dict[str, str] = {}  # path of an image -> its first line
        self.files = functools.cache(lambda directory: list_files(images / directory, errors))

    def read(self, names: Sequence[str]) -> tuple[ImageRecord, ...]:
        """Records of the images in the lists `names`, in the order of their paths."""
        lists = [self.images.parent / name for name in names]
        lines = (line for path in lists for line in parse_lines(path, LINE, EXAMPLE, self.errors))
        records = (self._read_line(where, line) for where, line in lines)
        return tuple(sorted((record for record in records if record), key=lambda record: record.path))

    def _read_line(self, where: str, line: re.Match) -> ImageRecord | None:
        path, pid, camera = line["path"], int(line["pid"]), int(line["camera"])
        if not (int(line["directory"]) == pid <= self.last_pid and 1 <= camera <= NUM_CAMERAS):
            self.errors.add(
                f"{where}: {path}, pid {pid}, camera {camera}; expected a pid that is the directory's, 0 to "
                f"{self.last_pid}, and a camera of 1 to {NUM_CAMERAS}. Correct or remove the line"
            )
        elif self.listed_in.setdefault(path, where) is not where:
            self.errors.add(f"{where}: {path} a second time, as in {self.listed_in[path]}; remove one of the lines")
        elif line["file"] not in self.files(line["directory"]):
            self.errors.add(
                f"{where}: image {self.images / path} does not exist; unpack the archive again, or remove the line"
            )
        else:
            self.spellings[pid].add(line["directory"])
            return ImageRecord(f"{self.images}/{path}", pid, camera - 1)
        return None
