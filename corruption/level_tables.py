"""Sampling of noise whose distribution depends on the grey level alone: a table of 32-bit thresholds for each level."""

import numpy as np


def make_tables(cumulative: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverts cumulative distributions for 32-bit uniform numbers.

    Args:
        cumulative: (256, K) probabilities of outcome k or a smaller one, for each grey level; K at most 256.

    Returns:
        thresholds: (256, K) uint32, the largest number that gives outcome k or a smaller one.
        guide: (256, 256) uint8, the smallest outcome that a number with these upper eight bits can give.
    """
    thresholds = np.clip(np.rint(cumulative * 2.0**32) - 1, 0, 2**32 - 1).astype(np.uint32)
    starts = np.arange(256, dtype=np.uint32) << 24
    guide = np.stack([np.searchsorted(row[:-1], starts) for row in thresholds])
    return thresholds, guide.astype(np.uint8)


def sample_on_arrays(
    image: np.ndarray,
    uniforms: np.ndarray,
    thresholds: np.ndarray,
    guide: np.ndarray,
    values: np.ndarray,
    out: np.ndarray,
) -> None:
    """For each grey level x and 32-bit uniform u, writes values[k], k the smallest with u <= thresholds[x, k].

    What the compiled `sample_by_level` computes, without a guide; it runs where the extension is not built.
    """
    for level in np.unique(image):
        where = image == level
        out[where] = values[np.searchsorted(thresholds[level, :-1], uniforms[where])]


try:
    from corruption._kernels import sample_by_level
except ImportError:  # not built, or cannot be loaded: the same values, slower
    sample_by_level = sample_on_arrays
