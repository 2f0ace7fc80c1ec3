"""Several training sets as one.

Identities, cameras and viewpoints of different training sets are different: they are numbered through, set by set, in
the order of DATASETS.NAMES.
"""

import logging
from collections.abc import Sequence

from datasets.readers.validation import count_sides, labels_of
from utils.structures import DatasetSplits, ImageRecord, SetNumbers

logger = logging.getLogger(__name__)


def join(sets: Sequence[DatasetSplits]) -> DatasetSplits:
    """The training images of several data sets as one set; see DatasetSplits."""
    records: list[ImageRecord] = []
    parts: list[SetNumbers] = []
    first_label = first_camera = first_view = 0
    for splits in sets:
        labels, (num_cameras, num_views) = labels_of(splits), count_sides(splits)
        records += (
            ImageRecord(record.path, first_label + label, first_camera + record.camid, first_view + record.viewid)
            for record, label in zip(splits.train, labels, strict=True)
        )
        parts.append(SetNumbers(splits.name, num_cameras, num_views, len(splits.train)))
        first_label += len(set(labels))
        first_camera, first_view = first_camera + num_cameras, first_view + num_views
    joint = DatasetSplits(tuple(records), (), (), name="+".join(splits.name for splits in sets), parts=tuple(parts))
    logger.info("training set %s: %d images of %d identities", joint.name, len(records), first_label)
    return joint


def parts_of(splits: DatasetSplits) -> tuple[SetNumbers, ...]:
    """The training sets of which `splits` consists, one or several."""
    return splits.parts or (SetNumbers(splits.name, *count_sides(splits), len(splits.train)),)


def set_of_images(splits: DatasetSplits) -> list[int]:
    """The number, from 0, of the data set of every training image."""
    return [number for number, part in enumerate(parts_of(splits)) for _ in range(part.num_images)]
