"""k-reciprocal re-ranking of retrieval results.

Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017. Section numbers below are the
paper's. Neighbours are searched among all N = Q + G images; distances are squared Euclidean, each row divided by its
largest. Distances are computed by blocks, only the nearest neighbours are kept, and weights are sparse, so memory grows
with N and not with N x N.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from utils.errors import UserError
from utils.extensions import load_extension, warn_not_built
from utils.metrics.checks import MEMORY_LIMIT, check_features, query_blocks
from utils.metrics.smallest import smallest
from utils.openmp import sharing_cores

EXTENSION = "utils.metrics.rerank_cylib"
rerank_cylib: Any = load_extension(EXTENSION)


@dataclass(frozen=True)
class ReRanking:
    """Parameters of the re-ranking; the defaults are the paper's for Market-1501.

    Attributes:
        k1: number of neighbours that may be k-reciprocal.
        k2: number of neighbours averaged in the local query expansion; 1 for none.
        lambda_value: weight of the original distance in the result, 0 to 1.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3

    def __post_init__(self) -> None:
        for key in ("k1", "k2"):
            if getattr(self, key) < 1:
                raise UserError(f"re-ranking: {key} is {getattr(self, key)}; expected an integer of at least 1")
        if not 0 <= self.lambda_value <= 1:
            raise UserError(f"re-ranking: lambda is {self.lambda_value}; expected 0 to 1")


def _squared_distances(
    rows: torch.Tensor, features: torch.Tensor, norms: torch.Tensor, out: torch.Tensor | None
) -> torch.Tensor:
    """(R, N) squared Euclidean distances of `rows` (R, D) to `features` (N, D) with squared norms `norms` (N,)."""
    distances = torch.addmm(norms, rows, features.T, alpha=-2, out=out)
    return distances.add_(rows.square().sum(dim=1, keepdim=True)).clamp_min_(0)


def _nearest(
    features: torch.Tensor, norms: torch.Tensor, count: int, memory_limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest images of each image, nearest first, (N, count); and each row's largest distance, (N,)."""
    rows = max(1, memory_limit // (3 * features.element_size() * len(features)))
    buffer = features.new_empty(min(rows, len(features)), len(features))
    neighbours, largest = [], []
    for start in range(0, len(features), rows):
        own = slice(start, start + rows)
        # Squared distances without the row's own squared norm, which changes no order in a row.
        partial = torch.addmm(norms, features[own], features.T, alpha=-2, out=buffer[: len(features[own])])
        largest.append((partial.amax(dim=1) + norms[own]).clamp_min_(0).cpu())
        neighbours.append(smallest(partial, count)[1].int().cpu())
    return torch.cat(neighbours).numpy(), torch.cat(largest).numpy()


def _reciprocal(neighbours: np.ndarray) -> sparse.csr_array:
    """R(i, k) (3.2), as an (N, N) matrix of zeros and ones: neighbours that have the image as a neighbour, too."""
    count = len(neighbours)
    columns = neighbours.reshape(-1)
    near = sparse.csr_array(
        (np.ones(columns.size, np.float32), columns, np.arange(0, columns.size + 1, neighbours.shape[1])),
        shape=(count, count),
    )
    return near.multiply(near.T).tocsr()


def _expanded(neighbours: np.ndarray, k1: int) -> sparse.csr_array:
    """R*(i, k1) (3.2, eq. 5): R(i, k1) and, for each member c, R(c, k1/2) if two thirds of it are in R(i, k1)."""
    reciprocal = _reciprocal(neighbours[:, : k1 + 1])
    half = _reciprocal(neighbours[:, : int(np.around(k1 / 2)) + 1])
    # for every member c of R(i, k1): how many of R(c, k1/2) are in R(i, k1)
    shared = (reciprocal @ half.T).multiply(reciprocal).tocoo()
    sizes = half.sum(axis=1)
    accepted = 3 * shared.data > 2 * sizes[shared.col]
    joins = sparse.csr_array(
        (shared.data[accepted], (shared.row[accepted], shared.col[accepted])), shape=reciprocal.shape
    )
    return (reciprocal + joins @ half).tocsr()


def _products(features: torch.Tensor, pairs: sparse.csr_array) -> np.ndarray:
    """Products of the features of each pair that `pairs` (N, N) holds, in its order."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor support is in beta|invariant checks are)")
        pattern = torch.sparse_csr_tensor(
            torch.from_numpy(pairs.indptr).long(),
            torch.from_numpy(pairs.indices).long(),
            torch.zeros(pairs.nnz, dtype=features.dtype),
            size=pairs.shape,
            device=features.device,
            check_invariants=True,
        )
        return torch.sparse.sampled_addmm(pattern, features, features.T, beta=0).values().cpu().numpy()


def _weights(
    features: torch.Tensor, norms: np.ndarray, neighbours: np.ndarray, largest: np.ndarray, settings: ReRanking
) -> sparse.csr_array:
    """V (3.3, eq. 7): Gaussian weights of R*(i, k1), normalised to sum 1, after the query expansion (3.4)."""
    weights = _expanded(neighbours, settings.k1)
    weights.sort_indices()
    rows = np.repeat(np.arange(len(features)), np.diff(weights.indptr))
    products = _products(features, weights)
    distances = np.maximum(norms[rows] + norms[weights.indices] - 2 * products, 0)
    values = np.exp(-distances / largest[rows])
    totals = np.bincount(rows, values, minlength=len(features))
    weights.data = (values / totals[rows]).astype(np.float32)
    if settings.k2 == 1:
        return weights
    chosen = neighbours[:, : settings.k2]
    mean = sparse.csr_array(
        (
            np.full(chosen.size, 1 / chosen.shape[1], np.float32),
            chosen.reshape(-1),
            np.arange(0, chosen.size + 1, chosen.shape[1]),
        ),
        shape=weights.shape,
    )
    return (mean @ weights).tocsr()


def _mix_numpy(
    queries: sparse.csr_array, lists: sparse.csc_array, scales: np.ndarray, share: float, distances: np.ndarray
) -> None:
    """rerank_cylib.mix_jaccard in NumPy, query by query, as precise: float32, Jaccard distances float64."""
    weight = np.float32(share)
    for row, own in enumerate(distances):
        overlap = np.zeros(len(own), np.float32)
        for k in range(queries.indptr[row], queries.indptr[row + 1]):
            column = queries.indices[k]
            members = slice(lists.indptr[column], lists.indptr[column + 1])
            overlap[lists.indices[members]] += np.minimum(queries.data[k], lists.data[members])
        jaccard = 1 - overlap.astype(np.float64) / (2 - overlap.astype(np.float64))
        own[:] = jaccard * (1 - float(weight)) + own * scales[row] * weight


def re_ranking_blocks(
    query_features: torch.Tensor | np.ndarray,
    gallery_features: torch.Tensor | np.ndarray,
    settings: ReRanking,
    *,
    blocks: list[range] | None = None,
    memory_limit: int = MEMORY_LIMIT,
    out: torch.Tensor | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Re-ranked distances by blocks of queries.

    Args:
        query_features, gallery_features: (Q, D), (G, D), on one device.
        settings: k1, k2 and lambda.
        blocks: the queries to compute, all by default; neighbours are always searched among all images.
        memory_limit: bytes of a block. A copy of the features and the sparse weights come on top.
        out: (Q, G) float32 on the CPU, where the rows of the blocks are written.

    Yields:
        The index of the block's first query, and (rows, G) float32 distances: rows of `out`, or new for each block.

    Raises:
        UserError: shapes that do not fit, a feature that is not finite, or another `out`.
    """
    query, gallery = check_features("re-ranking", query_features, gallery_features)
    num_queries = len(query)
    if out is not None:
        _check_out(out, (num_queries, len(gallery)))
    features = torch.cat([query, gallery]).float()
    features -= features.mean(dim=0)  # distances do not change, and keep their digits, see checks.centred
    query, gallery = features[:num_queries], features[num_queries:]
    norms = features.square().sum(dim=1)
    count = min(max(settings.k1 + 1, settings.k2), len(features))
    neighbours, largest = _nearest(features, norms, count, memory_limit)
    largest = np.maximum(largest, np.finfo(np.float32).tiny)  # 0 where all images are equal
    weights = _weights(features, norms.cpu().numpy(), neighbours, largest, settings)
    queries, lists = weights[:num_queries], weights[num_queries:].tocsc()
    for rows in query_blocks(num_queries, len(gallery), 3 * 4, memory_limit) if blocks is None else blocks:
        part = slice(rows.start, rows.stop)
        written = torch.empty(len(rows), len(gallery), dtype=torch.float32) if out is None else out[part]
        in_place = written if features.device == written.device else None
        squared = _squared_distances(query[part], gallery, norms[num_queries:], in_place)
        distances = written.copy_(squared).numpy()
        block, scales = queries[part], (1 / largest[part]).astype(np.float32)
        if rerank_cylib is None:
            warn_not_built(
                EXTENSION, "NumPy computes the Jaccard distances, several times slower, with the same numbers"
            )
            _mix_numpy(block, lists, scales, settings.lambda_value, distances)
        else:
            rerank_cylib.mix_jaccard(
                *_arrays(block), *_arrays(lists), scales, settings.lambda_value, distances, torch.get_num_threads()
            )
        yield rows.start, distances


def _check_out(out: torch.Tensor, shape: tuple[int, int]) -> None:
    if (tuple(out.shape), out.dtype, out.device.type, out.is_contiguous()) != (shape, torch.float32, "cpu", True):
        raise UserError(
            f"re-ranking: out is {out.dtype} {tuple(out.shape)} with strides {out.stride()} on {out.device}; "
            f"expected a contiguous torch.float32 {shape} on cpu"
        )


def _arrays(matrix: sparse.csr_array | sparse.csc_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data


@sharing_cores()
def re_ranking(
    query_features: torch.Tensor | np.ndarray,
    gallery_features: torch.Tensor | np.ndarray,
    k1: int,
    k2: int,
    lambda_value: float,
) -> np.ndarray:
    """Re-ranked distances (Q, G) float32 of query (Q, D) to gallery (G, D) features; see `re_ranking_blocks`.

    Args:
        k1, k2, lambda_value: see ReRanking.
    """
    settings = ReRanking(k1, k2, lambda_value)
    result = torch.empty(len(query_features), len(gallery_features), dtype=torch.float32)
    for _ in re_ranking_blocks(query_features, gallery_features, settings, out=result):
        pass
    return result.numpy()
