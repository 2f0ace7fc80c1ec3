"""Makes sure that no model is evaluated on validation identities that it was trained on."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from yacs.config import CfgNode

from utils.errors import UserError
from utils.held_back import HeldBack, identities_digest, read_held_back
from utils.side_numbers import find_sides
from utils.structures import DatasetSplits, SetNumbers

logger = logging.getLogger(__name__)


def match_validation(cfg: CfgNode, path: str) -> CfgNode:
    """Where cfg.TEST.SPLIT is validation and VALIDATION_SHARE 0, takes share and seed from the checkpoint.

    Args:
        cfg: configuration.
        path: the checkpoint to test.

    Returns:
        `cfg`, or a frozen clone with the checkpoint's values.

    Raises:
        UserError: the checkpoint held no identities back.
    """
    if cfg.TEST.SPLIT != "validation" or cfg.DATASETS.VALIDATION_SHARE:
        return cfg
    found = read_held_back(path)
    if found is None or not found.share:
        raise UserError(
            f"TEST.SPLIT validation: checkpoint {path} held no identities back in training; train with "
            "DATASETS.VALIDATION_SHARE, e.g. 0.2, or give the share for a model that was trained on other data"
        )
    logger.info("checkpoint %s: DATASETS.VALIDATION_SHARE %g, VALIDATION_SEED %d", path, found.share, found.seed)
    matched = cfg.clone()
    matched.defrost()
    matched.DATASETS.VALIDATION_SHARE, matched.DATASETS.VALIDATION_SEED = found.share, found.seed
    matched.freeze()
    return matched


def check_validation(validation: Sequence[DatasetSplits], files: Mapping[str, str]) -> None:
    """Makes sure that models which start or are tested here were not trained on the identities held back here.

    Args:
        validation: the validation sets.
        files: checkpoints by the key that names each; names that are no files are left out.

    Raises:
        UserError: a file, or one that it was initialised from, was trained on one of the data sets with other
            identities held back, or none.
    """
    for key, path in files.items():
        if validation and Path(path).is_file():
            _check_file(validation, key, path)


def _check_file(validation: Sequence[DatasetSplits], key: str, path: str) -> None:
    found = read_held_back(path)
    for training in () if found is None else (found, *found.earlier):
        subject = "" if training is found else "a model that its initial weights come from "
        _check_training(validation, training, f"{key} {path}: {subject}")


def _check_training(validation: Sequence[DatasetSplits], found: HeldBack, subject: str) -> None:
    """Checks one training of the chain that a file comes from; `subject`: what was trained, for the message."""
    for splits in validation:
        known = find_sides(splits.name, (SetNumbers(name, 1, 1) for name in found.trained_on))
        if known is None:  # trained on other data
            continue
        there, here = found.digests.get(known.numbers.name), identities_digest(splits)
        if there != here:
            raise UserError(
                f"{subject}{_describe(found, there)} of {splits.name} when it was trained, not those that "
                f"DATASETS.VALIDATION_SHARE and VALIDATION_SEED hold back here; it may know the validation identities. "
                "Give the keys below DATASETS that it was trained with, or train it again"
            )


def _describe(found: HeldBack, digest: str | None) -> str:
    if digest is None:
        return "held back no identities"
    return f"held back other identities (VALIDATION_SHARE {found.share:g}, VALIDATION_SEED {found.seed})"
