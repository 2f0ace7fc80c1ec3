"""Custom images in directories, with any names: docs/own-data.md.

A regular expression reads identity, camera and viewpoint from the path of an image below the directory of its split,
or below that of train where train holds the others.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.custom import ALL, TEST, make_splits
from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import explain_missing
from datasets.readers.numbering import CustomImage
from utils.errors import UserError
from utils.image_listing import SUFFIXES, list_images
from utils.structures import DatasetSplits

logger = logging.getLogger(__name__)

GROUPS = ("pid", "camid", "viewid")


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    folder, split = cfg.DATASETS.FOLDER, cfg.DATASETS.SPLIT
    directories = {"train": folder.TRAIN, "query": folder.QUERY, "gallery": folder.GALLERY}
    return read_folder(
        root, errors, directories=directories, pattern=folder.PATTERN, seed=split.SEED, train_share=split.TRAIN_SHARE
    )


def for_tests(cfg: CfgNode, root: Path) -> CfgNode:
    """The configuration of a set that is no training set: one without a directory TRAIN has no training images."""
    train = cfg.DATASETS.FOLDER.TRAIN
    if not train or (root / train).is_dir():
        return cfg
    logger.info("DATASETS.FOLDER.TRAIN %s: not in %s, a data set for tests only", train, root)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.FOLDER.TRAIN = ""
    cfg.freeze()
    return cfg


def read_folder(
    root: str | Path,
    errors: FileErrors,
    *,
    directories: dict[str, str],
    pattern: str,
    seed: int,
    train_share: float,
) -> DatasetSplits:
    """Reads the images below the directories of train, query and gallery, in the order of their names.

    Args:
        root: the data set's own directory.
        errors: collects names that do not match.
        directories: of each split, below `root`, "." for itself. "" for query: sampled from the gallery; "" for train:
            none. The same for train and gallery: training identities are sampled. A directory of train that holds those
            of query and gallery: training identities are sampled from those that both have.
        pattern: regular expression for the whole path of an image below the directory of its split (of train, where it
            holds the others), with forward slashes; its named groups are pid and, optionally, camid and viewid. A group
            of digits alone, as in (?P<pid>\\d+), gives numbers, in which 1 and 01 are the same; others give names, in
            which they are not.
        seed, train_share: see make_splits.

    Raises:
        UserError: a directory is missing, holds no image or lies in another, or the pattern matches nothing.
    """
    root, names = Path(root), compile_pattern(pattern)
    places = _find_places(root, directories)
    sample_train = _holds_test_set(places)
    above = places.pop("train") if sample_train else None
    images = [
        image
        for split, place in places.items()
        for image in _read_split(place, split, names, errors, prefix=f"{place.relative_to(above)}/" if above else "")
    ]
    return make_splits(
        images,
        errors,
        name="folder",
        version=root.resolve().name,
        root=str(root),
        seed=seed,
        train_share=train_share,
        sample_train=sample_train,
        numeric=[name for name in GROUPS if _is_numeric(pattern, name)],
    )


def compile_pattern(pattern: str) -> re.Pattern:
    """DATASETS.FOLDER.PATTERN; UserError where it has other groups than GROUPS."""
    names = re.compile(pattern)
    if unknown := sorted(set(names.groupindex) - set(GROUPS)):
        raise UserError(
            f"DATASETS.FOLDER.PATTERN {pattern}: unknown group {', '.join(unknown)}; expected {', '.join(GROUPS)}. "
            "Write a group that is not to be read as (?:...)"
        )
    return names


def _is_numeric(pattern: str, group: str) -> bool:
    """Whether a group of the pattern consists of digits alone, and possibly a minus sign."""
    digits = r"(?:(?:\\d|\[0-9\])(?:[+*?]|\{\d*(?:,\d*)?\})*)+"
    return re.search(rf"\(\?P<{group}>(?:-\??)?{digits}\)", pattern) is not None


def _find_places(root: Path, directories: dict[str, str]) -> dict[str, Path]:
    """Split -> its directory; TEST and ALL replace the splits that are sampled."""
    places = {}
    for split, directory in directories.items():
        if directory:
            places[split] = root / directory
            if not places[split].is_dir():
                raise UserError(f"DATASETS.FOLDER.{split.upper()} {directory}: {explain_missing(places[split])}")
    if _holds_test_set(places):
        return places
    real = {split: place.resolve() for split, place in places.items()}
    for inner, outer in ((inner, outer) for inner in real for outer in real if real[outer] in real[inner].parents):
        raise UserError(
            f"DATASETS.FOLDER.{inner.upper()}: {places[inner]} lies in {places[outer]}, the directory of {outer}, so "
            f"that its images would be in {outer} too; expected the same directory, or one beside it"
        )
    if real.get("train") == real["gallery"]:
        if "query" in places:
            raise UserError(
                f"DATASETS.FOLDER: TRAIN and GALLERY are the same directory, {places['gallery']}, from which training "
                'identities are sampled; then the queries are sampled too: expected QUERY "", found '
                f"{directories['query']}"
            )
        return {ALL: places["gallery"]}
    if "query" not in places:
        places[TEST] = places.pop("gallery")
    return places


def _holds_test_set(places: dict[str, Path]) -> bool:
    """Whether the directory of train holds those of query and gallery, two different ones."""
    test = [places[split] for split in ("query", "gallery") if split in places]
    inside = all(places.get("train") in place.parents for place in test)
    return len(test) == 2 and inside and test[0].resolve() != test[1].resolve()


def _read_split(
    directory: Path, split: str, names: re.Pattern, errors: FileErrors, *, prefix: str
) -> Iterator[CustomImage]:
    """The images below a directory; the pattern must match `prefix` and the path below it."""
    before = len(errors.messages)
    paths = list(list_images(directory, errors.add))
    if not paths and len(errors.messages) == before:
        raise UserError(f"{directory}: no image below it; expected files that end in {', '.join(SUFFIXES)}")
    matches = {path: names.fullmatch(prefix + path) for path in paths}
    if paths and not any(matches.values()):
        raise UserError(
            f"DATASETS.FOLDER.PATTERN {names.pattern} matches none of the {len(paths)} images below {directory}; it "
            f"must match the whole of an image's path below {'TRAIN' if prefix else 'that directory'}, e.g. "
            f"{prefix}{paths[0]}"
        )
    for path, match in matches.items():
        found = match.groupdict(default="") if match else {}
        where = str(directory / path)
        if found.get("pid"):
            yield CustomImage(where, split, found["pid"], found.get("camid", ""), found.get("viewid", ""), where)
        else:
            wrong = "its pid is empty in" if match else f"{prefix}{path} does not match"
            errors.add(f"{where}: {wrong} DATASETS.FOLDER.PATTERN {names.pattern}. Rename or remove the file")
