"""The definition of CMC, AP and INP, one query at a time. utils.metrics.ranking is fast and tested against this file.

CMC and AP: Zheng et al., Scalable Person Re-identification, ICCV 2015. INP: Ye et al., Deep Learning for Person
Re-identification: A Survey and Outlook, TPAMI 2021, section 4.2.

Conventions of the field:

- Market-1501's junk rule: gallery entries of the query's identity and camera do not count, nor do junk entries
  (pid -1). Distractors (pid 0) stay, as wrong matches. Ties rank in gallery order.
- A query without a match in what counts is left out of every mean.
- ap="step", the usual one: mean of hits / rank over the matches. ap="trapezoid", of Market-1501's official script: the
  precision of a match is the mean of the precisions at the match and just before it, which gives lower values.
"""

from typing import NamedTuple

import numpy as np

from utils.structures import JUNK_PID


class QueryMetrics(NamedTuple):
    """Metrics of one query, fractions in [0, 1]."""

    cmc: np.ndarray  # (K,) 0 or 1; cmc[k - 1]: whether a match is among the first k
    ap: float  # average precision
    inp: float  # inverse negative penalty: number of matches / rank of the last one


def rank_gallery(distances: np.ndarray, pid: int, camid: int, g_pids: np.ndarray, g_camids: np.ndarray) -> np.ndarray:
    """Indices (K,) of the gallery entries that count for a query, nearest first; `distances` is (G,)."""
    kept = np.flatnonzero(~((g_pids == pid) & (g_camids == camid)) & (g_pids != JUNK_PID))
    return kept[np.argsort(distances[kept], kind="stable")]


def query_metrics(
    distances: np.ndarray, pid: int, camid: int, g_pids: np.ndarray, g_camids: np.ndarray, *, ap: str = "step"
) -> QueryMetrics | None:
    """CMC, AP and INP of one query; None where it has no match."""
    is_match = g_pids[rank_gallery(distances, pid, camid, g_pids, g_camids)] == pid  # (K,)
    ranks = np.flatnonzero(is_match) + 1  # of the M matches, from 1
    if len(ranks) == 0:
        return None
    hits = np.arange(1, len(ranks) + 1)
    precision = hits / ranks
    if ap == "trapezoid":
        before = [(hit - 1) / (rank - 1) if rank > 1 else 1 for hit, rank in zip(hits, ranks, strict=True)]
        precision = (precision + before) / 2
    return QueryMetrics(is_match.cumsum() > 0, precision.mean(), len(ranks) / ranks[-1])
