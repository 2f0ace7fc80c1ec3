"""What readers share: counts, and the checks of every data set that was read."""

import logging
import os
from collections import defaultdict

from utils.errors import UserError
from utils.structures import SPLIT_NAMES, Counts, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

DISTRACTOR_PID = 0
SHOWN = 5  # names that a message quotes
# Numbers that a file name may give; larger ones come from a misread name, and would make a table of that many cameras.
MAX_PID, MAX_CAMERAS = 10**9, 10**4


def count(splits: DatasetSplits, split: str) -> Counts:
    """Images and identities of a split; distractors are images of no identity."""
    pids = {record.pid for record in getattr(splits, split)}
    if splits.has_distractors:
        pids.discard(DISTRACTOR_PID)
    return Counts(len(getattr(splits, split)), len(pids))


def all_records(splits: DatasetSplits) -> tuple[ImageRecord, ...]:
    return (*splits.train, *splits.query, *splits.gallery)


def count_sides(splits: DatasetSplits) -> tuple[int, int]:
    """Numbers of cameras and of viewpoints of all splits, which the tables of a model with side information have."""
    if splits.parts:
        return sum(part.num_cameras for part in splits.parts), sum(part.num_views for part in splits.parts)
    records = all_records(splits)
    return 1 + max((r.camid for r in records), default=0), 1 + max((r.viewid for r in records), default=0)


def labels_of(splits: DatasetSplits) -> list[int]:
    """The label from 0, in the order of pids, of every training image."""
    label_of = {pid: label for label, pid in enumerate(sorted({record.pid for record in splits.train}))}
    return [label_of[record.pid] for record in splits.train]


def seed_label(path: str, root: str) -> str:
    """The name of an image that its corruption is seeded from, with forward slashes.

    Below `root`, however the two are written (through links, relative or absolute), it is the path below `root`, so
    that a copy elsewhere is corrupted alike. For other images it is what names them: a path that starts at `root` and
    leaves it by `..` as it is, else the absolute path, which does not depend on where `root` lies.
    """
    label = os.path.relpath(path, root)
    starts_at_root = not os.path.isabs(path) or path.startswith(os.path.join(root, ""))
    if _leaves(label) and not starts_at_root:
        directory, name = os.path.split(path)
        label = os.path.relpath(os.path.join(os.path.realpath(directory), name), os.path.realpath(root))
        if _leaves(label):
            label = os.path.normpath(path)
    return label.replace(os.sep, "/")


def _leaves(relative: str) -> bool:
    return relative.split(os.sep, 1)[0] == os.pardir


def report_spellings(spellings: dict[int, set[str]], title: str) -> None:
    """Warns where file names write one pid in several ways, as 1 and 0001: pid -> its texts."""
    several = [" = ".join(sorted(texts)) for texts in spellings.values() if len(texts) > 1]
    if several:
        more = ", ..." if len(several) > SHOWN else ""
        message = "%s: %d identities are written in several ways; pids are numbers there, so each is one identity: %s%s"
        logger.warning(message, title, len(several), ", ".join(several[:SHOWN]), more)


def cameras_of(splits: DatasetSplits) -> set[int]:
    return {record.camid for record in all_records(splits)}


def differences(splits: DatasetSplits) -> dict[str, str]:
    """Where the counts are not the published ones: split, or "cameras" -> a text with both."""
    found = {}
    for split in SPLIT_NAMES:
        here, published = count(splits, split), splits.published.get(split)
        if published and not all(p in (None, h) for h, p in zip(here, published, strict=True)):
            found[split] = f"{split}: {here.describe()}, published {published.describe()}"
    cameras = len(cameras_of(splits))
    if splits.published and splits.published_cameras not in (0, cameras):
        found["cameras"] = f"cameras: {cameras}, published {splits.published_cameras}"
    return found


def check_counts(splits: DatasetSplits, *, refuse: bool) -> None:
    """Raises UserError where counts are not the published ones; with `refuse` False, logs a warning."""
    if found := differences(splits):
        message = f"{splits.root}: not {splits.title} as published: " + "; ".join(found.values())
        if refuse:
            raise UserError(f"{message}. Unpack the archive again, or accept a subset with DATASETS.CHECK_COUNTS False")
        logger.warning("%s", message)


def queries_without_match(splits: DatasetSplits) -> list[str]:
    """Paths of the queries that nothing in the gallery can match.

    A match has the same pid, by another camera or, where cameras are not known, in another file.
    """

    def source(record: ImageRecord) -> int | str:
        return record.camid if splits.has_cameras else os.path.realpath(record.path)

    sources = defaultdict(set)
    for record in splits.gallery:
        sources[record.pid].add(source(record))
    return [record.path for record in splits.query if not sources[record.pid] - {source(record)}]


def describe_without_match(splits: DatasetSplits, paths: list[str], *, shown: int) -> str:
    """A message about queries without a match that quotes the first ones."""
    expected = "by another camera" if splits.has_cameras else "in another file"
    more = ", ..." if len(paths) > shown else ""
    return (
        f"{len(paths)} of {len(splits.query)} queries have no match in the gallery, the same identity {expected}: "
        f"{', '.join(paths[:shown])}{more}"
    )


def check_matches(splits: DatasetSplits) -> None:
    """Raises UserError where no query has a match in the gallery; warns where some have none."""
    paths = queries_without_match(splits)
    if not paths:
        return
    message = f"{splits.title}: {describe_without_match(splits, paths, shown=1)}"
    if len(paths) == len(splits.query):
        raise UserError(f"{message}; check that query and gallery share identities, and their cameras")
    logger.warning("%s; they do not count", message)


def check_not_empty(splits: DatasetSplits, names: tuple[str, ...]) -> None:
    """Raises UserError where one of the splits in `names` is empty."""
    for split in names:
        if not getattr(splits, split):
            if splits.published and split not in splits.published:
                raise UserError(
                    f"{splits.title} has no {split} set, it is for tests alone: train on another data set, and give "
                    "the checkpoint to test.py as TEST.WEIGHT"
                )
            raise UserError(
                f"{splits.root}: no images for the {split} set of {splits.title}; unpack the archive again, or check "
                "the keys below DATASETS"
            )
