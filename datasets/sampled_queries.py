"""Queries that are sampled from the images of an identity, as Market-1501's are: one image of each camera."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from utils.structures import ImageRecord


def sample_queries(
    records: Iterable[ImageRecord], rng: np.random.Generator, *, root: str, has_cameras: bool
) -> list[str]:
    """Samples queries that keep a match in the gallery, which has the identity's other images.

    Args:
        records: all images of one identity; their order does not matter.
        rng: sampled from.
        root: of the data set.
        has_cameras: whether cameras are known; a match is then by another camera, else another image.

    Returns:
        Paths: one image of every camera that has two, or else one of all; none where no query would have a match.
    """
    by_camera = defaultdict(list)
    # Independent of the order of listing, and of where the root lies beside what a list names by its absolute path.
    for record in sorted(records, key=lambda record: record.path.removeprefix(f"{root}/")):
        by_camera[record.camid].append(record.path)
    if sum(map(len, by_camera.values())) < 2 or (has_cameras and len(by_camera) < 2):
        return []
    several = [paths for paths in by_camera.values() if len(paths) > 1]
    if not several:
        several = [[path for paths in by_camera.values() for path in paths]]
    return [paths[rng.integers(len(paths))] for paths in several]
