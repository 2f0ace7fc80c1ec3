"""Whether pictures can be decoded, found out before the first batch."""

import os
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from PIL import Image
from tqdm import tqdm

from utils.errors import UserError
from utils.images import read_image
from utils.structures import SPLIT_NAMES, DatasetSplits


def _fault(path: str) -> str:
    """Why a picture cannot be decoded, "" where it can."""
    try:
        read_image(path)
    except UserError as error:
        return str(error)
    return ""


def find_unreadable(paths: Iterable[str]) -> dict[str, str]:
    """path -> why it cannot be decoded, of those of `paths` that cannot."""
    Image.init()  # its list of formats is filled on first use, which threads must not do at a time
    paths = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(tqdm(pool.map(_fault, paths), "checking pictures", len(paths), leave=False, disable=None))
    return {path: fault for path, fault in zip(paths, found, strict=True) if fault}


def leave_out(splits: DatasetSplits, paths: Collection[str]) -> DatasetSplits:
    """The data set without some of its pictures."""
    kept = {
        split: tuple(record for record in getattr(splits, split) if record.path not in paths) for split in SPLIT_NAMES
    }
    return replace(splits, **kept)
