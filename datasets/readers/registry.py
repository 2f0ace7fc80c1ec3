"""The readers by name, and the way from cfg.DATASETS to checked data sets."""

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from datasets.corrupted_copy import COPIED, original_of, read_corrupted_copy
from datasets.decoding import find_unreadable, leave_out
from datasets.readers import (
    csv_list,
    cuhk03,
    dukemtmc,
    folder,
    market1501,
    market1501_500k,
    msmt17,
    occluded_duke,
    occluded_reid,
    synthetic,
    vehicleid,
    veri,
)
from datasets.readers.file_errors import FileErrors
from datasets.readers.validation import check_counts, check_matches, check_not_empty, count
from datasets.several_sets import join, parts_of
from datasets.validation_split import hold_back
from utils.distributed import once_per_node
from utils.errors import UserError, did_you_mean
from utils.side_numbers import find_sides
from utils.structures import SPLIT_NAMES, DatasetSplits

logger = logging.getLogger(__name__)

TRAIN, TESTED = SPLIT_NAMES[:1], SPLIT_NAMES[1:]

Reader = Callable[[Any, Path, FileErrors], DatasetSplits]  # (cfg, DATASETS.ROOT_DIR, errors of single files)

# DATASETS.NAMES in lower case -> reader; a data set may have several names, as YAML files of the TransReID codebase
# spell them. A new data set is a file with such a function, and a line here.
READERS: dict[str, Reader] = {
    "market1501": market1501.read,
    "market1501_500k": market1501_500k.read,
    "cuhk03": cuhk03.read,
    "msmt17": msmt17.read,
    "dukemtmc": dukemtmc.read,
    "occluded_duke": occluded_duke.read,
    "occ_duke": occluded_duke.read,
    "occluded_reid": occluded_reid.read,
    "veri": veri.read,
    "vehicleid": vehicleid.read,
    "folder": folder.read,
    "csv": csv_list.read,
    "synthetic": synthetic.read,
}

# Data sets without a reader of their own -> a configuration that reads them as a folder.
CONFIGURED = {
    "viper": "configs/Own/viper.yml",
    **dict.fromkeys(("prid2011", "prid_2011", "prid"), "configs/Own/prid2011.yml"),
}


def reader_name(given: str) -> str:
    """The NAME of NAME:DIRECTORY in lower case: VehicleID, as the TransReID codebase writes it, is vehicleid."""
    return given.partition(":")[0].lower()


def find_reader(given: str, key: str = "DATASETS.NAMES") -> Reader:
    """The reader of a data set, or of a corrupted copy, for NAME or NAME:DIRECTORY; UserError for unknown names.

    Args:
        given: NAME or NAME:DIRECTORY.
        key: that gives it, for the message.
    """
    name, copy = reader_name(given), given.partition(":")[0]
    if name in READERS:
        return READERS[name]
    if original_of(copy):  # its suffix is that of a directory, in upper or lower case
        return partial(read_corrupted_copy, name=copy)
    copies = [f"{original}-C" for original in COPIED]
    if re.fullmatch(r"\w+( *[,+ ] *\w+)+", given):
        advice = f"; several are a list: {re.findall('[^,+ ]+', given)}"
    elif name in CONFIGURED:
        advice = f"; this one is read as folder, as in --config_file {CONFIGURED[name]}"
    else:
        advice = did_you_mean(name, [*READERS, *copies])
    raise UserError(
        f"{key} {given!r}: unknown data set; known are {', '.join(READERS)}, and corrupted copies: "
        f"{', '.join(copies)} (or another suffix){advice}"
    )


def check_spellings(cfg: CfgNode) -> None:
    """Makes sure that no data set has two names in cfg.DATASETS, such as occ_duke and Occluded_Duke.

    Raises:
        UserError: names every such set with all its names.
    """
    spellings: dict[tuple[object, str], list[str]] = {}
    for given in dict.fromkeys([*cfg.DATASETS.NAMES, *cfg.DATASETS.TEST]):
        name, _, directory = given.partition(":")
        reader = READERS.get(reader_name(given), name)  # a corrupted copy is known by its name
        place = os.path.normpath(os.path.join(cfg.DATASETS.ROOT_DIR, os.path.expanduser(directory)))
        spellings.setdefault((reader, place), []).append(given)
    same = [f"{', '.join(map(repr, names))} name the same data set" for names in spellings.values() if len(names) > 1]
    if same:
        raise UserError(f"DATASETS.NAMES and TEST: {'; '.join(same)}; expected one name for a set, in a list once")


def read_unchecked(cfg: CfgNode, given: str, errors: FileErrors) -> DatasetSplits:
    """Reads a data set from its file names and lists; no image is opened.

    Args:
        cfg: configuration.
        given: NAME, or NAME:DIRECTORY for a data set below DATASETS.ROOT_DIR/DIRECTORY.
        errors: of single files.

    Raises:
        UserError: an unknown name, or data that are missing or must not be read.
    """
    directory = given.partition(":")[2]
    root = Path(cfg.DATASETS.ROOT_DIR, os.path.expanduser(directory))
    key = "DATASETS.NAMES" if given in cfg.DATASETS.NAMES else "DATASETS.TEST"
    if reader_name(given) == "folder" and key == "DATASETS.TEST":
        cfg = folder.for_tests(cfg, root)
    try:
        splits = find_reader(given, key)(cfg, root, errors)
    except PermissionError as error:
        raise UserError(
            f"{key} {given}: {error.filename} cannot be read ({error.strerror}); change its permissions, or "
            "those of the directories above it"
        ) from error
    return replace(splits, name=given) if directory else splits


def read_one(cfg: CfgNode, given: str, needed: tuple[str, ...]) -> DatasetSplits:
    """Reads a data set, and checks counts, matches and images as the keys of cfg.DATASETS say.

    Args:
        cfg, given: as of `read_unchecked`.
        needed: splits that must not be empty, and whose images are checked.

    Raises:
        UserError: an unknown name, or an error of the data on disk.
    """
    errors = FileErrors()
    splits = read_unchecked(cfg, given, errors)
    errors.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
    check_not_empty(splits, needed)
    check_counts(splits, refuse=cfg.DATASETS.CHECK_COUNTS and not errors.messages)  # left out files change counts
    if cfg.DATASETS.CHECK_IMAGES:
        paths = [record.path for split in needed for record in getattr(splits, split)]
        unreadable = once_per_node(partial(find_unreadable, paths))
        errors = FileErrors()
        errors.messages += unreadable.values()
        errors.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
        if unreadable:  # a sampled split depends on which images can be read
            logger.info("reading %s again, without what is left out", splits.title)
            splits = leave_out(read_unchecked(cfg, given, FileErrors(unreadable.keys())), unreadable)
            check_not_empty(splits, needed)
    if "query" in needed:
        check_matches(splits)
    counts = "; ".join(f"{split} {count(splits, split).describe()}" for split in SPLIT_NAMES)
    logger.info("%s in %s: %s", splits.title, splits.root, counts)
    return splits


def read_dataset(cfg: CfgNode, *, with_train: bool = True) -> DatasetSplits:
    """Reads the data sets that cfg.DATASETS names, and checks counts, matches and images as the keys there say.

    Args:
        cfg: configuration.
        with_train: read the training sets too; they must not be empty, and their images are checked. Otherwise only
            what cfg.TEST.SPLIT says is read.

    Returns:
        The training set, with the test sets as `tests`; a data set that is both is itself, without `tests`. With
        cfg.DATASETS.VALIDATION_SHARE, `validation` has a validation set for each training set.

    Raises:
        UserError: an unknown name, an error of the data on disk, or no identities to hold back.
    """
    share, on_validation = cfg.DATASETS.VALIDATION_SHARE, cfg.TEST.SPLIT == "validation"
    if on_validation and not share:
        raise UserError(
            "TEST.SPLIT validation: DATASETS.VALIDATION_SHARE 0 holds no identities back; set it, e.g. 0.2, and train "
            "with it"
        )
    names = list(cfg.DATASETS.NAMES) if with_train or on_validation else []
    tests = list(cfg.DATASETS.TEST or cfg.DATASETS.NAMES) if with_train or not on_validation else []
    needed = {name: (TRAIN if name in names else ()) + (TESTED if name in tests else ()) for name in [*names, *tests]}
    found = {name: read_one(cfg, name, splits) for name, splits in needed.items()}
    for name in tests:
        is_training = not cfg.DATASETS.TEST or name in cfg.DATASETS.NAMES
        found[name] = replace(found[name], is_training=is_training)
    tested = [found[name] for name in tests]
    training = [found[name] for name in names]
    if share:
        training = [hold_back(splits, share=share, seed=cfg.DATASETS.VALIDATION_SEED) for splits in training]
    validation = tuple(one for splits in training for one in splits.validation)
    if not with_train and on_validation:
        return DatasetSplits((), (), (), name="+".join(names), validation=validation)
    if not with_train:
        return tested[0] if len(tested) == 1 else DatasetSplits((), (), (), name="+".join(tests), tests=tuple(tested))
    train = training[0] if len(names) == 1 else replace(join(training), validation=validation)
    if tests == names and len(names) == 1:
        return train
    _log_unknown_sides(train, tested)
    return replace(train, tests=tuple(tested))


def _log_unknown_sides(train: DatasetSplits, tested: Sequence[DatasetSplits]) -> None:
    parts = parts_of(train)
    if unknown := [splits.title for splits in tested if find_sides(splits.name, parts) is None]:
        logger.info(
            "%s: not among the training sets; with MODEL.SIE_CAMERA or SIE_VIEW, every image there gets the mean of "
            "the model's side vectors",
            ", ".join(unknown),
        )
