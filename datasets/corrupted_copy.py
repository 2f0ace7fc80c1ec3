"""Reads corrupted copies of data sets, which `python -m corruption export` makes.

A copy has the name of its data set and a suffix, and its directory the same suffix: DATASETS.NAMES market1501-C reads
data/market1501-C or data/Market-1501-v15.09.15-C. Only complete copies are read; `python -m datasets check` checks that
their files are unchanged.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from datasets.copy_format import CORRUPTED_SPLITS, SETTINGS, check_files
from datasets.readers import cuhk03, dukemtmc, market1501, occluded_duke, veri
from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import find_by_content
from datasets.readers.market_layout import FILE_NAMES, SPLIT_DIRECTORIES, FileNames, has_names, read_market_layout
from datasets.synthetic.generate import NAME as SYNTHETIC
from utils.errors import UserError
from utils.structures import Counts, DatasetSplits


class Original(NamedTuple):
    """A data set in Market-1501's layout, of which copies are made.

    Attributes:
        directories: names that its directory may have.
        names: how its images are named.
        published, cameras: see DatasetSplits.
        own_names: names of images that no other such data set has, to recognise a copy in a directory of another name.
        split_directories: of train, query and gallery.
        complete: adds to the splits what image names do not say.
    """

    directories: tuple[str, ...]
    names: FileNames
    published: dict[str, Counts]
    cameras: int
    own_names: FileNames | None = None
    split_directories: dict[str, str] = SPLIT_DIRECTORIES
    complete: Callable[[CfgNode, DatasetSplits, FileErrors], DatasetSplits] = lambda cfg, splits, errors: splits


COPIED = {
    "market1501": Original(
        market1501.DIRECTORIES, FILE_NAMES, market1501.PUBLISHED, market1501.NUM_CAMERAS, FILE_NAMES
    ),
    "cuhk03": Original(cuhk03.FOLDERS, cuhk03.FILE_NAMES, {}, 0, cuhk03.NP),
    "dukemtmc": Original(dukemtmc.DIRECTORIES, dukemtmc.FILE_NAMES, dukemtmc.PUBLISHED, dukemtmc.NUM_CAMERAS),
    "occluded_duke": Original(
        occluded_duke.DIRECTORIES, dukemtmc.FILE_NAMES, occluded_duke.PUBLISHED, dukemtmc.NUM_CAMERAS
    ),
    "veri": Original(
        veri.DIRECTORIES,
        veri.FILE_NAMES,
        veri.PUBLISHED,
        veri.NUM_CAMERAS,
        veri.FILE_NAMES,
        veri.SPLIT_DIRECTORIES,
        veri.complete,
    ),
    SYNTHETIC: Original((SYNTHETIC,), FILE_NAMES, {}, 0),
}


def original_of(name: str) -> str | None:
    """The data set that `name` is a corrupted copy of: market1501 for market1501-C; None for other names."""
    original, hyphen, suffix = name.partition(":")[0].partition("-")
    return original if original in COPIED and hyphen and suffix and "/" not in suffix else None


def read_corrupted_copy(cfg: CfgNode, root: Path, errors: FileErrors, *, name: str) -> DatasetSplits:
    """Reads the copy `name` below `root`.

    Raises:
        UserError: missing, incomplete, or with files that its manifest does not list.
    """
    original = COPIED[name.partition("-")[0]]
    directory = _find(root, name, original)
    check_files(directory)
    splits = read_market_layout(
        directory,
        errors,
        name=name,
        names=original.names,
        directories=original.split_directories,
        published=original.published,
        cameras=original.cameras,
    )
    return original.complete(cfg, splits, errors)


def _find(root: Path, name: str, original: Original) -> Path:
    suffix = name[name.index("-") :]
    places = [root / f"{directory}{suffix}" for directory in original.directories]
    own_names = original.own_names
    directory = next((place for place in places if place.is_dir()), None)
    if directory is None and own_names:
        directory = find_by_content(
            root,
            (SETTINGS, *(original.split_directories[split] for split in CORRUPTED_SPLITS)),
            title=name,
            name=places[0].name,
            fits=lambda place: place.name.endswith(suffix) and has_names(place, own_names, original.split_directories),
        )
    if directory is None:
        sources = [root / directory for directory in original.directories]
        source = next((source for source in sources if source.is_dir()), sources[0])
        raise UserError(
            f"DATASETS.NAMES {name!r}: no {' or '.join(map(str, places))}; make it with: "
            f"python -m corruption export --data {source} --out {source}{suffix}"
        )
    return directory
