"""The readers by name, and the way from cfg.DATASETS to a checked data set."""

import logging
from collections.abc import Callable
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
from utils.distributed import once_per_node
from utils.errors import UserError, did_you_mean
from utils.structures import SPLIT_NAMES, DatasetSplits

logger = logging.getLogger(__name__)

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


def find_reader(name: str) -> Reader:
    """The reader of the data set, or of a corrupted copy, that DATASETS.NAMES names; UserError for unknown names.

    Upper and lower case are the same: VehicleID, as the TransReID codebase writes it, is vehicleid.
    """
    if name.lower() in READERS:
        return READERS[name.lower()]
    if original_of(name):
        return read_corrupted_copy
    copies = [f"{original}-C" for original in COPIED]
    raise UserError(
        f"DATASETS.NAMES {name!r}: unknown data set; known are {', '.join(READERS)}, and corrupted copies: "
        f"{', '.join(copies)} (or another suffix){did_you_mean(name, [*READERS, *copies])}"
    )


def read_unchecked(cfg: CfgNode, errors: FileErrors) -> DatasetSplits:
    """Reads the data set that cfg.DATASETS names from its file names and lists; no image is opened.

    Raises:
        UserError: an unknown name, or data that are missing or must not be read.
    """
    name = cfg.DATASETS.NAMES
    try:
        return find_reader(name)(cfg, Path(cfg.DATASETS.ROOT_DIR), errors)
    except PermissionError as error:
        raise UserError(
            f"DATASETS.NAMES {name}: {error.filename} cannot be read ({error.strerror}); change its permissions, or "
            "those of the directories above it"
        ) from error


def read_dataset(cfg: CfgNode, *, with_train: bool = True) -> DatasetSplits:
    """Reads the data set that cfg.DATASETS names, and checks counts, matches and images as the keys there say.

    Args:
        cfg: configuration.
        with_train: the training set must not be empty, and its images are checked too.

    Raises:
        UserError: an unknown name, or an error of the data on disk.
    """
    errors = FileErrors()
    splits = read_unchecked(cfg, errors)
    errors.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
    needed = SPLIT_NAMES if with_train else SPLIT_NAMES[1:]
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
            splits = leave_out(read_unchecked(cfg, FileErrors(unreadable.keys())), unreadable)
            check_not_empty(splits, needed)
    check_matches(splits)
    counts = "; ".join(f"{split} {count(splits, split).describe()}" for split in SPLIT_NAMES)
    logger.info("%s in %s: %s", splits.title, splits.root, counts)
    return splits
