"""The k gallery features nearest to each query: exact, by blocks of the gallery, within a stated memory.

Candidates come from products in float32, their distances from the differences in float64. Where rounding of the
products might have left out a nearer feature, the query is searched again by the definition.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from utils.errors import UserError
from utils.metrics.checks import METRICS
from utils.metrics.evaluate import distance_rows
from utils.metrics.smallest import smallest
from utils.openmp import sharing_cores

BLOCK_ROWS = 2**14  # gallery features whose products are in memory; larger blocks are no faster
QUERY_ROWS = 256  # queries whose products with a block are in memory
SPARE = 32  # candidates beyond k, at least; as many again as k, where that is more
EXACT_VALUES = 2**22  # numbers of candidates whose distances are computed at once


class Nearest(NamedTuple):
    """The nearest gallery rows of each query, nearest first; equal distances in the order of the gallery."""

    indices: np.ndarray  # (Q, k) int64
    distances: np.ndarray  # (Q, k) float64, Euclidean (not squared) or 1 - cosine


@sharing_cores()
def nearest(query: np.ndarray, gallery: Any, k: int, *, metric: str = "euclidean") -> Nearest:
    """Finds the `k` gallery features that are nearest to each query.

    Beside query, gallery and result it takes about BLOCK_ROWS * (12 D + 8 min(Q, QUERY_ROWS)) bytes, 70 MB for D = 192,
    and 24 (k + SPARE) bytes a query: the gallery may be far larger than the memory.

    Args:
        query: (Q, D) floats.
        gallery: (G, D) floats: an array, a memory map, or anything else with `shape` and rows by slices and by arrays
            of indices, such as utils.feature_files.StoredArray.
        k: from 1 to G.
        metric: "euclidean" or "cosine".

    Raises:
        UserError: shapes that do not fit, another `k` or metric, or a feature that is not finite.
    """
    query = np.asarray(query)
    _check(query, gallery, k, metric)
    kept = min(len(gallery), k + max(k, SPARE))
    search = _Search(query, gallery, kept, metric)
    for start, block in _blocks(gallery):
        search.add(start, block)
    found = rank_candidates(query, gallery, search.indices.numpy(), metric=metric)
    unsure = np.flatnonzero(search.unsure(found.distances[:, k - 1]))
    indices, distances = found.indices[:, :k], found.distances[:, :k]
    for start in range(0, len(unsure), QUERY_ROWS):
        rows = unsure[start : start + QUERY_ROWS]
        indices[rows], distances[rows] = _by_definition(query[rows], gallery, k, metric)
    return Nearest(indices, distances)


def rank_candidates(query: np.ndarray, gallery: Any, candidates: np.ndarray, *, metric: str) -> Nearest:
    """Ranks the candidates (Q, C) of each query, indices into the gallery, by their distances in float64."""
    candidates = np.sort(candidates, axis=1)  # ties in the order of the gallery
    distances = np.empty(candidates.shape)
    step = max(1, EXACT_VALUES // (candidates.shape[1] * query.shape[1]))
    for start in range(0, len(query), step):
        rows = slice(start, start + step)
        features = np.asarray(gallery[candidates[rows].ravel()], dtype=np.float64)
        features = features.reshape(*candidates[rows].shape, -1)  # (rows, C, D)
        for row, (one, others) in enumerate(zip(query[rows], features, strict=True), start):
            distances[row] = _distances(one[None], others, metric)[0].numpy()
    order = np.argsort(distances, axis=1, kind="stable")
    return Nearest(np.take_along_axis(candidates, order, 1), np.take_along_axis(distances, order, 1))


def _distances(query: np.ndarray, gallery: np.ndarray, metric: str) -> torch.Tensor:
    """(rows, G) in float64."""
    sides = (torch.from_numpy(np.asarray(side, dtype=np.float64)) for side in (query, gallery))
    return distance_rows(*sides, metric=metric).clamp_min(0)


def _check(query: np.ndarray, gallery: Any, k: int, metric: str) -> None:
    if metric not in METRICS:
        raise UserError(f"nearest: metric {metric!r}: expected one of {', '.join(METRICS)}")
    shapes = (query.shape, tuple(gallery.shape))
    if any(len(shape) != 2 or not shape[1] for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise UserError(
            f"query features {shapes[0]}, gallery features {shapes[1]}; expected (Q, D) and (G, D), of the same model"
        )
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= len(gallery):
        raise UserError(f"k is {k!r}; expected a whole number from 1 to {len(gallery)}, the size of the gallery")
    _check_finite(torch.from_numpy(query.astype(np.float32)), "query", 0)


def _check_finite(features: torch.Tensor, name: str, start: int) -> None:
    broken = ~torch.isfinite(features.norm(dim=1))
    if broken.any():
        raise UserError(f"the feature of {name} {start + int(broken.nonzero()[0])} is not finite")


def _blocks(gallery: Any) -> Iterator[tuple[int, torch.Tensor]]:
    for start in range(0, len(gallery), BLOCK_ROWS):
        block = torch.from_numpy(np.array(gallery[start : start + BLOCK_ROWS], dtype=np.float32))
        _check_finite(block, "gallery", start)
        yield start, block


class _Search:
    """The candidates of each query so far: the `kept` smallest of |g|^2 - 2 q g, in float32.

    Features are of unit norm with metric "cosine": then the order is the same. From both sides the mean of the first
    block is subtracted, which changes no distance and saves digits where all features share an offset.
    """

    def __init__(self, query: np.ndarray, gallery: Any, kept: int, metric: str) -> None:
        self.metric, self.size = metric, len(gallery)
        self.query = self._scaled(torch.from_numpy(query.astype(np.float32)))
        self.mean: torch.Tensor | None = None
        self.largest = 0.0  # norm of a gallery feature
        self.scores = torch.full((len(query), kept), torch.inf)
        self.indices = torch.zeros(len(query), kept, dtype=torch.int64)

    def _scaled(self, features: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(features, dim=1) if self.metric == "cosine" else features

    def add(self, start: int, block: torch.Tensor) -> None:
        """Looks for nearer ones among the gallery features from `start` on."""
        block = self._scaled(block)
        if self.mean is None:
            self.mean = block.mean(dim=0)
            self.query = self.query - self.mean
        block.sub_(self.mean)
        squares = block.square().sum(dim=1)
        self.largest = max(self.largest, float(squares.max()) ** 0.5)
        for first in range(0, len(self.query), QUERY_ROWS):
            rows = slice(first, first + QUERY_ROWS)
            scores = torch.addmm(squares, self.query[rows], block.T, alpha=-2)
            nearer = torch.nonzero(scores.amin(dim=1) < self.scores[rows].amax(dim=1))[:, 0]
            if len(nearer):
                self._merge(first + nearer, start, scores[nearer])

    def _merge(self, rows: torch.Tensor, start: int, scores: torch.Tensor) -> None:
        kept = self.scores.shape[1]
        best, places = smallest(scores, min(kept, scores.shape[1]))
        scores = torch.cat([self.scores[rows], best], dim=1)
        indices = torch.cat([self.indices[rows], places + start], dim=1)
        self.scores[rows], order = smallest(scores, kept)
        self.indices[rows] = indices.gather(1, order)

    def unsure(self, distances: np.ndarray) -> np.ndarray:
        """Which queries may have a nearer feature that is no candidate, given their k-th distance among those (Q,)."""
        overflowed = ~torch.isfinite(self.scores).all(dim=1).numpy()  # features near the largest that have a norm
        if self.scores.shape[1] == self.size:
            return overflowed
        assert self.mean is not None
        norms = self.query.norm(dim=1).double().numpy()
        reach = norms + self.largest
        dimensions, epsilon = self.query.shape[1], float(torch.finfo(torch.float32).eps)
        # A bound of the rounding of a product of D terms, and of the features when the mean was subtracted.
        error = epsilon * reach * (dimensions * reach + 8 * (reach + float(self.mean.norm())))
        squared = distances * 2 if self.metric == "cosine" else distances**2  # |q - g|^2 = 2 (1 - cosine)
        others = self.scores.amax(dim=1).double().numpy() + norms**2  # at least, but for rounding
        return overflowed | (squared >= others - error)


def _by_definition(query: np.ndarray, gallery: Any, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices and distances of the `k` nearest, from all distances in float64, equal ones in the order of rows."""
    indices, distances = torch.zeros(len(query), 0, dtype=torch.int64), torch.zeros(len(query), 0, dtype=torch.float64)
    for start in range(0, len(gallery), BLOCK_ROWS):
        found = _distances(query, gallery[start : start + BLOCK_ROWS], metric)
        places = torch.arange(start, start + found.shape[1]).expand(len(query), -1)
        distances, order = torch.cat([distances, found], dim=1).sort(dim=1, stable=True)
        indices = torch.cat([indices, places], dim=1).gather(1, order)[:, :k]
        distances = distances[:, :k]
    return indices.numpy(), distances.numpy()
