"""Splits of custom data, which folder.py and csv_list.py read: docs/own-data.md.

Splits that are not given are sampled. The sample depends on DATASETS.SPLIT.SEED alone, identity by identity, so that
runs with different SEEDs share a split, and a new identity changes no other identity's queries.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable

from datasets.readers.file_errors import FileErrors
from datasets.readers.numbering import CustomImage, Numbered, number_images
from datasets.sampled_queries import sample_queries
from utils.errors import UserError
from utils.seeds import derive_generator
from utils.structures import SPLIT_NAMES, DatasetSplits

logger = logging.getLogger(__name__)

# Splits that are sampled from: TEST into query and gallery, ALL into training and test identities.
TEST, ALL = "test", "all"


def make_splits(
    images: Iterable[CustomImage],
    errors: FileErrors,
    *,
    name: str,
    version: str,
    root: str,
    seed: int,
    train_share: float,
    sample_train: bool = False,
    numeric: Collection[str] = (),
) -> DatasetSplits:
    """Numbers identities, cameras and viewpoints, and samples the splits that are not given.

    Args:
        images: all of the data set; those of each split keep their order.
        errors: collects images that cannot be numbered.
        name, version, root: see DatasetSplits.
        seed: of the sampling.
        train_share: fraction of the identities that are sampled for training.
        sample_train: sample training identities from those that both query and gallery have; all their images go to
            the training set. Queries that the gallery has no identity for are left out.
        numeric: see `number_images`.

    Raises:
        UserError: too many cameras, or nothing to sample from.
    """
    readable = [image for image in images if image.path not in errors.damaged]
    numbered, has_cameras, pid_names = number_images(readable, errors, numeric)
    if not has_cameras:
        logger.info("%s (%s): no cameras known; a match may come from any camera", name, version)
    splits = {split: [image for image in numbered if image.split == split] for split in (*SPLIT_NAMES, TEST, ALL)}
    left_out = f"\n{len(errors.messages)} left out before, the first: {errors.messages[0]}" if errors.messages else ""
    if sample_train:
        _sample_train_of_both(splits, seed, train_share, left_out)
    if splits[ALL]:
        train_pids = _sample_train_pids(splits[ALL], seed, train_share, left_out)
        for image in splits[ALL]:
            splits["train" if image.record.pid in train_pids else TEST].append(image)
    if splits[TEST]:
        queries = _sample_queries(splits[TEST], root, seed, has_cameras, left_out)
        for image in splits[TEST]:
            splits["query" if image.record.path in queries else "gallery"].append(image)
    train, query, gallery = (tuple(image.record for image in splits[split]) for split in SPLIT_NAMES)
    found = DatasetSplits(
        train,
        query,
        gallery,
        name=name,
        version=version,
        root=root,
        has_cameras=has_cameras,
        pid_names=pid_names,
    )
    common = {record.pid for record in train} & {record.pid for record in (*query, *gallery)}
    if common:
        logger.warning(
            "%s: %d identities are in the training and in the test set; results say little about unseen identities",
            found.title,
            len(common),
        )
    return found


def _by_identity(images: list[Numbered]) -> dict[int, list[Numbered]]:
    identities = defaultdict(list)
    for image in images:
        identities[image.record.pid].append(image)
    return identities


def _sample_train_pids(images: list[Numbered], seed: int, train_share: float, left_out: str) -> set[int]:
    pids = sorted(_by_identity(images))
    if len(pids) < 2:
        raise UserError(
            f"one identity alone, {images[0].name}, in {len(images)} images: expected at least two, one to train with "
            f"and one to test with{left_out}"
        )
    number = min(max(round(train_share * len(pids)), 1), len(pids) - 1)
    order = derive_generator(seed, "own-data", "train").permutation(len(pids))
    message = "sampled with DATASETS.SPLIT.SEED %d: %d of %d identities for training, %d for testing"
    logger.info(message, seed, number, len(pids), len(pids) - number)
    return {pids[index] for index in order[:number]}


def _sample_train_of_both(splits: dict[str, list[Numbered]], seed: int, train_share: float, left_out: str) -> None:
    """Moves the images of sampled identities from query and gallery to train."""
    query, gallery = splits["query"], splits["gallery"]
    both = _by_identity(query).keys() & _by_identity(gallery).keys()
    if not both:
        raise UserError(f"no identity is in both query and gallery, so none can be tested{left_out}")
    train_pids = _sample_train_pids([image for image in query if image.record.pid in both], seed, train_share, left_out)
    splits["train"] = [image for image in (*query, *gallery) if image.record.pid in train_pids]
    splits["query"] = [image for image in query if image.record.pid in both - train_pids]
    splits["gallery"] = [image for image in gallery if image.record.pid not in train_pids]
    unmatched = len({image.record.pid for image in query} - both)
    alone = len({image.record.pid for image in gallery} - both)
    if unmatched or alone:
        message = "%d identities of query that the gallery does not have are left out; %d are in the gallery alone"
        logger.info(message, unmatched, alone)


def _sample_queries(images: list[Numbered], root: str, seed: int, has_cameras: bool, left_out: str) -> set[str]:
    """Paths of queries that keep a match in the gallery, by another camera where cameras are known."""
    identities = _by_identity(images)
    sampled = {pid: _sample_queries_of(own, root, seed, has_cameras) for pid, own in identities.items()}
    queries = {path for paths in sampled.values() for path in paths}
    if not queries:
        why = (
            "each is seen by one camera alone, and a match counts only if another camera took it. Leave camid out to "
            "search without cameras"
            if has_cameras
            else "each has one image alone"
        )
        raise UserError(
            f"no query can be sampled from {len(images)} images of {len(identities)} identities: {why}{left_out}"
        )
    with_queries = sum(map(bool, sampled.values()))
    message = (
        "sampled with DATASETS.SPLIT.SEED %d: %d queries of %d identities; %d other identities are in the gallery alone"
    )
    logger.info(message, seed, len(queries), with_queries, len(sampled) - with_queries)
    return queries


def _sample_queries_of(images: list[Numbered], root: str, seed: int, has_cameras: bool) -> list[str]:
    rng = derive_generator(seed, "own-data", "query", min(image.name for image in images))
    return sample_queries([image.record for image in images], rng, root=root, has_cameras=has_cameras)
