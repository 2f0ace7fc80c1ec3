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

    Args:
        differences: (S, Q), for each seed and query one model's value minus the other's, e.g. average precision.
        over_seeds: also resample the seeds: the interval then says what other seeds may give. Otherwise the queries
            are resampled within each seed, and it says what other queries may give to these models.
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
    sums = np.zeros(samples)
    for position in range(num_seeds):  # each adds the mean over resampled queries of one seed
        for start in range(0, samples, rows):
            count = min(rows, samples - start)
            chosen = rng.integers(num_seeds, size=count) if over_seeds else np.full(count, position)
            queries = rng.integers(num_queries, size=(count, num_queries))
            sums[start : start + count] += differences[chosen[:, None], queries].mean(axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(sums / num_seeds, [tail, 100 - tail])
    return Interval(float(differences.mean()), float(low), float(high))
