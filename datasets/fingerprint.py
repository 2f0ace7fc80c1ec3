"""What of the training set determines the weights: its images by content, and their identities and cameras.

Neither names, places nor times of files are part of it: a copy elsewhere is the same training set, and an image that
was written anew with other content is another one, whatever its name, size and time. All images are read once for it,
in the order of training; decoding them takes many times longer.
"""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from tqdm import tqdm

from datasets.readers.validation import all_records
from utils.distributed import once_per_node
from utils.files import read_bytes
from utils.structures import DatasetSplits

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 2**32  # of an image


@dataclass(frozen=True)
class TrainingSet:
    """A training set as it was when its images were read.

    Attributes:
        facts: {"images", "identities", "cameras", "views", "sha256"}. Cameras and viewpoints are counted over all
            splits, as the tables of a model with side information are.
        stamps: size and time of change of every image file, by path.
    """

    facts: dict[str, Any]
    stamps: dict[str, tuple[int, int]]

    def warn_of_changes(self) -> None:
        """Logs which images were written anew or removed since: what was trained meanwhile saw both contents."""
        changed = [path for path, stamp in self.stamps.items() if _stamp(path) != stamp]
        if changed:
            logger.warning(
                "%d training images changed on disk while they were trained with, the first is %s; the checkpoints are "
                "of neither content alone: train anew into another OUTPUT_DIR", len(changed), changed[0],
            )  # fmt: skip


def read_training_set(splits: DatasetSplits) -> TrainingSet:
    """Reads every training image; of several processes on a machine, the first does.

    Raises:
        UserError: an image that cannot be read.
    """
    paths = [record.path for record in splits.train]
    stamps = {path: _stamp(path) for path in paths}
    labels = {pid: label for label, pid in enumerate(sorted({record.pid for record in splits.train}))}
    digest = hashlib.sha256()
    for record, content in zip(splits.train, once_per_node(partial(_sha256_of_all, paths)), strict=True):
        digest.update(f"{content} {labels[record.pid]} {record.camid} {record.viewid}\n".encode())
    facts = {
        "images": len(paths),
        "identities": len(labels),
        "cameras": 1 + max(record.camid for record in all_records(splits)),
        "views": 1 + max(record.viewid for record in all_records(splits)),
        "sha256": digest.hexdigest(),
    }
    return TrainingSet(facts, stamps)


def _stamp(path: str) -> tuple[int, int]:
    """Size and time of change; (-1, -1) where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _sha256_of_all(paths: list[str]) -> list[str]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tqdm(pool.map(_sha256_of, paths), "reading images", len(paths), leave=False, disable=None))


def _sha256_of(path: str) -> str:
    return hashlib.sha256(read_bytes(path, max_bytes=MAX_FILE_BYTES)).hexdigest()
