"""CMC, mAP and mINP of a distance matrix or of features; utils.metrics.reference has the definitions."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch

from utils.distributed import is_distributed
from utils.errors import UserError
from utils.metrics.checks import MEMORY_LIMIT, centred, check_ids, check_sets, query_blocks
from utils.metrics.expansion import expand_queries
from utils.metrics.ranking import Conventions, Gallery, Scores
from utils.metrics.reranking import ReRanking, re_ranking_blocks
from utils.openmp import sharing_cores
from utils.structures import FeatureSet, RetrievalMetrics


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
    if isinstance(distmat, torch.Tensor):
        distmat = distmat.detach().cpu().double()
    distmat = np.asarray(distmat)
    q_pids, g_pids, q_camids, g_camids = check_ids(
        "evaluate_rank", q_pids=q_pids, g_pids=g_pids, q_camids=q_camids, g_camids=g_camids
    )
    expected = (len(q_pids), len(g_pids))
    if distmat.shape != expected or len(q_camids) != expected[0] or len(g_camids) != expected[1]:
        raise UserError(
            f"evaluate_rank: distmat {distmat.shape}, {len(q_pids)} query pids, {len(q_camids)} query camids, "
            f"{len(g_pids)} gallery pids, {len(g_camids)} gallery camids; "
            "expected a (Q, G) matrix and Q and G ids of each kind"
        )
    if distmat.dtype.kind not in "iufb":
        raise UserError(f"evaluate_rank: distmat holds {distmat.dtype}; expected real numbers")
    if distmat.dtype not in (np.float32, np.float64):
        distmat = distmat.astype(np.float64)
    scores = Scores(expected[0], Gallery(g_pids, g_camids), conventions)
    if distmat.size:
        scores.add(0, distmat, q_pids, q_camids)
    return scores.metrics()


def distance_rows(query: torch.Tensor, gallery: torch.Tensor, *, metric: str = "euclidean") -> torch.Tensor:
    """Distances (rows, G) of query (rows, D) to gallery (G, D): Euclidean, from the differences, or 1 - cosine.

    Exact but slow, for a few queries; `evaluate_features` ranks many.
    """
    if metric == "cosine":
        return 1 - torch.nn.functional.normalize(query, dim=1) @ torch.nn.functional.normalize(gallery, dim=1).T
    return torch.cdist(query, gallery, compute_mode="donot_use_mm_for_euclid_dist")


def _ranking_blocks(
    query: torch.Tensor, gallery: torch.Tensor, blocks: list[range], metric: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first query, (rows, G) array): values that order the gallery as the distances do.

    Terms that are the same for the whole row are left out: the values are |g|^2 - 2 q g, or -q g / |g|. One buffer is
    reused for every block.
    """
    rows = max(map(len, blocks), default=0)
    buffer = torch.empty((rows, len(gallery)), dtype=gallery.dtype, device=gallery.device)
    norms = gallery.norm(dim=1)
    for block in blocks:
        distances = buffer[: len(block)]
        if metric == "euclidean":
            torch.addmm(norms.square(), query[block.start : block.stop], gallery.T, alpha=-2, out=distances)
        else:
            torch.mm(query[block.start : block.stop], gallery.T, out=distances)
            distances.mul_(-1 / norms.clamp_min(1e-12))
        yield block.start, distances.cpu().numpy()


@sharing_cores()
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
    query_expansion: int = 0,
    re_ranking: ReRanking | None = None,
    memory_limit: int = MEMORY_LIMIT,
    distributed: bool = False,
) -> RetrievalMetrics:
    """CMC, mAP and mINP of features, by blocks of queries; the (Q, G) matrix is never in memory.

    Args:
        query, gallery: features (tensors on one device, or arrays), with identities and cameras.
        metric: "euclidean" or "cosine".
        max_rank, backend, ap, cmc, seed: see Conventions.
        query_expansion: neighbours that `expand_queries` joins with each query before anything else; 0: none. With
            "cosine", of unit features.
        re_ranking: rank by k-reciprocal distances instead; with "cosine", of unit features.
        memory_limit: bytes of a block of distances and of its computation; a block has at least one row. On top come
            a few numbers for each query and gallery entry, about one more row of the block in each thread, a copy of
            the features where it is needed ("euclidean", where they share a large offset; re-ranking), and with
            re_ranking the memory of utils.metrics.reranking.
        distributed: the processes of torch.distributed's default group share the blocks. Each must hold all features;
            each gets the result of a single process, to the last bit on machines of one kind.

    Raises:
        UserError: unknown metric or convention, features or ids that do not fit, features that are not finite, or no
            query with a match.
    """
    conventions = Conventions(max_rank=max_rank, ap=ap, cmc=cmc, seed=seed, backend=backend)
    query, gallery = check_sets("evaluate_features", query, gallery, metric)
    # a block and the workspace of its product; for features on a GPU also its copy on the host; see re_ranking_blocks
    copies = 2 if gallery.features.device.type == "cpu" and re_ranking is None else 3
    row_bytes = copies * gallery.features.element_size()
    blocks = query_blocks(len(query.pids), len(gallery.pids), row_bytes, memory_limit)
    if distributed:
        blocks = blocks[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
    sides = (query.features, gallery.features)
    if query_expansion:
        if metric == "cosine":
            sides = _unit(*sides)
        sides = (expand_queries(*sides, query_expansion, blocks=blocks, distributed=distributed), sides[1])
    if re_ranking is None:
        if metric == "euclidean":
            sides = centred(*sides)
        rows = _ranking_blocks(*sides, blocks, metric)
    else:
        if metric == "cosine":
            sides = _unit(*sides)
        rows = re_ranking_blocks(*sides, re_ranking, blocks=blocks, memory_limit=memory_limit)
    scores = Scores(len(query.pids), Gallery(gallery.pids, gallery.camids), conventions)
    for start, distances in rows:
        part = slice(start, start + len(distances))
        scores.add(start, distances, query.pids[part], query.camids[part])
    if distributed:
        for table in scores.tables:
            torch.distributed.all_reduce(torch.from_numpy(table))  # each row is zero in all but one process
    return scores.metrics()


def _unit(query: torch.Tensor, gallery: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.nn.functional.normalize(query, dim=1), torch.nn.functional.normalize(gallery, dim=1)


@dataclass(frozen=True)
class Evaluation:
    """The options of `evaluate_features` that a test uses."""

    metric: str = "euclidean"
    ap: str = "step"
    cmc: str = "standard"
    seed: int = 0
    re_ranking: ReRanking | None = None
    query_expansion: int = 0

    def __call__(self, query: FeatureSet, gallery: FeatureSet) -> RetrievalMetrics:
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return evaluate_features(query, gallery, distributed=is_distributed(), **options)

    def describe(self) -> dict:
        """For results.json: {"metric", "ap", "cmc", "re_ranking": None or {"k1", "k2", "lambda_value"}}.

        "query_expansion" is there only where it is used, as results of earlier versions do not have it.
        """
        described = asdict(self)
        described.pop("seed")
        if not self.query_expansion:
            described.pop("query_expansion")
        return described


def mean_metrics(repeats: list[RetrievalMetrics]) -> RetrievalMetrics:
    """Mean over repeats of one protocol; the single results are kept in `repeats`."""
    return RetrievalMetrics(
        mAP=float(np.mean([r.mAP for r in repeats])),
        mINP=float(np.mean([r.mINP for r in repeats])),
        cmc=np.mean([r.cmc for r in repeats], axis=0),
        num_queries=repeats[0].num_queries,
        num_valid_queries=repeats[0].num_valid_queries,
        repeats=tuple(repeats),
    )
