"""Retrieval metrics of person re-identification: CMC, mAP and mINP under the Market-1501 junk rule.

CMC and mAP: Zheng et al., Scalable Person Re-identification, ICCV 2015. mINP: Ye et al., Deep Learning for Person
Re-identification: A Survey and Outlook, TPAMI 2021, section 4.2. For every query, gallery entries of the same identity
seen by the same camera are left out, and so are junk entries (pid -1); distractors (pid 0) stay as wrong answers.
"""

from dataclasses import dataclass

import numpy as np
import torch

from utils.errors import UserError
from utils.structures import FeatureSet, RetrievalMetrics

JUNK_PID = -1
BACKENDS = ("auto", "numpy")
METRICS = ("euclidean", "cosine")
BLOCK_BYTES = 128 * 2**20  # of one block of distances in evaluate_features


@dataclass
class _Sums:
    """Totals over the valid queries seen so far."""

    ap: float
    inp: float
    cmc: np.ndarray
    num_queries: int = 0
    num_valid: int = 0

    def metrics(self) -> RetrievalMetrics:
        if not self.num_valid:
            raise UserError(
                f"none of the {self.num_queries} queries has a match in the gallery from another camera; "
                "check that query and gallery share identities, and their camera ids"
            )
        return RetrievalMetrics(
            mAP=self.ap / self.num_valid,
            mINP=self.inp / self.num_valid,
            cmc=self.cmc / self.num_valid,
            num_queries=self.num_queries,
            num_valid_queries=self.num_valid,
        )


def rank_gallery(distances: np.ndarray, pid: int, camid: int, g_pids: np.ndarray, g_camids: np.ndarray) -> np.ndarray:
    """Gallery indices that count for a query (pid, camid), nearest first, ties in gallery order; `distances` (G,)."""
    kept = np.flatnonzero(~((g_pids == pid) & (g_camids == camid)) & (g_pids != JUNK_PID))
    return kept[np.argsort(distances[kept], kind="stable")]


def _add_rows(sums: _Sums, distances, q_pids, g_pids, q_camids, g_camids, first_query: int = 0) -> None:
    """Adds the queries of a block of distances (rows, G) to `sums`; ties rank in gallery order."""
    for row, (pid, camid) in enumerate(zip(q_pids, q_camids, strict=True)):
        if np.isnan(distances[row]).any():
            raise UserError(
                f"query {first_query + row}: its distances hold NaN; check its features for non-finite values"
            )
        ranking = rank_gallery(distances[row], pid, camid, g_pids, g_camids)
        ranks = np.flatnonzero(g_pids[ranking] == pid) + 1  # of the true matches, from 1
        sums.num_queries += 1
        if not len(ranks):
            continue
        sums.num_valid += 1
        hits = np.arange(1, len(ranks) + 1)
        sums.ap += float(np.mean(hits / ranks))
        sums.inp += len(ranks) / float(ranks[-1])
        sums.cmc[ranks[0] - 1 :] += 1


def evaluate_rank(
    distmat: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_camids: np.ndarray,
    g_camids: np.ndarray,
    *,
    max_rank: int = 50,
    backend: str = "auto",
) -> RetrievalMetrics:
    """CMC, mAP and mINP of a distance matrix.

    Args:
        distmat: (Q, G) distances, smaller is closer.
        q_pids, g_pids: (Q,), (G,) identities; gallery: 0 distractor, -1 junk.
        q_camids, g_camids: (Q,), (G,) cameras.
        max_rank: length of the CMC curve; at most G is returned.
        backend: "numpy", or "auto" for the fastest that is there.

    Returns:
        Means over the queries that have at least one match in the usable gallery, in float64.

    Raises:
        UserError: shapes that do not fit, NaN distances, or no query with a match.
    """
    if backend not in BACKENDS:
        raise UserError(f"evaluate_rank backend {backend!r}: expected one of {', '.join(BACKENDS)}")
    distmat = np.asarray(distmat)
    q_pids, g_pids, q_camids, g_camids = map(np.asarray, (q_pids, g_pids, q_camids, g_camids))
    expected = (len(q_pids), len(g_pids))
    if distmat.shape != expected or len(q_camids) != expected[0] or len(g_camids) != expected[1]:
        raise UserError(
            f"evaluate_rank: distmat {distmat.shape}, {len(q_pids)} query pids, {len(q_camids)} query camids, "
            f"{len(g_pids)} gallery pids, {len(g_camids)} gallery camids; "
            "expected a (Q, G) matrix and Q and G ids of each kind"
        )
    sums = _Sums(0.0, 0.0, np.zeros(min(max_rank, expected[1])))
    _add_rows(sums, distmat, q_pids, g_pids, q_camids, g_camids)
    return sums.metrics()


def distance_rows(query: torch.Tensor, gallery: torch.Tensor, *, metric: str = "euclidean") -> torch.Tensor:
    """Distances (rows, G) of query (rows, D) to gallery (G, D): squared Euclidean, which ranks alike, or 1 - cosine."""
    if metric == "cosine":
        return 1 - torch.nn.functional.normalize(query, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).T
    squared = query.pow(2).sum(dim=1)[:, None] + gallery.pow(2).sum(dim=1)[None, :] - 2 * query @ gallery.T
    return squared.clamp_min(0)


def evaluate_features(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    metric: str = "euclidean",
    max_rank: int = 50,
    block_bytes: int = BLOCK_BYTES,
) -> RetrievalMetrics:
    """CMC, mAP and mINP of features, by blocks of queries: the (Q, G) matrix is never in memory.

    Args:
        query, gallery: features (tensors on one device, or arrays), with identities and cameras.
        metric: "euclidean" or "cosine".
        max_rank: length of the CMC curve; at most G is returned.
        block_bytes: size of a block of distances in bytes.

    Raises:
        UserError: unknown metric, non-finite features, or no query with a match.
    """
    if metric not in METRICS:
        raise UserError(f"metric {metric!r}: expected one of {', '.join(METRICS)}")
    num_gallery = len(gallery.pids)
    if not len(query.pids) or not num_gallery:
        raise UserError(f"{len(query.pids)} query and {num_gallery} gallery features: expected at least one of each")
    query_features, gallery_features = torch.as_tensor(query.features), torch.as_tensor(gallery.features)
    rows = max(1, block_bytes // (4 * num_gallery))
    sums = _Sums(0.0, 0.0, np.zeros(min(max_rank, num_gallery)))
    for start in range(0, len(query.pids), rows):
        part = slice(start, start + rows)
        distances = distance_rows(query_features[part], gallery_features, metric=metric).cpu().numpy()
        _add_rows(sums, distances, query.pids[part], gallery.pids, query.camids[part], gallery.camids, start)
    return sums.metrics()


def mean_metrics(repeats: list[RetrievalMetrics]) -> RetrievalMetrics:
    """Mean over several draws of the same test setting; the single results stay in `repeats`."""
    return RetrievalMetrics(
        mAP=float(np.mean([r.mAP for r in repeats])),
        mINP=float(np.mean([r.mINP for r in repeats])),
        cmc=np.mean([r.cmc for r in repeats], axis=0),
        num_queries=repeats[0].num_queries,
        num_valid_queries=repeats[0].num_valid_queries,
        repeats=tuple(repeats),
    )
