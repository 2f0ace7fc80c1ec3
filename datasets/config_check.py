"""Checks the keys of a configuration that this package reads, before anything is read or built."""

from collections.abc import Callable

from yacs.config import CfgNode

from datasets.readers.folder import compile_pattern
from datasets.readers.registry import find_reader
from datasets.readers.validation import labels_of
from datasets.samplers import check_batch_size, make_batch_sampler
from utils.distributed import world_size
from utils.errors import UserError
from utils.structures import DatasetSplits


def check(cfg: CfgNode, splits: DatasetSplits | None = None) -> None:
    """Checks the data set's name, the batch size and keys that contradict each other.

    Args:
        cfg: configuration.
        splits: what `read_dataset(cfg)` returned, to check as well that its training set gives a batch.

    Raises:
        UserError: names every key that is wrong, one per line.
    """
    checks: list[Callable[[], object]] = [
        lambda: find_reader(cfg.DATASETS.NAMES),
        lambda: _check_batch(cfg),
        lambda: _check_bad_images(cfg),
        lambda: cfg.DATASETS.NAMES == "folder" and compile_pattern(cfg.DATASETS.FOLDER.PATTERN),
        lambda: splits and make_batch_sampler(cfg, labels_of(splits), cfg.SEED),
    ]
    errors = []
    for run in checks:
        try:
            run()
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("\n".join(dict.fromkeys(errors)))


def _check_batch(cfg: CfgNode) -> None:
    with_triplets = cfg.DATALOADER.SAMPLER == "softmax_triplet"
    if with_triplets and cfg.DATALOADER.NUM_INSTANCE == 1:
        raise UserError(
            "DATALOADER.NUM_INSTANCE 1: the triplet loss compares an image with another of the same identity; expected "
            "at least 2 (DATALOADER.SAMPLER softmax does without)"
        )
    check_batch_size(cfg.SOLVER.IMS_PER_BATCH, world_size(), cfg.DATALOADER.NUM_INSTANCE if with_triplets else 1)


def _check_bad_images(cfg: CfgNode) -> None:
    if cfg.DATASETS.ON_BAD_IMAGE == "skip" and not cfg.DATASETS.CHECK_IMAGES:
        raise UserError(
            "DATASETS.ON_BAD_IMAGE skip: DATASETS.CHECK_IMAGES False looks for no damaged images; expected "
            "CHECK_IMAGES True, or ON_BAD_IMAGE error"
        )
