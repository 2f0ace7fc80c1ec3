"""Retrieval metrics of person re-identification: CMC, mAP and mINP under the Market-1501 junk rule.

CMC and mAP: Zheng et al., Scalable Person Re-identification, ICCV 2015. mINP: Ye et al., Deep Learning for Person
Re-identification: A Survey and Outlook, TPAMI 2021, section 4.2. For every query, gallery entries of the same identity
seen by the same camera are left out, and so are junk entries (pid -1); distractors (pid 0) stay as wrong answers. Ties
rank in gallery order.

Conventions:

- ap="step", the field's usual one: mean of hits / rank over the matches. ap="trapezoid", as in Market-1501's official
  script: the precision of a match is the mean of that at the match and that just before it; reads lower.
- cmc="standard": a query scores at k if any of its matches is among the first k. cmc="single_gallery_shot", CUHK03's
  classic protocol: one picture drawn for every gallery identity, mean over 100 draws (distractors are one identity).
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch

from utils.errors import UserError
from utils.ranking import Conventions, Gallery, Scores
from utils.reranking import ReRanking, re_ranking_blocks
from utils.structures import FeatureSet, RetrievalMetrics

METRICS = ("euclidean", "cosine")
MEMORY_LIMIT = 512 * 2**20  # bytes that an evaluation may take beside the features


def _check_ids(where: str, q_pids, g_pids, q_camids, g_camids) -> list[np.ndarray]:
    ids = [np.asarray(values) for values in (q_pids, g_pids, q_camids, g_camids)]
    if any(values.ndim != 1 or values.dtype.kind not in "iu" for values in ids):
        found = ", ".join(f"{values.dtype} {values.shape}" for values in ids)
        raise UserError(
            f"{where}: pids and camids of query and gallery are {found}; expected integers of one dimension"
        )
    return [np.ascontiguousarray(values, dtype=np.int64) for values in ids]


def evaluate_rank(
    distmat: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_camids: np.ndarray,
    g_camids: np.ndarray,
    *,
    max_rank: int = 50,
    backend: str = "auto",
    ap: str = "step",
    cmc: str = "standard",
    seed: int = 0,
) -> RetrievalMetrics:
    """CMC, mAP and mINP of a distance matrix.

    Args:
        distmat: (Q, G) distances, smaller is closer.
        q_pids, g_pids: (Q,), (G,) identities; gallery: 0 distractor, -1 junk.
        q_camids, g_camids: (Q,), (G,) cameras.
        max_rank, backend, ap, cmc, seed: see Conventions.

    Returns:
        Means over the queries that have at least one match in the usable gallery, in float64.

    Raises:
        UserError: shapes that do not fit, NaN distances, no query with a match, or an unknown convention.
    """
    conventions = Conventions(max_rank=max_rank, ap=ap, cmc=cmc, seed=seed, backend=backend)
    distmat = np.asarray(distmat)
    q_pids, g_pids, q_camids, g_camids = _check_ids("evaluate_rank", q_pids, g_pids, q_camids, g_camids)
    expected = (len(q_pids), len(g_pids))
    if distmat.shape != expected or len(q_camids) != expected[0] or len(g_camids) != expected[1]:
        raise UserError(
            f"evaluate_rank: distmat {distmat.shape}, {len(q_pids)} query pids, {len(q_camids)} query camids, "
            f"{len(g_pids)} gallery pids, {len(g_camids)} gallery camids; "
            "expected a (Q, G) matrix and Q and G ids of each kind"
        )
    if distmat.dtype not in (np.float32, np.float64):
        distmat = distmat.astype(np.float64)
    scores = Scores(expected[0], Gallery(g_pids, g_camids), conventions)
    if distmat.size:
        scores.add(0, distmat, q_pids, q_camids)
    return scores.metrics()


def distance_rows(query: torch.Tensor, gallery: torch.Tensor, *, metric: str = "euclidean") -> torch.Tensor:
    """Distances (rows, G) of query (rows, D) to gallery (G, D): squared Euclidean, which ranks alike, or 1 - cosine."""
    if metric == "cosine":
        return 1 - torch.nn.functional.normalize(query, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).T
    squared = query.pow(2).sum(dim=1)[:, None] + gallery.pow(2).sum(dim=1)[None, :] - 2 * query @ gallery.T
    return squared.clamp_min(0)


def _ranking_blocks(
    query: torch.Tensor, gallery: torch.Tensor, part: range, metric: str, memory_limit: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks (first query, (rows, G) array) that order the gallery as `metric` does, for the queries in `part`.

    Per row, what is the same for the whole gallery is left out: |g|^2 - 2 q g, and -q g / |g|. One buffer is used again
    for every block.
    """
    copies = (
        2 if query.device.type == "cpu" else 3
    )  # the block and room for the product to work in; on the host as well
    rows = max(1, memory_limit // (copies * gallery.element_size() * len(gallery)))
    buffer = torch.empty((min(rows, len(part)), len(gallery)), dtype=gallery.dtype, device=gallery.device)
    norms = gallery.norm(dim=1)
    for start in range(part.start, part.stop, rows):
        block = query[start : min(start + rows, part.stop)]
        distances = buffer[: len(block)]
        if metric == "euclidean":
            torch.addmm(norms.square(), block, gallery.T, alpha=-2, out=distances)
        else:
            torch.mm(block, gallery.T, out=distances)
            distances.mul_(-1 / norms.clamp_min(1e-12))
        yield start, distances.cpu().numpy()


def evaluate_features(
    query: FeatureSet,
    gallery: FeatureSet,
    *,
    metric: str = "euclidean",
    max_rank: int = 50,
    backend: str = "auto",
    ap: str = "step",
    cmc: str = "standard",
    seed: int = 0,
    re_ranking: ReRanking | None = None,
    memory_limit: int = MEMORY_LIMIT,
    distributed: bool = False,
) -> RetrievalMetrics:
    """CMC, mAP and mINP of features, by blocks of queries: the (Q, G) matrix is never in memory.

    Args:
        query, gallery: features (tensors on one device, or arrays), with identities and cameras.
        metric: "euclidean" or "cosine".
        max_rank, backend, ap, cmc, seed: see Conventions.
        re_ranking: rank by k-reciprocal distances instead; with "cosine" those of unit features.
        memory_limit: bytes that may be taken beside the features, 512 MiB by default; at least one row of distances is.
        distributed: the processes of torch.distributed's default group share the queries; each must hold all features,
            and each gets the same result, to the last bit that of one process.

    Raises:
        UserError: unknown metric or convention, features that do not fit or are not finite, or no query with a match.
    """
    if metric not in METRICS:
        raise UserError(f"metric {metric!r}: expected one of {', '.join(METRICS)}")
    conventions = Conventions(max_rank=max_rank, ap=ap, cmc=cmc, seed=seed, backend=backend)
    q_pids, g_pids, q_camids, g_camids = _check_ids(
        "evaluate_features", query.pids, gallery.pids, query.camids, gallery.camids
    )
    q_features, g_features = (_as_float(features) for features in (query.features, gallery.features))
    if not len(q_pids) or not len(g_pids):
        raise UserError(f"{len(q_pids)} query and {len(g_pids)} gallery features: expected at least one of each")
    shapes = [tuple(features.shape) for features in (q_features, g_features)]
    if shapes[0][1:] != shapes[1][1:] or [len(q_pids), len(g_pids)] != [shape[0] for shape in shapes]:
        raise UserError(
            f"query features {shapes[0]} with {len(q_pids)} ids, gallery features {shapes[1]} with {len(g_pids)} ids; "
            "expected (Q, D) and (G, D) with Q and G ids"
        )
    scores = Scores(len(q_pids), Gallery(g_pids, g_camids), conventions)
    part = _own_part(len(q_pids)) if distributed else range(len(q_pids))
    if re_ranking is None:
        blocks = _ranking_blocks(q_features, g_features, part, metric, memory_limit)
    else:
        if metric == "cosine":
            q_features, g_features = (torch.nn.functional.normalize(f, dim=1) for f in (q_features, g_features))
        blocks = re_ranking_blocks(q_features, g_features, re_ranking, part=part, memory_limit=memory_limit)
    for start, distances in blocks:
        rows = slice(start, start + len(distances))
        scores.add(start, distances, q_pids[rows], q_camids[rows])
    if distributed:
        _add_up(scores.table, q_features.device)
    return scores.metrics()


@dataclass(frozen=True)
class Evaluation:
    """How a test is evaluated: options of `evaluate_features`."""

    metric: str = "euclidean"
    ap: str = "step"
    cmc: str = "standard"
    seed: int = 0
    re_ranking: ReRanking | None = None

    def __call__(self, query: FeatureSet, gallery: FeatureSet) -> RetrievalMetrics:
        return evaluate_features(
            query, gallery, metric=self.metric, ap=self.ap, cmc=self.cmc, seed=self.seed, re_ranking=self.re_ranking
        )

    def describe(self) -> dict:
        """For the record: {"metric", "ap", "cmc", "re_ranking": None or {"k1", "k2", "lambda_value"}}."""
        described = asdict(self)
        described.pop("seed")
        return described


def _as_float(features: torch.Tensor | np.ndarray) -> torch.Tensor:
    features = torch.as_tensor(features).detach()
    return features if features.dtype in (torch.float32, torch.float64) else features.float()


def _own_part(num_queries: int) -> range:
    """The queries of this process."""
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return range(num_queries * rank // size, num_queries * (rank + 1) // size)


def _add_up(table: np.ndarray, device: torch.device) -> None:
    """Adds the tables of all processes, in place; each row is zero in all but one of them."""
    tensor = torch.from_numpy(table).to(device)
    torch.distributed.all_reduce(tensor)
    table[...] = tensor.cpu().numpy()


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
