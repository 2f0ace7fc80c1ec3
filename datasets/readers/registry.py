"""From cfg.DATASETS to a data set whose pictures can be read."""

import logging
from functools import partial
from pathlib import Path

from datasets.corrupted_copy import COPIED, original_of, read_corrupted_copy
from datasets.decoding import find_unreadable, leave_out
from datasets.readers.csv_list import read_csv
from datasets.readers.cuhk03 import read_cuhk03
from datasets.readers.file_errors import FileErrors
from datasets.readers.folder import read_folder
from datasets.readers.market1501 import read_market1501, read_market_layout
from datasets.readers.msmt17 import read_msmt17
from datasets.readers.validation import check_counts, check_matches, check_not_empty, count
from datasets.synthetic.generate import NAME, ensure_synthetic, settings_of
from utils.distributed import once_per_node
from utils.errors import UserError
from utils.structures import SPLIT_NAMES, DatasetSplits

logger = logging.getLogger(__name__)


def _market1501(cfg, root: Path, faults: FileErrors) -> DatasetSplits:
    return read_market1501(root, faults, own_subset=not cfg.DATASETS.CHECK_COUNTS)


def _cuhk03(cfg, root: Path, faults: FileErrors) -> DatasetSplits:
    cuhk03 = cfg.DATASETS.CUHK03
    return read_cuhk03(root, faults, boxes=cuhk03.BOXES, classic_split=cuhk03.CLASSIC_SPLIT)


def _msmt17(cfg, root: Path, faults: FileErrors) -> DatasetSplits:
    return read_msmt17(root, faults, version=cfg.DATASETS.MSMT17.VERSION, with_val=cfg.DATASETS.MSMT17.WITH_VAL)


def _folder(cfg, root: Path, faults: FileErrors) -> DatasetSplits:
    folder, split = cfg.DATASETS.FOLDER, cfg.DATASETS.SPLIT
    directories = {"train": folder.TRAIN, "query": folder.QUERY, "gallery": folder.GALLERY}
    return read_folder(
        root, faults, directories=directories, pattern=folder.PATTERN, seed=split.SEED, train_share=split.TRAIN_SHARE
    )


def _csv(cfg, root: Path, faults: FileErrors) -> DatasetSplits:
    split = cfg.DATASETS.SPLIT
    return read_csv(root, faults, file=cfg.DATASETS.CSV.FILE, seed=split.SEED, train_share=split.TRAIN_SHARE)


def _synthetic(cfg, root: Path, faults: FileErrors) -> DatasetSplits:
    settings = None if cfg.DATASETS.CHECK_COUNTS else settings_of(root / NAME)
    directory = once_per_node(partial(ensure_synthetic, root, settings=settings))
    return read_market_layout(directory, faults, name=NAME)


READERS = {
    "market1501": _market1501,
    "cuhk03": _cuhk03,
    "msmt17": _msmt17,
    "folder": _folder,
    "csv": _csv,
    "synthetic": _synthetic,
}


def read_names(cfg, faults: FileErrors) -> DatasetSplits:
    """The data set that cfg.DATASETS names, or the corrupted copy of one, as its names and lists say.

    Raises:
        UserError: an unknown name, or data that are not there or must not be read.
    """
    name, root = cfg.DATASETS.NAMES, Path(cfg.DATASETS.ROOT_DIR)
    try:
        if name in READERS:
            return READERS[name](cfg, root, faults)
        if original_of(name):
            return read_corrupted_copy(root, name, faults)
    except PermissionError as error:
        raise UserError(
            f"DATASETS.NAMES {name}: {error.filename} cannot be read ({error.strerror}); mend its permissions, or "
            "those of the directories above it"
        ) from error
    raise UserError(
        f"DATASETS.NAMES {name!r}: unknown data set; known are {', '.join(READERS)}, and corrupted copies: "
        f"{', '.join(f'{original}-C' for original in COPIED)} (or another suffix)"
    )


def read_dataset(cfg, *, with_train: bool = True) -> DatasetSplits:
    """The data set that cfg.DATASETS names, checked: counts, matches, and every picture, as the keys there say.

    Args:
        cfg: configuration.
        with_train: there must be training pictures; otherwise they are not looked at.

    Raises:
        UserError: an unknown name, or whatever is wrong with the data on disk.
    """
    faults = FileErrors()
    splits = read_names(cfg, faults)
    faults.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
    needed = SPLIT_NAMES if with_train else SPLIT_NAMES[1:]
    check_not_empty(splits, needed)
    check_counts(splits, refuse=cfg.DATASETS.CHECK_COUNTS and not faults.messages)  # skipped: other counts follow
    if cfg.DATASETS.CHECK_PICTURES:
        used = [record.path for split in needed for record in getattr(splits, split)]
        unreadable = once_per_node(partial(find_unreadable, used))
        faults = FileErrors()
        for message in unreadable.values():
            faults.add(message)
        faults.raise_if_errors(cfg.DATASETS.ON_BAD_IMAGE)
        if unreadable:  # what is drawn depends on what can be read
            logger.info("reading %s again, without what is left out", splits.title)
            splits = leave_out(read_names(cfg, FileErrors(unreadable.keys())), unreadable)
            check_not_empty(splits, needed)
    check_matches(splits)
    counts = "; ".join(f"{split} {count(splits, split).describe()}" for split in SPLIT_NAMES)
    logger.info("%s in %s: %s", splits.title, splits.root, counts)
    return splits
