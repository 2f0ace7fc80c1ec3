"""Metrics of many queries from the ranks of their true matches.

The ranks come from compiled code that never sorts a row (rank_cylib.pyx), or from NumPy, which sorts. Both give the
same integers. utils.metrics.reference defines what is computed.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from utils.errors import UserError
from utils.extensions import HOW_TO_BUILD, load_extension, warn_not_built
from utils.metrics.reference import rank_gallery
from utils.seeds import derive_generator
from utils.structures import JUNK_PID, RetrievalMetrics

EXTENSION = "utils.metrics.rank_cylib"
rank_cylib: Any = load_extension(EXTENSION)

BACKENDS = ("auto", "cython", "numpy")
AP_CONVENTIONS = ("step", "trapezoid")
CMC_CONVENTIONS = ("standard", "single_gallery_shot")
SINGLE_SHOT_REPEATS = 100  # random galleries, the mean over which is the curve


def _stable_order(ids: np.ndarray) -> np.ndarray:
    """As np.argsort, which sorts 16 bits by radix: ten times as fast where the ids are that close together."""
    if len(ids) and int(ids.max()) - int(ids.min()) < 2**16:
        ids = (ids - ids.min()).astype(np.uint16)
    return np.argsort(ids, kind="stable")


class Gallery:
    """Identities and cameras of the gallery, and an index from identity to gallery entries.

    Args:
        pids, camids: (G,) integers.
    """

    def __init__(self, pids: np.ndarray, camids: np.ndarray) -> None:
        self.pids, self.camids = (np.ascontiguousarray(ids, dtype=np.int64) for ids in (pids, camids))
        if self.pids.shape != self.camids.shape:
            raise UserError(f"gallery: {len(self.pids)} pids and {len(self.camids)} camids; expected as many of each")
        self.by_pid = _stable_order(self.pids)  # sorted by identity, then by gallery order
        in_order = self.pids[self.by_pid]
        self.starts = np.flatnonzero(np.diff(in_order, prepend=in_order[:1] - 1))  # of each identity, in by_pid
        self.stops = np.append(self.starts[1:], len(in_order))
        self.identities = in_order[self.starts]
        self.junk = self.pids == JUNK_PID

    def __len__(self) -> int:
        return len(self.pids)

    def entries(self, pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the entries of each of `pids` start and stop in `by_pid`; none for junk."""
        places = np.searchsorted(self.identities, pids, side="right") - 1
        starts = self.starts[places]
        return starts, np.where((self.identities[places] == pids) & (pids != JUNK_PID), self.stops[places], starts)


class Matches(NamedTuple):
    """Ranks of the true matches of some queries."""

    ranks: np.ndarray  # from 1, increasing for each query, one query after the other
    counts: np.ndarray  # (queries,) number of ranks of each query
    broken: np.ndarray  # (queries,) bool: NaN among the distances


def _matches_numpy(distances: np.ndarray, pids: np.ndarray, camids: np.ndarray, gallery: Gallery) -> Matches:
    """Sorts every row, as the definition does."""
    ranks = []
    for row, pid, camid in zip(distances, pids, camids, strict=True):
        ranking = rank_gallery(row, pid, camid, gallery.pids, gallery.camids)
        ranks.append(np.flatnonzero(gallery.pids[ranking] == pid) + 1)
    counts = np.array([len(of_query) for of_query in ranks], dtype=np.int64)
    return Matches(np.concatenate(ranks), counts, np.isnan(distances).any(axis=1))


def _matches_cython(distances: np.ndarray, pids: np.ndarray, camids: np.ndarray, gallery: Gallery) -> Matches:
    """Counts the entries that are nearer than each match, in compiled code."""
    starts, stops = gallery.entries(pids)
    room = stops - starts
    offsets = np.cumsum(room) - room
    ranks, counts = np.empty(room.sum(), np.int64), np.empty(len(pids), np.int64)
    broken = np.empty(len(pids), np.uint8)
    index = (gallery.by_pid, gallery.camids, gallery.junk.view(np.uint8))
    written_to = (offsets, ranks, counts, broken)
    rows = np.ascontiguousarray(distances)
    found = rank_cylib.match_ranks(rows, camids, starts, stops, *index, *written_to, torch.get_num_threads())
    return Matches(ranks[:found], counts, broken.astype(bool))


def _pick_backend(backend: str) -> Callable[..., Matches]:
    if backend == "numpy":
        return _matches_numpy
    if rank_cylib is not None:
        return _matches_cython
    if backend == "cython":
        raise UserError(f"evaluation backend 'cython': {EXTENSION} is not built; {HOW_TO_BUILD}")
    warn_not_built(EXTENSION, "NumPy ranks the gallery, many times slower, with the same numbers")
    return _matches_numpy


@dataclass(frozen=True)
class Conventions:
    """Options of the metrics.

    Attributes:
        max_rank: length of the CMC curve; at most the size of the gallery is returned.
        ap: "step" or "trapezoid", see utils.metrics.reference.
        cmc: "standard": a query scores at k if any of its matches is among the first k. "single_gallery_shot", CUHK03's
            first protocol: one image is sampled for every gallery identity, and the curve is the mean over 100 repeats.
            Distractors count as one identity; of other identities, images by the query's own camera may be sampled.
        seed: of the images sampled for single_gallery_shot.
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
    """Metrics of single queries, filled in block by block.

    Args:
        num_queries: of all blocks.
        gallery: its identities and cameras.
        conventions: options.
    """

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
        """The arrays that are filled in, one row a query; zero until then."""
        return [self.table] if self.curves is None else [self.table, self.curves]

    def add(self, start: int, distances: np.ndarray, pids: np.ndarray, camids: np.ndarray) -> None:
        """Fills in the queries from index `start` on: distances (rows, G); pids, camids (rows,)."""
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
        """Identities of the gallery without junk, where their entries start in `by_pid`, and their numbers."""
        kept = self.gallery.identities != JUNK_PID
        starts, stops = self.gallery.starts[kept], self.gallery.stops[kept]
        return self.gallery.identities[kept], starts, stops - starts

    def _single_shot_curve(self, distances: np.ndarray, pid: int, camid: int, query: int) -> np.ndarray:
        """Mean CMC curve of one query over repeats that sample one entry for each identity."""
        identities, starts, counts = self._identities
        uniform = derive_generator(self.conventions.seed, "single_gallery_shot", int(query)).random(
            (SINGLE_SHOT_REPEATS, len(identities))
        )
        sampled = self.gallery.by_pid[starts + (uniform * counts).astype(np.int64)]  # (repeats, identities)
        own = int(np.searchsorted(identities, pid))
        matches = self.gallery.by_pid[starts[own] : starts[own] + counts[own]]
        matches = matches[self.gallery.camids[matches] != camid]
        sampled[:, own] = matches[(uniform[:, own] * len(matches)).astype(np.int64)]
        found, match = distances[sampled], sampled[:, own, None]
        nearer = (found < distances[match]) | ((found == distances[match]) & (sampled < match))
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
            per_query=self.table[:, :3].copy(),
        )
