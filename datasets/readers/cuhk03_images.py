"""The images of cuhk-03.mat as PNG files, and contents.json, which says what they are and holds the classic splits."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from datasets.readers.cuhk03_hdf5 import MatFile
from utils.errors import UserError
from utils.files import MIB, directory_written_beside, read_json_object, remove_leftovers
from utils.locks import lock
from utils.progress import ProgressBar

logger = logging.getLogger(__name__)

MAT, CONTENTS = "cuhk-03.mat", "contents.json"
# Every number from 1, as in cuhk-03.mat.
IMAGE_NAME = re.compile(r"(?P<pair>\d{1,9})_(?P<person>\d{1,9})_(?P<view>[12])_(?P<number>\d{1,9})\.png", re.ASCII)
IMAGES_PER_PERSON, IMAGES_PER_VIEW = 10, 5
MAX_CONTENTS, MAX_SIZE = 64 * MIB, 10_000  # of contents.json; of a camera pair: the release has at most 843


class ImageName(NamedTuple):
    """What the name of an image says: camera pair, person in it, camera 1 or 2, number of the image."""

    pair: int
    person: int
    view: int
    number: int


def parse_name(name: str) -> ImageName:
    match = IMAGE_NAME.fullmatch(name)
    if match is None:
        raise ValueError(name)
    return ImageName(*map(int, match.groups()))


class Contents(NamedTuple):
    """contents.json.

    Attributes:
        num_identities: in each camera pair.
        images: file names.
        testsets: the test identities of each classic split, (camera pair, person) from 1.
    """

    num_identities: list[int]
    images: list[str]
    testsets: list[list[tuple[int, int]]]


def load_contents(directory: Path) -> Contents:
    """Reads the contents.json in `directory`.

    Raises:
        UserError: missing or malformed.
    """
    try:
        values = read_json_object(directory / CONTENTS, max_bytes=MAX_CONTENTS)
        sizes = _list_of(values, "people", lambda size: _is_number(size) and size <= MAX_SIZE, "numbers of identities")
        images = _list_of(values, "pictures", _is_image_name, "names of images")
        testsets = _list_of(values, "testsets", _is_testset, "lists of pairs")
    except UserError as error:
        raise UserError(
            f"{directory}: its {CONTENTS}, with the classic splits, cannot be read ({error}); another program writes "
            f"none. Rename or delete the directory: it is extracted again from {MAT}"
        ) from error
    return Contents(sizes, images, [[(pair, person) for pair, person in testset] for testset in testsets])


def _list_of(values: dict, key: str, is_valid: Callable[[Any], bool], expected: str) -> list:
    items = values.get(key)
    if not isinstance(items, list):
        raise UserError(f"no list {key!r}")
    wrong = [item for item in items if not is_valid(item)]
    if wrong:
        raise UserError(f"{str(wrong[0])[:200]!r}, expected {expected}")
    return items


def _is_image_name(value: object) -> bool:
    return isinstance(value, str) and IMAGE_NAME.fullmatch(value) is not None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_testset(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in value
    )


def extract_images(mat: Path, boxes: str, directory: Path) -> None:
    """Writes the images of `mat` beside `directory` and renames them to it once they are complete.

    Raises:
        UserError: `mat` is damaged, or the images cannot be written.
    """
    try:
        directory.parent.mkdir(exist_ok=True)
        other = f"another process that extracts the images to {directory}"
        with lock(directory.with_name(f".{directory.name}.lock"), wait_for=other) as held:
            if directory.is_dir():
                logger.info("using %s, which another process extracted meanwhile", directory)
                return
            if held:
                remove_leftovers(directory.parent, name=directory.name, trees=True)
            with directory_written_beside(directory) as building:
                _write_images(mat, boxes, building)
    except OSError as error:
        raise UserError(
            f"cannot extract the images of {mat} to {directory}: {error}. Nothing incomplete is left there; make "
            f"{directory.parent} writable or free some space"
        ) from error
    logger.info("extracted the %s images of %s to %s", boxes, mat, directory)


def _write_images(mat: Path, boxes: str, directory: Path) -> None:
    """Writes the images of `mat`, and contents.json last."""
    with MatFile(mat) as file:
        pairs = [
            file.references(reference, f"{boxes!r}, camera pair {pair}", columns=IMAGES_PER_PERSON)
            for pair, reference in enumerate(file.references(boxes, repr(boxes)).ravel(), 1)
        ]
        sizes, images = [len(pair) for pair in pairs], []
        testsets = _read_testsets(file, sizes)
        rows = [(pair, person, row) for pair, cells in enumerate(pairs, 1) for person, row in enumerate(cells, 1)]
        for pair, person, row in ProgressBar(f"extracting {boxes} images", iterable=rows):
            for number, reference in enumerate(row, 1):
                name = f"{pair}_{person:03d}_{1 if number <= IMAGES_PER_VIEW else 2}_{number:02d}.png"
                image = file.image(reference, f"{boxes!r}, image {name}")
                if image is not None:
                    Image.fromarray(image).save(directory / name)
                    images.append(name)
    contents = {"people": sizes, "testsets": testsets, "pictures": images}
    (directory / CONTENTS).write_text(json.dumps(contents) + "\n", encoding="utf-8")


def _read_testsets(file: MatFile, sizes: list[int]) -> list[list[list[int]]]:
    """Test identities of each classic split, (camera pair, person) from 1; `sizes` are those of the pairs."""
    testsets = [
        file.numbers(reference, f"'testsets', split {split}", columns=2).astype(int).tolist()
        for split, reference in enumerate(file.references("testsets", "'testsets'").ravel(), 1)
    ]
    for split, testset in enumerate(testsets, 1):
        for pair, person in testset:
            if not (1 <= pair <= len(sizes) and 1 <= person <= sizes[pair - 1]):
                raise UserError(
                    f"{file.path}: 'testsets', split {split}: person {person} of camera pair {pair}; expected one "
                    f"of the identities of the pairs, {sizes}. Unpack or download it again"
                )
    return testsets
