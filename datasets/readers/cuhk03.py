"""CUHK03.

Li, Zhao, Xiao, Wang, DeepReID: Deep Filter Pairing Neural Network for Person Re-identification, CVPR 2014; the new
protocol: Zhong, Zheng, Cao, Li, Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017,
https://github.com/zhunzhong07/person-re-ranking

    data/cuhk03/, data/cuhk03/cuhk03_release/ or data/cuhk03_release/
        cuhk-03.mat            MATLAB 7.3, that is HDF5: the pictures, and the 20 classic splits
        cuhk03_new_protocol_config_{detected,labeled}.mat
    data/cuhk03/images_{detected,labeled}/
                               the pictures as PNG and contents.json: written on first use, after which cuhk-03.mat is
                               not needed any more

or, for the new protocol, the folders that Zhong's repository unpacks, in Market-1501's layout:

    data/cuhk03-np/{detected,labeled}/ or data/cuhk03/
        bounding_box_train/, query/, bounding_box_test/

Either is recognised by its content in any other directory up to three levels below data/.

New protocol: 767 identities train, 700 test; 7,365 detected or 7,368 labeled pictures train, 1,400 are queries, 5,332
or 5,328 gallery. Classic: 20 splits of 1,367 and 100 identities, in which every test picture is query and gallery;
14,097 detected or 14,096 labeled pictures in all. Two cameras; pictures 1 to 5 of a person are the first one's.
"""

import json
import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from datasets.copy_format import SETTINGS, SPLITS
from datasets.readers.cuhk03_hdf5 import MatFile
from datasets.readers.cuhk03_mat import PICTURE_NAME, URL, find_protocol, load_protocol
from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import check_inside, find_by_content, find_directory
from datasets.readers.market1501 import FileNames, has_names, read_market_layout
from utils.errors import UserError
from utils.files import MIB
from utils.json_files import read_json_object
from utils.listing import list_images
from utils.locks import lock
from utils.structures import Counts, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

FOLDERS = ("cuhk03",)
FILE_NAMES = FileNames(
    re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+).*\.(jpg|png)", re.IGNORECASE | re.ASCII),
    "<pid>_c<camera>_<number>.png, e.g. 0003_c1_21.png",
)
# By which the directories are recognised: DukeMTMC-reID's names (0005_c2_f0046985.jpg) go with FILE_NAMES too.
NP = FILE_NAMES._replace(pattern=re.compile(r"\d+_c[12]_\d+\.(jpg|png)", re.IGNORECASE | re.ASCII))
PLACES = ("cuhk03", "cuhk03/cuhk03_release", "cuhk03_release")
MAT, CONTENTS = "cuhk-03.mat", "contents.json"
PICTURES_PER_PERSON, PICTURES_PER_VIEW = 10, 5
NUM_CAMERAS = 2
MAX_CONTENTS, MAX_PEOPLE = 64 * MIB, 10_000  # of contents.json; in a camera pair: the release has at most 843
PUBLISHED = {
    "detected": {"train": Counts(7365, 767), "query": Counts(1400, 700), "gallery": Counts(5332, 700)},
    "labeled": {"train": Counts(7368, 767), "query": Counts(1400, 700), "gallery": Counts(5328, 700)},
}
PUBLISHED_CLASSIC = {"train": Counts(None, 1367), "query": Counts(None, 100), "gallery": Counts(None, 100)}


def read_cuhk03(
    root_dir: str | Path, faults: FileErrors, *, boxes: str = "detected", classic_split: int = 0
) -> DatasetSplits:
    """CUHK03 below `root_dir`.

    Args:
        root_dir: directory that holds the data set's own.
        faults: takes up what is wrong with single pictures.
        boxes: "detected" or "labeled".
        classic_split: 0: the new protocol, from ready-made folders where they are; 1 to 20: one of the classic splits.

    Raises:
        UserError: not there, damaged, or the pictures cannot be extracted.
    """
    root = Path(root_dir)
    if root.resolve().name == FOLDERS[0] and ((root / MAT).is_file() or (root / f"images_{boxes}").is_dir()):
        root = root.resolve().parent  # the data set's own directory was given
    folders = _find_folders(root, boxes, by_content=not classic_split)
    if folders and not classic_split:
        splits = read_market_layout(
            folders, faults, name="cuhk03", names=FILE_NAMES, published=PUBLISHED[boxes], cameras=NUM_CAMERAS
        )
        logger.info("CUHK03: reading the folders in %s, expected to hold the %s boxes", folders, boxes)
        return replace(splits, has_distractors=False, version=f"{boxes}, folders")
    directory = root / "cuhk03" / f"images_{boxes}"
    mat = None if directory.is_dir() else _find_mat(root, boxes, classic_split)
    if classic_split:
        if mat:
            _extract(mat, boxes, directory)
        return _read_classic(directory, classic_split, boxes, faults)
    protocol = find_protocol(root, PLACES, boxes)
    named = load_protocol(protocol)  # before the extraction, which takes its time
    if mat:
        _extract(mat, boxes, directory)
    return DatasetSplits(
        **_find_pictures(directory, named, protocol, faults),
        name="cuhk03",
        root=str(directory),
        version=f"{boxes}, new protocol",
        published=PUBLISHED[boxes],
        published_cameras=NUM_CAMERAS,
    )


def _find_folders(root: Path, boxes: str, *, by_content: bool) -> Path | None:
    """The directory with ready-made folders; cuhk03-np first, whose names say which boxes they hold.

    Where neither they nor the release are in their places, any that is named for the boxes, or else any other, is
    recognised by its content.
    """
    candidates = (root / "cuhk03-np" / boxes, *(root / name for name in FOLDERS))
    place = next((place for place in candidates if any((place / folder).is_dir() for folder in SPLITS)), None)
    released = (root / "cuhk03" / f"images_{boxes}", *(root / place / MAT for place in PLACES))
    if place or not by_content or any(path.exists() for path in released):
        return place
    for fits in (lambda name: name == boxes, lambda name: name not in PUBLISHED):
        place = find_by_content(
            root,
            tuple(SPLITS),
            title=f"CUHK03 {boxes}",
            name=f"cuhk03-np/{boxes}",
            fits=lambda place, fits=fits: fits(place.name) and not (place / SETTINGS).exists() and has_names(place, NP),
        )
        if place:
            return place
    return None


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
            f"{root / 'cuhk03-np' / boxes}/ with {', '.join(SPLITS)} (cuhk03-np.zip, from the same page)"
        )
    found = any((root / place / MAT).is_file() for place in PLACES)
    near = (root.resolve(), *root.glob("*"), *root.glob("*/*"))
    try:
        if not found and not classic_split and any(path.name.lower().startswith("cuhk03-np") for path in near):
            check_inside(
                find_directory(root, ("cuhk03-np",), (boxes,), title="CUHK03", download="") / boxes,
                tuple(SPLITS),
                title="CUHK03",
            )
        return find_directory(root, PLACES, (MAT,), title="CUHK03", download="") / MAT
    except UserError as error:
        raise UserError(f"{error}\n{expected}") from None


def _read_classic(directory: Path, classic_split: int, boxes: str, faults: FileErrors) -> DatasetSplits:
    contents = _load_contents(directory)
    people = [(pair, person) for pair, size in enumerate(contents["people"], 1) for person in range(1, size + 1)]
    testsets = contents["testsets"]
    if not 1 <= classic_split <= len(testsets):
        raise UserError(
            f"DATASETS.CUHK03.CLASSIC_SPLIT {classic_split}: expected 0 or 1 to {len(testsets)}, the splits of {MAT}"
        )
    tested = {(pair, person) for pair, person in testsets[classic_split - 1]}
    named: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    pid_of = {person: pid for pid, person in enumerate(people, 1)}
    seen = set()
    for name in contents["pictures"]:
        match = PICTURE_NAME.fullmatch(name)
        person = int(match["pair"]), int(match["person"])
        if person not in pid_of:
            raise UserError(
                f"{directory / CONTENTS}: {name} is of a person beyond the {contents['people']} of the camera pairs. "
                f"Rename or delete {directory}: it is made anew from {MAT}"
            )
        seen.add(person)
        named["test" if person in tested else "train"].append((name, pid_of[person]))
    for pair, person in people:
        if (pair, person) not in seen:
            faults.add(
                f"{directory}: {MAT} has no {boxes} picture of person {person} of camera pair {pair}; expected one to "
                f"ten. Fetch {MAT} again and delete the directory: it is made anew"
            )
    found = _find_pictures(directory, named, directory / CONTENTS, faults)
    splits = DatasetSplits(
        train=found["train"],
        query=found["test"],
        gallery=found["test"],
        name="cuhk03",
        root=str(directory),
        version=f"{boxes}, classic split {classic_split}",
        published=PUBLISHED_CLASSIC,
        published_cameras=NUM_CAMERAS,
    )
    logger.info("%s: its published CMC is that of TEST.CMC single_gallery_shot, a mean over the splits", splits.title)
    return splits


def _load_contents(directory: Path) -> dict:
    """The content of contents.json: `people` in each camera pair, names of `pictures`, and `testsets`, each a list of
    (camera pair, person) from 1."""
    path = directory / CONTENTS
    try:
        contents = read_json_object(path, max_bytes=MAX_CONTENTS)
        people, pictures, testsets = (_list_of(contents, key) for key in ("people", "pictures", "testsets"))
        _check(people, lambda size: _is_number(size) and size <= MAX_PEOPLE, "numbers of people")
        _check(pictures, lambda name: isinstance(name, str) and PICTURE_NAME.fullmatch(name), "names of pictures")
        _check(testsets, lambda testset: isinstance(testset, list) and all(map(_is_pair, testset)), "lists of pairs")
    except UserError as error:
        raise UserError(
            f"{directory}: its {CONTENTS}, with the classic splits, cannot be read ({error}); "
            f"another program writes none. Rename or delete the directory: it is made anew from {MAT}"
        ) from error
    return {"people": people, "pictures": pictures, "testsets": testsets}


def _list_of(contents: dict, key: str) -> list:
    if not isinstance(contents.get(key), list):
        raise UserError(f"no list {key!r}")
    return contents[key]


def _check(values: list, is_right: Callable, expected: str) -> None:
    wrong = next((value for value in values if not is_right(value)), None)
    if wrong is not None or None in values:
        raise UserError(f"{str(wrong)[:200]!r}, expected {expected}")


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _find_pictures(
    directory: Path, named: dict[str, list[tuple[str, int]]], source: Path, faults: FileErrors
) -> dict[str, tuple[ImageRecord, ...]]:
    """Records of the (file name, pid) in each list of `named`; those without a file are faults."""
    there = set(list_images(directory, faults.add, suffixes=(".png",), recursive=False))

    def records(pictures: Iterable[tuple[str, int]]) -> Iterable[ImageRecord]:
        for name, pid in pictures:
            if name in there:
                yield ImageRecord(str(directory / name), pid, int(PICTURE_NAME.fullmatch(name)["view"]) - 1)
            else:
                faults.add(
                    f"{directory / name}: missing, named by {source}. Fetch {MAT} into {directory.parent} unless it is "
                    f"there, and rename {directory}: the pictures are extracted anew"
                )

    return {split: tuple(records(pictures)) for split, pictures in named.items()}


def _extract(mat: Path, boxes: str, directory: Path) -> None:
    """Writes the pictures of `mat` beside `directory` and renames them to it once they are whole."""
    building = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}.partial")
    try:
        directory.parent.mkdir(exist_ok=True)
        other = f"another process that extracts the pictures to {directory}"
        with lock(directory.with_name(f".{directory.name}.lock"), wait_for=other) as held:
            if directory.is_dir():
                logger.info("using %s, which another process made meanwhile", directory)
                return
            for leftover in directory.parent.glob(f".{directory.name}.*.partial") if held else []:
                logger.info("removing %s, left by an extraction that did not end", leftover)
                shutil.rmtree(leftover)
            try:
                building.mkdir()
                _write_pictures(mat, boxes, building)
                building.rename(directory)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"cannot extract the pictures of {mat} to {directory}: {error}. Nothing was left half written there; make "
            f"{directory.parent} writable or free some space"
        ) from error
    logger.info("extracted the %s pictures of %s to %s, once and for all", boxes, mat, directory)


def _write_pictures(mat: Path, boxes: str, directory: Path) -> None:
    """Writes the pictures of `mat`, and contents.json last."""
    with MatFile(mat) as file:
        pairs = [
            file.references(reference, f"{boxes!r}, camera pair {pair}", columns=PICTURES_PER_PERSON)
            for pair, reference in enumerate(file.references(boxes, repr(boxes)).ravel(), 1)
        ]
        people = [len(pair) for pair in pairs]
        contents = {"people": people, "testsets": _read_testsets(file, people), "pictures": []}
        rows = [(pair, person, row) for pair, cells in enumerate(pairs, 1) for person, row in enumerate(cells, 1)]
        for pair, person, row in tqdm(rows, f"extracting {boxes} pictures", leave=False, disable=None):
            for number, reference in enumerate(row, 1):
                name = f"{pair}_{person:03d}_{1 if number <= PICTURES_PER_VIEW else 2}_{number:02d}.png"
                picture = file.picture(reference, f"{boxes!r}, picture {name}")
                if picture is not None:
                    Image.fromarray(picture).save(directory / name)
                    contents["pictures"].append(name)
    (directory / CONTENTS).write_text(json.dumps(contents) + "\n", encoding="utf-8")


def _read_testsets(file: MatFile, people: list[int]) -> list[list[list[int]]]:
    """Per classic split its test identities, (camera pair, person) from 1; `people` are in the pairs."""
    testsets = [
        file.numbers(reference, f"'testsets', split {split}", columns=2).astype(int).tolist()
        for split, reference in enumerate(file.references("testsets", "'testsets'").ravel(), 1)
    ]
    for split, testset in enumerate(testsets, 1):
        for pair, person in testset:
            if not (1 <= pair <= len(people) and 1 <= person <= people[pair - 1]):
                raise UserError(
                    f"{file.path}: 'testsets', split {split}: person {person} of camera pair {pair}; expected one "
                    f"of the people of the pairs, {people}. Unpack or fetch it again"
                )
    return testsets
