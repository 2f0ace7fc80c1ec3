"""Checks the keys of a configuration that this package reads, before anything is read or built."""

from collections.abc import Callable
from functools import partial

from yacs.config import CfgNode

from datasets.readers.folder import compile_pattern
from datasets.readers.registry import check_spellings, find_reader, reader_name
from datasets.readers.validation import labels_of
from datasets.samplers import check_balance, check_batch_size, make_batch_sampler
from datasets.several_sets import set_of_images
from utils.distributed import world_size
from utils.errors import UserError
from utils.structures import DatasetSplits


def check(cfg: CfgNode, splits: DatasetSplits | None = None) -> None:
    """Checks the data sets' names, the batch size and keys that contradict each other.

    Args:
        cfg: configuration.
        splits: what `read_dataset(cfg)` returned, to check as well that its training set gives a batch.

    Raises:
        UserError: names every key that is wrong, one per line.
    """
    given = (*cfg.DATASETS.NAMES, *cfg.DATASETS.TEST)
    checks: list[Callable[[], object]] = [
        *(partial(find_reader, name) for name in cfg.DATASETS.NAMES),
        *(partial(find_reader, name, "DATASETS.TEST") for name in cfg.DATASETS.TEST),
        lambda: check_spellings(cfg),
        lambda: _check_batch(cfg),
        lambda: _check_bad_images(cfg),
        lambda: "folder" in map(reader_name, given) and compile_pattern(cfg.DATASETS.FOLDER.PATTERN),
        lambda: splits and make_batch_sampler(cfg, labels_of(splits), cfg.SEED, set_of_images(splits)),
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
    num_instances = cfg.DATALOADER.NUM_INSTANCE if with_triplets else 1
    check_batch_size(cfg.SOLVER.IMS_PER_BATCH, world_size(), num_instances)
    if len(cfg.DATASETS.NAMES) > 1 and cfg.DATALOADER.BALANCE == "sets":
        check_balance(cfg.SOLVER.IMS_PER_BATCH, len(cfg.DATASETS.NAMES), num_instances)


def _check_bad_images(cfg: CfgNode) -> None:
    if cfg.DATASETS.ON_BAD_IMAGE == "skip" and not cfg.DATASETS.CHECK_IMAGES:
        raise UserError(
            "DATASETS.ON_BAD_IMAGE skip: DATASETS.CHECK_IMAGES False looks for no damaged images; expected "
            "CHECK_IMAGES True, or ON_BAD_IMAGE error"
        )
