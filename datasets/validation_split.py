"""Identities of a training set that are held back for validation: DATASETS.VALIDATION_SHARE.

Which identities and queries these are depends on DATASETS.VALIDATION_SEED and on the identities and images of the
training set alone, so that runs with different SEEDs share them.
"""

import logging
import os
from collections import defaultdict
from dataclasses import replace

from datasets.readers.validation import count_sides, seed_label
from datasets.sampled_queries import sample_queries
from utils.errors import UserError
from utils.seeds import derive_generator, derive_seed
from utils.structures import DatasetSplits, ImageRecord, SetNumbers

logger = logging.getLogger(__name__)

MIN_IDENTITIES = 2  # of a validation set, and left in training: one alone can be confused with no other


def hold_back(splits: DatasetSplits, *, share: float, seed: int) -> DatasetSplits:
    """Moves identities from the training set of a data set into a validation set of its own.

    Identities without a possible match (by another camera; where cameras are not known, in another file) stay in
    training. Of each held-back identity, the query set has one image of every camera, the gallery the others
    (`sample_queries`); of a data set that samples its gallery, both have all images.

    Args:
        splits: one data set.
        share: of the identities of its training set.
        seed: of the sampling.

    Returns:
        The data set with the rest as `train`, and the validation set as `validation`. Both count cameras and viewpoints
        as the data set did.

    Raises:
        UserError: too few identities to hold back, or left to train on.
    """
    images = defaultdict(list)
    for record in splits.train:
        images[record.pid].append(record)
    matched = [pid for pid, records in images.items() if _has_match(records, splits)]
    number = round(share * len(images))
    _check_number(splits, share, number, matched=len(matched), total=len(images))
    # An order that depends on each identity alone: another identity of the set changes no other one's place. It is by
    # name, since pids of named identities follow the order of all names.
    order = sorted(matched, key=lambda pid: derive_seed(seed, "validation", "identity", splits.name_of(pid)))
    held_back = set(order[:number])
    train = tuple(record for record in splits.train if record.pid not in held_back)
    held = tuple(record for record in splits.train if record.pid in held_back)
    query = gallery = held
    if not splits.samples_gallery:
        queries = {path for pid in held_back for path in _queries_of(images[pid], splits, seed)}
        query = tuple(record for record in held if record.path in queries)
        gallery = tuple(record for record in held if record.path not in queries)
    logger.info(
        "%s: with DATASETS.VALIDATION_SEED %d, %d of %d identities are held back for validation: %d queries, %d images "
        "in the gallery; %d identities whose queries would have no match stay in training",
        *(splits.title, seed, number, len(images), len(query), len(gallery), len(images) - len(matched)),
    )
    numbers = SetNumbers(splits.name, *count_sides(splits))
    validation = replace(
        splits,
        train=(),
        query=query,
        gallery=gallery,
        has_distractors=False,
        published={},
        published_cameras=0,
        is_validation=True,
        parts=(numbers,),
    )
    return replace(splits, train=train, parts=(numbers._replace(num_images=len(train)),), validation=(validation,))


def _has_match(records: list[ImageRecord], splits: DatasetSplits) -> bool:
    """Whether one image of an identity can match another."""
    if splits.has_cameras:
        return len({record.camid for record in records}) > 1
    return len({os.path.realpath(record.path) for record in records}) > 1


def _queries_of(records: list[ImageRecord], splits: DatasetSplits, seed: int) -> list[str]:
    first = min(seed_label(record.path, splits.root) for record in records)
    rng = derive_generator(seed, "validation", "query", first)
    return sample_queries(records, rng, root=splits.root, has_cameras=splits.has_cameras)


def _check_number(splits: DatasetSplits, share: float, number: int, *, matched: int, total: int) -> None:
    most = min(matched, total - MIN_IDENTITIES)
    if MIN_IDENTITIES <= number <= most:
        return
    source = "by two cameras" if splits.has_cameras else "in two files"
    found = f"{number} of the {total} identities of {splits.title}, {matched} of which have images {source}"
    advice = (
        f"expected {MIN_IDENTITIES} to {most} of them, a share of {MIN_IDENTITIES / total:.4f} to {most / total:.4f}"
        if most >= MIN_IDENTITIES
        else f"expected at least {MIN_IDENTITIES}, and {MIN_IDENTITIES} left to train on; leave it 0 for this set"
    )
    raise UserError(f"DATASETS.VALIDATION_SHARE {share:g}: holds back {found}; {advice}")
