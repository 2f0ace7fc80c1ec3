"""The fingerprint of a training set: its images by content, and their identities and cameras.

File names, directories and times are not part of it: a copy elsewhere is the same training set, and an image that was
rewritten with other content is another one, whatever its name, size and time. All images are read once for it; decoding
them takes many times longer.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets.decoding import map_images
from datasets.readers.validation import count_sides, labels_of
from datasets.several_sets import set_of_images
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
        stamps: size and modification time of every image file, by path.
    """

    facts: dict[str, Any]
    stamps: dict[str, tuple[int, int]]

    def warn_of_changes(self) -> None:
        """Logs which image files were rewritten or removed since: training may have seen both contents."""
        changed = [path for path, stamp in self.stamps.items() if _stamp(path) != stamp]
        if changed:
            logger.warning(
                "%d training images changed on disk during training, the first is %s; the checkpoints are of neither "
                "content alone: train again into another OUTPUT_DIR",
                len(changed),
                changed[0],
            )


def read_training_set(splits: DatasetSplits) -> TrainingSet:
    """Reads every training image; of several processes on a machine, the first does.

    Raises:
        UserError: an image cannot be read.
    """
    paths = [record.path for record in splits.train]
    stamps = {path: _stamp(path) for path in paths}
    labels = labels_of(splits)
    digests = once_per_node(partial(map_images, _sha256_of, paths, "reading images"))
    total = hashlib.sha256()
    for record, label in zip(splits.train, labels, strict=True):
        total.update(f"{digests[record.path]} {label} {record.camid} {record.viewid}\n".encode())
    _warn_of_common_images(splits, digests)
    num_cameras, num_views = count_sides(splits)
    facts = {
        "images": len(paths),
        "identities": len(set(labels)),
        "cameras": num_cameras,
        "views": num_views,
        "sha256": total.hexdigest(),
    }
    return TrainingSet(facts, stamps)


def _warn_of_common_images(splits: DatasetSplits, digests: dict[str, str]) -> None:
    """Warns where several training sets have the same images, of what then counts as different identities."""
    first: dict[str, tuple[int, str]] = {}
    common = []
    for record, number in zip(splits.train, set_of_images(splits), strict=True):
        other, path = first.setdefault(digests[record.path], (number, record.path))
        if other != number:
            common.append(f"{path} and {record.path}")
    if common:
        logger.warning(
            "%s: %d images are in several of the training sets, e.g. %s; their identities count as different ones: "
            "leave one of the sets out",
            splits.name,
            len(common),
            common[0],
        )


def _stamp(path: str) -> tuple[int, int]:
    """Size and modification time; (-1, -1) where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _sha256_of(path: str) -> str:
    return hashlib.sha256(read_bytes(path, max_bytes=MAX_FILE_BYTES)).hexdigest()
