"""Corrupted copies of data sets, as `python -m corruption export` makes them, read like the data sets themselves.

A copy bears the name of its data set and a suffix, and its directory the same suffix: DATASETS.NAMES market1501-C reads
data/market1501-C or data/Market-1501-v15.09.15-C. Only complete copies are read; whether their files are still those
that were written is checked by `python -m datasets check`.
"""

from pathlib import Path
from typing import NamedTuple

from datasets.copy_format import CORRUPTED_SPLITS, SETTINGS, check_files
from datasets.readers import cuhk03, market1501
from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import find_by_content
from datasets.readers.market1501 import FILE_NAMES, SPLIT_DIRECTORIES, FileNames, has_names, read_market_layout
from datasets.synthetic.generate import NAME as SYNTHETIC
from utils.errors import UserError
from utils.structures import Counts, DatasetSplits


class Copied(NamedTuple):
    """A data set in Market-1501's layout, of which copies are made: the names that its directory may have and how its
    pictures are named; its published counts and cameras; names of pictures that no other such data set has, by which a
    copy in a directory of another name is recognised."""

    directories: tuple[str, ...]
    names: FileNames
    published: dict[str, Counts]
    cameras: int
    content: FileNames | None = None


COPIED = {
    "market1501": Copied(market1501.DIRECTORIES, FILE_NAMES, market1501.PUBLISHED, market1501.NUM_CAMERAS, FILE_NAMES),
    "cuhk03": Copied(cuhk03.FOLDERS, cuhk03.FILE_NAMES, {}, 0, cuhk03.NP),
    SYNTHETIC: Copied((SYNTHETIC,), FILE_NAMES, {}, 0),
}


def original_of(name: str) -> str | None:
    """The data set that `name` is a corrupted copy of: market1501 for market1501-C; None for other names."""
    original, hyphen, suffix = name.partition("-")
    return original if original in COPIED and hyphen and suffix and Path(name).name == name else None


def read_corrupted_copy(root_dir: str | Path, name: str, faults: FileErrors) -> DatasetSplits:
    """The copy `name` below `root_dir`.

    Raises:
        UserError: not there, not complete, or with files that its manifest does not list.
    """
    root_dir, original = Path(root_dir), original_of(name)
    suffix, copied = name.removeprefix(original), COPIED[original]
    places = [root_dir / f"{other}{suffix}" for other in copied.directories]
    directory = next((place for place in places if place.is_dir()), None)
    if directory is None and copied.content:
        directory = find_by_content(
            root_dir,
            (SETTINGS, *(SPLIT_DIRECTORIES[split] for split in CORRUPTED_SPLITS)),
            title=name,
            name=places[0].name,
            fits=lambda place: place.name.endswith(suffix) and has_names(place, copied.content),
        )
    if directory is None:
        names = copied.directories
        source = next((root_dir / other for other in names if (root_dir / other).is_dir()), root_dir / names[0])
        raise UserError(
            f"DATASETS.NAMES {name!r}: no {' or '.join(map(str, places))}; make it with: "
            f"python -m corruption export --data {source} --out {source}{suffix}"
        )
    check_files(directory)
    return read_market_layout(
        directory, faults, name=name, names=copied.names, published=copied.published, cameras=copied.cameras
    )
