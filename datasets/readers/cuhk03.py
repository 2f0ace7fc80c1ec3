"""CUHK03.

Li, Zhao, Xiao, Wang, DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR 2014; the new
protocol: Zhong, Zheng, Cao, Li, Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017,
https://github.com/zhunzhong07/person-re-ranking

    data/cuhk03/, data/cuhk03/cuhk03_release/ or data/cuhk03_release/
        cuhk-03.mat            MATLAB 7.3, that is HDF5: the images, and the 20 classic splits
        cuhk03_new_protocol_config_{detected,labeled}.mat
    data/cuhk03/images_{detected,labeled}/
                               the images as PNG and contents.json: written on first use, after which cuhk-03.mat is no
                               longer needed

or, for the new protocol, the folders that Zhong's repository unpacks, in Market-1501's layout:

    data/cuhk03-np/{detected,labeled}/ or data/cuhk03/
        bounding_box_train/, query/, bounding_box_test/

Either is recognised by its content in any other directory up to three levels below data/.

New protocol: 767 training and 700 test identities; 7,365 detected or 7,368 labeled training images, 1,400 queries,
5,332 or 5,328 gallery images. Classic: 20 splits into 1,367 and 100 identities, in which every test image is query and
gallery; 14,097 detected or 14,096 labeled images in all. Two cameras; images 1 to 5 of an identity are the first one's.
"""

import logging
import re
from dataclasses import replace
from pathlib import Path

from yacs.config import CfgNode

from datasets.copy_format import SETTINGS
from datasets.made_sets import place_to_make
from datasets.readers.cuhk03_images import CONTENTS, MAT, extract_images, load_contents, parse_name
from datasets.readers.cuhk03_mat import URL, find_protocol, load_protocol
from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import check_inside, find_by_content, find_directory
from datasets.readers.market_layout import SPLIT_DIRECTORIES, FileNames, has_names, read_market_layout
from utils.errors import UserError
from utils.image_listing import list_images
from utils.structures import Counts, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

FOLDERS = ("cuhk03",)
FILE_NAMES = FileNames(
    re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+).*\.(jpg|png)", re.IGNORECASE | re.ASCII),
    "<pid>_c<camera>_<number>.png, e.g. 0003_c1_21.png",
)
# To recognise the directories: DukeMTMC-reID's names (0005_c2_f0046985.jpg) match FILE_NAMES too.
NP = FILE_NAMES._replace(pattern=re.compile(r"\d+_c[12]_\d+\.(jpg|png)", re.IGNORECASE | re.ASCII))
INSIDE = tuple(SPLIT_DIRECTORIES.values())
PLACES = ("cuhk03", "cuhk03/cuhk03_release", "cuhk03_release")
NUM_CAMERAS = 2
PUBLISHED = {
    "detected": {"train": Counts(7365, 767), "query": Counts(1400, 700), "gallery": Counts(5332, 700)},
    "labeled": {"train": Counts(7368, 767), "query": Counts(1400, 700), "gallery": Counts(5328, 700)},
}
PUBLISHED_CLASSIC = {"train": Counts(None, 1367), "query": Counts(None, 100), "gallery": Counts(None, 100)}


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    cuhk03 = cfg.DATASETS.CUHK03
    return read_cuhk03(root, errors, boxes=cuhk03.BOXES, classic_split=cuhk03.CLASSIC_SPLIT)


def read_cuhk03(
    root: str | Path, errors: FileErrors, *, boxes: str = "detected", classic_split: int = 0
) -> DatasetSplits:
    """Reads CUHK03 below `root`.

    Args:
        root: directory that holds the data set's own.
        errors: collects errors of single images.
        boxes: "detected" or "labeled".
        classic_split: 0: the new protocol, from its folders where they exist; 1 to 20: one of the classic splits.

    Raises:
        UserError: the data set is missing or damaged, or the images cannot be extracted.
    """
    root = Path(root)
    if root.resolve().name == FOLDERS[0] and ((root / MAT).is_file() or (root / f"images_{boxes}").is_dir()):
        root = root.resolve().parent  # the data set's own directory was given
    folders = None if classic_split else _find_folders(root, boxes)
    if folders:
        splits = read_market_layout(
            folders, errors, name="cuhk03", names=FILE_NAMES, published=PUBLISHED[boxes], cameras=NUM_CAMERAS
        )
        logger.info("CUHK03: reading the folders in %s, expected to hold the %s boxes", folders, boxes)
        return replace(splits, has_distractors=False, version=f"{boxes}, folders")
    directory = root / "cuhk03" / f"images_{boxes}"
    mat = None if directory.is_dir() else _find_mat(root, boxes, classic_split)
    protocol = None if classic_split else find_protocol(root, PLACES, boxes)
    named = load_protocol(protocol) if protocol else {}  # checked before the extraction, which takes minutes
    if mat:
        directory = place_to_make(directory)
    if mat and not directory.is_dir():
        extract_images(mat, boxes, directory)
    if protocol:
        version, published = f"{boxes}, new protocol", PUBLISHED[boxes]
    else:
        version, published = f"{boxes}, classic split {classic_split}", PUBLISHED_CLASSIC
        named = _load_classic(directory, classic_split, boxes, errors)
    records = _make_records(directory, named, protocol or directory / CONTENTS, errors)
    splits = DatasetSplits(
        records["train"],
        records["query" if protocol else "test"],
        records["gallery" if protocol else "test"],
        name="cuhk03",
        root=str(directory),
        version=version,
        published=published,
        published_cameras=NUM_CAMERAS,
    )
    if classic_split:
        logger.info("%s: the published CMC is TEST.CMC single_gallery_shot, a mean over the splits", splits.title)
    return splits


def _find_folders(root: Path, boxes: str) -> Path | None:
    """The directory with the new protocol's folders; cuhk03-np first, whose names say which boxes they hold.

    Where neither they nor the release are in their places, a directory named for the boxes, or else any other, is
    recognised by its content.
    """
    candidates = (root / "cuhk03-np" / boxes, *(root / name for name in FOLDERS))
    found = next((place for place in candidates if any((place / folder).is_dir() for folder in INSIDE)), None)
    released = (root / "cuhk03" / f"images_{boxes}", *(root / place / MAT for place in PLACES))
    if found or any(path.exists() for path in released):
        return found

    def fits(place: Path, *, named_for_boxes: bool) -> bool:
        named = place.name == boxes if named_for_boxes else place.name not in PUBLISHED
        return named and not (place / SETTINGS).exists() and has_names(place, NP)

    def search(named_for_boxes: bool) -> Path | None:
        return find_by_content(
            root,
            INSIDE,
            title=f"CUHK03 {boxes}",
            name=f"cuhk03-np/{boxes}",
            fits=lambda place: fits(place, named_for_boxes=named_for_boxes),
        )

    return search(True) or search(False)


def _find_mat(root: Path, boxes: str, classic_split: int) -> Path:
    if classic_split:
        expected = (
            f"DATASETS.CUHK03.CLASSIC_SPLIT {classic_split} needs {MAT} in {root / 'cuhk03'}/: ready-made folders hold "
            "the new protocol alone, which is CLASSIC_SPLIT 0"
        )
    else:
        expected = (
            f"CUHK03 is read from {root / 'cuhk03' / MAT} (cuhk03_release.zip, which its authors give on request) with "
            f"cuhk03_new_protocol_config_{boxes}.mat beside it ({URL}), or from "
            f"{root / 'cuhk03-np' / boxes}/ with {', '.join(INSIDE)} (cuhk03-np.zip, from the same page)"
        )
    found = any((root / place / MAT).is_file() for place in PLACES)
    near = (root.resolve(), *root.glob("*"), *root.glob("*/*"))
    try:
        if not found and not classic_split and any(path.name.lower().startswith("cuhk03-np") for path in near):
            directory = find_directory(root, ("cuhk03-np",), (boxes,), title="CUHK03", download="")
            check_inside(directory / boxes, INSIDE, title="CUHK03")
        return find_directory(root, PLACES, (MAT,), title="CUHK03", download="") / MAT
    except UserError as error:
        raise UserError(f"{error}\n{expected}") from None


def _load_classic(
    directory: Path, classic_split: int, boxes: str, errors: FileErrors
) -> dict[str, list[tuple[str, int]]]:
    """(file name, pid) of the images in "train" and "test" of a classic split; pids count from 1."""
    contents = load_contents(directory)
    if not 1 <= classic_split <= len(contents.testsets):
        raise UserError(
            f"DATASETS.CUHK03.CLASSIC_SPLIT {classic_split}: expected 0 or 1 to {len(contents.testsets)}, the splits "
            f"of {MAT}"
        )
    identities = [
        (pair, person) for pair, size in enumerate(contents.num_identities, 1) for person in range(1, size + 1)
    ]
    pid_of = {identity: pid for pid, identity in enumerate(identities, 1)}
    tested = set(contents.testsets[classic_split - 1])
    named: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for name in contents.images:
        identity = parse_name(name)[:2]
        if identity not in pid_of:
            raise UserError(
                f"{directory / CONTENTS}: {name} is of a person beyond the {contents.num_identities} of the camera "
                f"pairs. Rename or delete {directory}: it is extracted again from {MAT}"
            )
        named["test" if identity in tested else "train"].append((name, pid_of[identity]))
    without = sorted(pid_of.keys() - {parse_name(name)[:2] for name in contents.images})
    for pair, person in without:
        errors.add(
            f"{directory}: {MAT} has no {boxes} image of person {person} of camera pair {pair}; expected one to ten. "
            f"Download {MAT} again and delete the directory: it is extracted again"
        )
    return named


def _make_records(
    directory: Path, named: dict[str, list[tuple[str, int]]], source: Path, errors: FileErrors
) -> dict[str, tuple[ImageRecord, ...]]:
    """Records of the (file name, pid) in each list of `named`; those without a file are errors."""
    existing = set(list_images(directory, errors.add, suffixes=(".png",), recursive=False))
    records: dict[str, tuple[ImageRecord, ...]] = {}
    for split, images in named.items():
        for name, _ in images:
            if name not in existing:
                errors.add(
                    f"{directory / name}: missing, named by {source}. Download {MAT} into {directory.parent} unless it "
                    f"is there, and rename {directory}: the images are extracted again"
                )
        records[split] = tuple(
            ImageRecord(str(directory / name), pid, parse_name(name).view - 1)
            for name, pid in images
            if name in existing
        )
    return records
