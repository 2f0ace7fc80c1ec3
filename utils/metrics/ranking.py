"""Ranks of true matches, and the figures of single queries that follow from them.

Everything follows from the ranks of a query's true matches. They come from compiled code that never sorts a row
(utils/metrics/rank_cylib.pyx) or from NumPy, which does; both give the same integers.
"""

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from utils.errors import UserError
from utils.seeds import derive_generator
from utils.structures import RetrievalMetrics

try:
    from utils.metrics import rank_cylib
except ImportError:  # the extension is not built
    rank_cylib = None

logger = logging.getLogger(__name__)

JUNK_PID = -1
BACKENDS = ("auto", "cython", "numpy")
AP_CONVENTIONS = ("step", "trapezoid")
CMC_CONVENTIONS = ("standard", "single_gallery_shot")
SINGLE_SHOT_DRAWS = 100


@functools.cache
def _warn_not_built() -> None:
    logger.warning(
        "utils.metrics.rank_cylib is not built: NumPy ranks the gallery, many times slower, with the same numbers; "
        "build it with: python setup.py build_ext --inplace"
    )


class Gallery:
    """The gallery's ids, and the entries of each identity."""

    def __init__(self, pids: np.ndarray, camids: np.ndarray) -> None:
        self.pids, self.camids = (np.ascontiguousarray(ids, dtype=np.int64) for ids in (pids, camids))
        if self.pids.shape != self.camids.shape:
            raise UserError(f"gallery: {len(self.pids)} pids and {len(self.camids)} camids; expected as many of each")
        self.by_pid = np.argsort(self.pids, kind="stable")  # identities rising, entries of each in gallery order
        self.sorted_pids = self.pids[self.by_pid]
        self.junk = np.flatnonzero(self.pids == JUNK_PID)

    def __len__(self) -> int:
        return len(self.pids)

    def entries(self, pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the entries of each of `pids` start and stop in `by_pid`; junk is nobody's entry."""
        starts, stops = (np.searchsorted(self.sorted_pids, pids, side=side) for side in ("left", "right"))
        return starts, np.where(pids == JUNK_PID, starts, stops)


class Matches(NamedTuple):
    """Ranks (from 1, rising) of the true matches of some queries, one query after the other; `counts` of each query;
    `broken`: which queries have NaN among their distances."""

    ranks: np.ndarray
    counts: np.ndarray
    broken: np.ndarray


def rank_gallery(distances: np.ndarray, pid: int, camid: int, g_pids: np.ndarray, g_camids: np.ndarray) -> np.ndarray:
    """Gallery indices that count for a query (pid, camid), nearest first, ties in gallery order; `distances` (G,)."""
    kept = np.flatnonzero(~((g_pids == pid) & (g_camids == camid)) & (g_pids != JUNK_PID))
    return kept[np.argsort(distances[kept], kind="stable")]


def _matches_numpy(distances: np.ndarray, pids: np.ndarray, camids: np.ndarray, gallery: Gallery) -> Matches:
    """By sorting every row: the definition, word for word."""
    ranks = []
    for row, pid, camid in zip(distances, pids, camids, strict=True):
        ranking = rank_gallery(row, pid, camid, gallery.pids, gallery.camids)
        ranks.append(np.flatnonzero(gallery.pids[ranking] == pid) + 1)
    counts = np.array([len(of_query) for of_query in ranks], dtype=np.int64)
    return Matches(np.concatenate(ranks), counts, np.isnan(distances).any(axis=1))


def _matches_cython(distances: np.ndarray, pids: np.ndarray, camids: np.ndarray, gallery: Gallery) -> Matches:
    starts, stops = gallery.entries(pids)
    room = stops - starts
    offsets = np.cumsum(room) - room
    ranks, counts = np.empty(room.sum(), np.int64), np.empty(len(pids), np.int64)
    broken = np.empty(len(pids), np.uint8)
    rank_cylib.match_ranks(
        np.ascontiguousarray(distances), camids, starts, stops, gallery.by_pid, gallery.camids, gallery.junk,
        offsets, ranks, counts, broken, torch.get_num_threads(),
    )  # fmt: skip
    written = np.arange(len(ranks)) < np.repeat(offsets + counts, room)
    return Matches(ranks[written], counts, broken.astype(bool))


def _pick_backend(backend: str) -> Callable[..., Matches]:
    if backend == "numpy":
        return _matches_numpy
    if rank_cylib is not None:
        return _matches_cython
    if backend == "cython":
        raise UserError(
            "evaluation backend 'cython': utils.metrics.rank_cylib is not built; build it with: "
            "python setup.py build_ext --inplace"
        )
    _warn_not_built()
    return _matches_numpy


@dataclass(frozen=True)
class Conventions:
    """How distances become figures; see utils.metrics.

    Attributes:
        max_rank: length of the CMC curve; at most the size of the gallery is returned.
        ap: "step" or "trapezoid".
        cmc: "standard" or "single_gallery_shot".
        seed: of the pictures drawn for single_gallery_shot.
        backend: "cython", "numpy", or "auto" for the fastest that is built; they give the same numbers.
    """

    max_rank: int = 50
    ap: str = "step"
    cmc: str = "standard"
    seed: int = 0
    backend: str = "auto"

    def __post_init__(self) -> None:
        for key, known in (("ap", AP_CONVENTIONS), ("cmc", CMC_CONVENTIONS), ("backend", BACKENDS)):
            if getattr(self, key) not in known:
                raise UserError(f"evaluation {key} {getattr(self, key)!r}: expected one of {', '.join(known)}")
        if self.max_rank < 1:
            raise UserError(f"evaluation max_rank {self.max_rank}: expected at least 1")


class Scores:
    """Figures of single queries, filled block by block."""

    def __init__(self, num_queries: int, gallery: Gallery, conventions: Conventions) -> None:
        self.gallery, self.conventions = gallery, conventions
        self.find_matches = _pick_backend(conventions.backend)
        self.length = min(conventions.max_rank, len(gallery))
        # average precision, inverse negative penalty, rank of the first match (0: no match), has NaN
        self.table = np.zeros((num_queries, 4))
        single_shot = conventions.cmc == "single_gallery_shot"
        self.curves = np.zeros((num_queries, self.length)) if single_shot else None

    @property
    def tables(self) -> list[np.ndarray]:
        """What is filled in, rows by query: zero until then."""
        return [self.table] if self.curves is None else [self.table, self.curves]

    def add(self, start: int, distances: np.ndarray, pids: np.ndarray, camids: np.ndarray) -> None:
        """Fills in the queries from `start` on: distances (rows, G), their ids (rows,)."""
        table = self.table[start : start + len(pids)]
        matches = self.find_matches(distances, pids, camids, self.gallery)
        table[:, 3] = matches.broken
        valid = np.flatnonzero((matches.counts > 0) & ~matches.broken)
        if not len(valid):
            return
        counts = matches.counts[matches.counts > 0]
        firsts = np.cumsum(counts) - counts
        hits = np.arange(1, len(matches.ranks) + 1) - np.repeat(firsts, counts)
        precision = hits / matches.ranks
        if self.conventions.ap == "trapezoid":
            before = np.where(matches.ranks > 1, (hits - 1) / np.maximum(matches.ranks - 1, 1), 1.0)
            precision = (before + precision) / 2
        kept = ~matches.broken[matches.counts > 0]
        table[valid, 0] = (np.add.reduceat(precision, firsts) / counts)[kept]
        table[valid, 1] = (counts / matches.ranks[firsts + counts - 1])[kept]
        table[valid, 2] = matches.ranks[firsts][kept]
        if self.curves is not None:
            for row in valid:
                self.curves[start + row] = self._single_shot_curve(distances[row], pids[row], camids[row], start + row)

    @functools.cached_property
    def _identities(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Identities of the gallery without junk, where their entries start in `by_pid`, and how many there are."""
        pids, starts, counts = np.unique(self.gallery.sorted_pids, return_index=True, return_counts=True)
        return pids[pids != JUNK_PID], starts[pids != JUNK_PID], counts[pids != JUNK_PID]

    def _single_shot_curve(self, distances: np.ndarray, pid: int, camid: int, query: int) -> np.ndarray:
        """Mean CMC curve of one query over draws of one entry for each identity."""
        identities, starts, counts = self._identities
        uniform = derive_generator(self.conventions.seed, "single_gallery_shot", int(query)).random(
            (SINGLE_SHOT_DRAWS, len(identities))
        )
        drawn = self.gallery.by_pid[starts + (uniform * counts).astype(np.int64)]
        own = int(np.searchsorted(identities, pid))
        matches = self.gallery.by_pid[starts[own] : starts[own] + counts[own]]
        matches = matches[self.gallery.camids[matches] != camid]
        drawn[:, own] = matches[(uniform[:, own] * len(matches)).astype(np.int64)]
        nearness, match = distances[drawn], drawn[:, own, None]
        nearer = (nearness < distances[match]) | ((nearness == distances[match]) & (drawn < match))
        ranks = 1 + nearer.sum(axis=1)
        return (ranks[:, None] <= np.arange(1, self.length + 1)).mean(axis=0)

    def metrics(self) -> RetrievalMetrics:
        """Means over the queries that have a match.

        Raises:
            UserError: a query with NaN distances, or no query with a match.
        """
        num_queries, broken = len(self.table), np.flatnonzero(self.table[:, 3])
        if len(broken):
            raise UserError(f"query {broken[0]}: its distances hold NaN; check its features for non-finite values")
        valid = np.flatnonzero(self.table[:, 2])
        if not len(valid):
            raise UserError(
                f"none of the {num_queries} queries has a match in the gallery from another camera (or, without "
                "cameras, in another file); check that query and gallery share identities, and their camera ids"
            )
        if self.curves is None:
            firsts = self.table[valid, 2].astype(np.int64) - 1
            cmc = np.cumsum(np.bincount(firsts, minlength=self.length)[: self.length]) / len(valid)
        else:
            cmc = self.curves[valid].mean(axis=0)
        return RetrievalMetrics(
            mAP=float(self.table[valid, 0].mean()),
            mINP=float(self.table[valid, 1].mean()),
            cmc=cmc,
            num_queries=num_queries,
            num_valid_queries=len(valid),
        )
