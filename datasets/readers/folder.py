"""Pictures of one's own in directories, with whatever names: docs/own-data.md.

A regular expression reads person, camera and viewpoint from the path of a picture below the directory of its split.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from datasets.readers.custom import ALL, TEST, OwnPicture, explain_missing, make_splits
from datasets.readers.file_errors import FileErrors
from utils.errors import UserError
from utils.listing import SUFFIXES, list_images
from utils.structures import DatasetSplits

GROUPS = ("pid", "camid", "viewid")


def read_folder(
    root_dir: str | Path,
    faults: FileErrors,
    *,
    directories: dict[str, str],
    pattern: str,
    seed: int,
    train_share: float,
) -> DatasetSplits:
    """The pictures below the directories of train, query and gallery, in the order of their names.

    Args:
        root_dir: the data set's own directory.
        faults: takes up names that do not match.
        directories: of each split, below `root_dir`, "." for itself. "" for query: drawn from the gallery; "" for
            train: none. The same for train and gallery: people are drawn for training.
        pattern: regular expression for the whole path of a picture below the directory of its split, with forward
            slashes; its named groups are pid and, optionally, camid and viewid. A group of digits alone, as in
            (?P<pid>\\d+), gives numbers, in which 1 and 01 are the same; others give names, in which they are not.
        seed, train_share: see make_splits.

    Raises:
        UserError: a directory is missing, holds no picture or lies in another, or the pattern matches nothing.
    """
    root, names = Path(root_dir), re.compile(pattern)
    if unknown := sorted(set(names.groupindex) - set(GROUPS)):
        raise UserError(
            f"DATASETS.FOLDER.PATTERN {pattern}: unknown group {', '.join(unknown)}; expected {', '.join(GROUPS)}. A "
            "group that is not to be read is written (?:...)"
        )
    places = _find_places(root, directories)
    pictures = [picture for split, place in places.items() for picture in _read_split(place, split, names, faults)]
    return make_splits(
        pictures,
        faults,
        name="folder",
        version=root.resolve().name,
        root=str(root),
        seed=seed,
        train_share=train_share,
        numeric=[name for name in GROUPS if _is_numeric(pattern, name)],
    )


def _is_numeric(pattern: str, group: str) -> bool:
    """Whether a group of the pattern consists of digits alone, and possibly a minus sign."""
    digits = r"(?:(?:\\d|\[0-9\])(?:[+*?]|\{\d*(?:,\d*)?\})*)+"
    return re.search(rf"\(\?P<{group}>(?:-\??)?{digits}\)", pattern) is not None


def _find_places(root: Path, directories: dict[str, str]) -> dict[str, Path]:
    """Split -> its directory, TEST and ALL in place of those that are drawn."""
    places = {}
    for split, directory in directories.items():
        if directory:
            places[split] = root / directory
            if not places[split].is_dir():
                raise UserError(f"DATASETS.FOLDER.{split.upper()} {directory}: {explain_missing(places[split])}")
    real = {split: place.resolve() for split, place in places.items()}
    for inner, outer in ((inner, outer) for inner in real for outer in real if real[outer] in real[inner].parents):
        raise UserError(
            f"DATASETS.FOLDER.{inner.upper()}: {places[inner]} lies in {places[outer]}, the directory of {outer}, so "
            f"that its pictures would be in {outer} too; expected the same directory, or one beside it"
        )
    if real.get("train") == real["gallery"]:
        if "query" in places:
            raise UserError(
                f"DATASETS.FOLDER: TRAIN and GALLERY are the same directory, {places['gallery']}, of which people are "
                f'drawn for training; then the queries are drawn too: expected QUERY "", found {directories["query"]}'
            )
        return {ALL: places["gallery"]}
    if "query" not in places:
        places[TEST] = places.pop("gallery")
    return places


def _read_split(directory: Path, split: str, names: re.Pattern, faults: FileErrors) -> Iterator[OwnPicture]:
    before = len(faults.messages)
    paths = list(list_images(directory, faults.add))
    if not paths and len(faults.messages) == before:
        raise UserError(f"{directory}: no picture below it; expected files that end in {', '.join(SUFFIXES)}")
    matches = {path: names.fullmatch(path) for path in paths}
    if paths and not any(matches.values()):
        raise UserError(
            f"DATASETS.FOLDER.PATTERN {names.pattern} matches none of the {len(paths)} pictures below {directory}; it "
            f"must match the whole of a picture's path below that directory, e.g. {paths[0]}"
        )
    for path, match in matches.items():
        found = match.groupdict(default="") if match else {}
        where = str(directory / path)
        if found.get("pid"):
            yield OwnPicture(where, split, found["pid"], found.get("camid", ""), found.get("viewid", ""), where)
        else:
            wrong = "its pid is empty in" if match else f"{path} does not match"
            faults.add(f"{where}: {wrong} DATASETS.FOLDER.PATTERN {names.pattern}. Rename or remove the file")
