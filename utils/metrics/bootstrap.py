"""Confidence intervals of a difference between two models: paired bootstrap over queries, and over seeds.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval). Both models are tested
on the same queries, so what is resampled is the difference of each query (Koehn, EMNLP 2004,
https://aclanthology.org/W04-3250).
"""

from typing import NamedTuple

import numpy as np

from utils.errors import UserError

SAMPLES = 10_000
LEVEL = 0.95
BLOCK = 2**22  # indices in memory at a time


class Interval(NamedTuple):
    """A mean difference and its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    differences: np.ndarray, *, over_seeds: bool = False, samples: int = SAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Bootstraps the mean difference between two models, each trained with the same seeds.

    Each sample draws queries with replacement, the same ones for every seed, since all seeds are tested on them.

    Args:
        differences: (S, Q), for each seed and query one model's value minus the other's, e.g. average precision.
        over_seeds: each sample draws seeds too: the interval then says what other seeds and queries may give.
            Otherwise it says what other queries may give to these models.
        samples: bootstrap samples.
        level: of confidence.
        seed: of the samples.

    Raises:
        UserError: no seed, no query, or a difference that is not finite.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim != 2 or not differences.size or not np.isfinite(differences).all():
        raise UserError(
            f"paired_bootstrap: differences of shape {differences.shape}; expected finite numbers (seeds, queries), at "
            "least one of each"
        )
    rng = np.random.default_rng(seed)
    num_seeds, num_queries = differences.shape
    rows = max(BLOCK // num_queries, 1)
    means: np.ndarray = np.empty((samples, num_seeds))  # of the drawn queries
    for start in range(0, samples, rows):
        queries = rng.integers(num_queries, size=(min(rows, samples - start), num_queries))
        for position, of_seed in enumerate(differences):
            means[start : start + rows, position] = of_seed[queries].mean(axis=1)
    if over_seeds:
        means = np.take_along_axis(means, rng.integers(num_seeds, size=(samples, num_seeds)), axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(means.mean(axis=1), [tail, 100 - tail])
    return Interval(float(differences.mean()), float(low), float(high))
