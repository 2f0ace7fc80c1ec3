"""Galleries that every repeat of a test samples anew, one image of each identity: VehicleID's protocol."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from utils.seeds import derive_generator
from utils.structures import ImageRecord


def sample_gallery(records: Sequence[ImageRecord], seed: int, repeat: int) -> np.ndarray:
    """Samples the gallery of a repeat: one image of every identity, uniformly.

    Args:
        records: all test images; their order does not matter.
        seed: SEED of the configuration.
        repeat: number of the repeat, from 0.

    Returns:
        (N,) bool: whether each image is in the gallery. The others are the queries.
    """
    images_of = defaultdict(list)
    for index in sorted(range(len(records)), key=lambda index: records[index].path):
        images_of[records[index].pid].append(index)
    rng = derive_generator(seed, "sampled gallery", repeat)
    chosen = [images[rng.integers(len(images))] for _, images in sorted(images_of.items())]
    return np.isin(np.arange(len(records)), chosen)
