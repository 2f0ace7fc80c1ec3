"""Whether pictures can be decoded, found out before the first batch."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

from PIL import Image
from tqdm import tqdm

from datasets.faults import Faults
from datasets.records import all_records
from utils.errors import UserError
from utils.images import read_image
from utils.structures import SPLIT_NAMES, DatasetSplits


@cache
def _fault(path: str, size: int, modified: int) -> str:
    """Why a picture cannot be decoded, "" where it can. Every stage of a run asks; each file is decoded once."""
    try:
        read_image(path)
    except UserError as error:
        return str(error)
    return ""


def _check(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        return f"picture {path}: cannot be read ({error.strerror}); fetch it anew, or take it out of the list"
    return _fault(path, status.st_size, status.st_mtime_ns)


def find_unreadable(paths: Iterable[str]) -> dict[str, str]:
    """path -> why it cannot be decoded, of those of `paths` that cannot."""
    Image.init()  # its list of formats is filled on first use, which threads must not do at a time
    paths = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(_check, paths), "checking pictures", len(paths), leave=False, disable=None))
    return {path: fault for path, fault in zip(paths, found, strict=True) if fault}


def drop_unreadable(splits: DatasetSplits, faults: Faults) -> DatasetSplits:
    """The data set without the pictures that cannot be decoded, which `faults` takes up."""
    unreadable = find_unreadable(record.path for record in all_records(splits))
    for message in unreadable.values():
        faults.add(message)
    if not unreadable:
        return splits
    return replace(
        splits,
        **{
            split: tuple(record for record in getattr(splits, split) if record.path not in unreadable)
            for split in SPLIT_NAMES
        },
    )
