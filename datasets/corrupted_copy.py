"""Corrupted copies of data sets, as `python -m corruption export` makes them, read like the data sets themselves.

A copy bears the name of its data set and a suffix, and its directory the same suffix: DATASETS.NAMES market1501-C reads
data/market1501-C or data/Market-1501-v15.09.15-C. Only complete copies are read; whether their files are still those
that were written is checked by `python -m datasets check`.
"""

from pathlib import Path
from typing import NamedTuple

from corruption.copies import check_files
from datasets.market1501 import DIRECTORIES, PUBLISHED_COUNTS, check_published_counts, read_market_layout
from datasets.synthetic import NAME as SYNTHETIC
from utils.errors import UserError
from utils.structures import DatasetSplits


class Copied(NamedTuple):
    """A data set that copies are made of: the names that its directory may have, and its published counts."""

    directories: tuple[str, ...]
    published: dict[str, tuple[int, int]]


COPIED = {"market1501": Copied(DIRECTORIES, PUBLISHED_COUNTS), SYNTHETIC: Copied((SYNTHETIC,), {})}


def original_of(name: str) -> str | None:
    """The data set that `name` is a corrupted copy of: market1501 for market1501-C; None for other names."""
    original, hyphen, suffix = name.partition("-")
    return original if original in COPIED and hyphen and suffix and Path(name).name == name else None


def published_counts(name: str) -> dict[str, tuple[int, int]]:
    """Pictures and identities of each split of a data set or of its copies; {} where none are published."""
    original = original_of(name) or name
    return COPIED[original].published if original in COPIED else {}


def read_corrupted_copy(root_dir: str | Path, name: str, *, check_counts: bool = True) -> DatasetSplits:
    """The copy `name` below `root_dir`.

    Raises:
        UserError: not there, not complete, with files that its manifest does not list, or (unless check_counts is
            False) with other counts than published.
    """
    root_dir, original = Path(root_dir), original_of(name)
    suffix, names = name.removeprefix(original), COPIED[original].directories
    places = [root_dir / f"{other}{suffix}" for other in names]
    directory = next((place for place in places if place.is_dir()), None)
    if directory is None:
        source = next((root_dir / other for other in names if (root_dir / other).is_dir()), root_dir / names[0])
        raise UserError(
            f"DATASETS.NAMES {name!r}: no {' or '.join(map(str, places))}; make it with: "
            f"python -m corruption export --data {source} --out {source}{suffix}"
        )
    check_files(directory)
    splits = read_market_layout(directory, name=name)
    check_published_counts(splits, COPIED[original].published, check_counts=check_counts)
    return splits
