"""The data sets of a configuration: the training sets of DATASETS.NAMES as one, and the test sets of DATASETS.TEST.

Identities, cameras and viewpoints of different training sets are different: they are numbered through, set by set, in
the order of DATASETS.NAMES.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from yacs.config import CfgNode

from datasets.readers.registry import read_one
from datasets.readers.validation import count_sides, labels_of
from utils.side_numbers import find_sides
from utils.structures import SPLIT_NAMES, DatasetSplits, ImageRecord, SetNumbers

logger = logging.getLogger(__name__)

TRAIN, TESTED = SPLIT_NAMES[:1], SPLIT_NAMES[1:]


def read_dataset(cfg: CfgNode, *, with_train: bool = True) -> DatasetSplits:
    """Reads the data sets that cfg.DATASETS names, and checks counts, matches and images as the keys there say.

    Args:
        cfg: configuration.
        with_train: read the training sets too; they must not be empty, and their images are checked.

    Returns:
        The training set, with the test sets as `tests`; a data set that is both is itself, without `tests`.

    Raises:
        UserError: an unknown name, or an error of the data on disk.
    """
    names = list(cfg.DATASETS.NAMES) if with_train else []
    tests = list(cfg.DATASETS.TEST or cfg.DATASETS.NAMES)
    needed = {name: (TRAIN if name in names else ()) + (TESTED if name in tests else ()) for name in [*names, *tests]}
    found = {name: read_one(cfg, name, splits) for name, splits in needed.items()}
    for name in tests:
        is_training = not cfg.DATASETS.TEST or name in cfg.DATASETS.NAMES
        found[name] = replace(found[name], is_training=is_training)
    tested = [found[name] for name in tests]
    if not with_train:
        return tested[0] if len(tested) == 1 else DatasetSplits((), (), (), name="+".join(tests), tests=tuple(tested))
    train = found[names[0]] if len(names) == 1 else join([found[name] for name in names])
    if tests == names and len(names) == 1:
        return train
    _log_unknown_sides(train, tested)
    return replace(train, tests=tuple(tested))


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


def _log_unknown_sides(train: DatasetSplits, tested: Sequence[DatasetSplits]) -> None:
    parts = parts_of(train)
    if unknown := [splits.title for splits in tested if find_sides(splits.name, parts) is None]:
        logger.info(
            "%s: no training set; with MODEL.SIE_CAMERA or SIE_VIEW, every image there gets the mean of the model's "
            "side vectors",
            ", ".join(unknown),
        )
