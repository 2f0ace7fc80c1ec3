"""Approximate search among many features by faiss (package faiss-cpu), and its recall against the exact search.

Inverted lists with half-precision features (ivf) or with product quantisation (ivfpq): Johnson et al., Billion-scale
similarity search with GPUs, 2019, https://arxiv.org/abs/1702.08734. The index gives candidates; their distances are
computed from the features themselves, in float64, so that an approximate result may lack a neighbour but never has a
wrong distance.
"""

import importlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.metrics.nearest import SPARE, Nearest, nearest, rank_candidates

logger = logging.getLogger(__name__)

KINDS = ("ivf", "ivfpq")
BLOCK_ROWS = 2**17  # features that are added at once
# faiss warns where a list has fewer training features than MIN_TRAINED, and uses no more than MAX_TRAINED.
MIN_TRAINED, MAX_TRAINED = 39, 256
LISTS_PER_ROOT = 4  # lists for each root of the number of features, as faiss's guidelines advise
MAX_LISTS = 2**14
CODE_BYTES = 64  # of a product-quantised feature, at most
CODEBOOK = 2**8  # centroids of each byte


def check_faiss() -> None:
    """Raises UserError where faiss is not installed."""
    if importlib.util.find_spec("faiss") is None:
        raise UserError(
            "approximate search needs the package faiss-cpu, not installed here: pip install faiss-cpu, or leave out "
            "--index: the exact search needs no package"
        )


def _faiss() -> Any:
    check_faiss()
    return importlib.import_module("faiss")


class ApproximateIndex:
    """An index of gallery features; `build_index` and `load_index` make it."""

    def __init__(self, index: Any, *, metric: str) -> None:
        self.index, self.metric = index, metric

    def search(self, query: np.ndarray, gallery: Any, k: int, *, nprobe: int) -> Nearest:
        """The `k` nearest of the features that the index finds in `nprobe` lists, by their exact distances.

        Args:
            query: (Q, D).
            gallery: the features that the index was built from.
            k: neighbours of each query.
            nprobe: lists that are searched; more find more, slower.

        Raises:
            UserError: so few features are in the lists that were searched that k are not found.
        """
        count = min(len(gallery), k + max(k, SPARE))
        nprobe = min(nprobe, self.index.nlist)
        self.index.nprobe = nprobe
        _, found = self.index.search(_scaled(query, self.metric), count)
        found = found[:, : max(k, int((found >= 0).sum(axis=1).min()))]  # -1 where the lists hold no more
        if (found < 0).any():
            raise UserError(
                f"the {nprobe} lists that were searched hold fewer than {k} features; raise --nprobe (of "
                f"{self.index.nlist} lists)"
            )
        ranked = rank_candidates(query, gallery, found, metric=self.metric)
        return Nearest(ranked.indices[:, :k], ranked.distances[:, :k])

    def save(self, path: Path) -> None:
        """Writes the index to a file."""
        _faiss().write_index(self.index, str(path))


def load_index(path: Path, *, metric: str) -> ApproximateIndex:
    """Reads an index that `ApproximateIndex.save` wrote."""
    return ApproximateIndex(_faiss().read_index(str(path)), metric=metric)


def build_index(gallery: Any, kind: str, *, metric: str, seed: int) -> ApproximateIndex:
    """Trains an index on some of the features and adds all of them, block by block.

    ivf keeps 2 D + 8 bytes a feature in memory, ivfpq at most CODE_BYTES + 8.

    Args:
        gallery: (G, D); see `nearest`.
        kind: one of KINDS.
        metric: "euclidean" or "cosine".
        seed: of the training sample.

    Raises:
        UserError: faiss is not installed, or there are too few features for this kind of index.
    """
    faiss = _faiss()
    count, dimensions = gallery.shape
    if kind == "ivfpq" and count < CODEBOOK * MIN_TRAINED:
        raise UserError(
            f"--index ivfpq: the gallery has {count} features, expected at least {CODEBOOK * MIN_TRAINED} to train its "
            "codes on; search it exactly, which is fast for as few"
        )
    lists = max(1, min(int(LISTS_PER_ROOT * count**0.5), count // MIN_TRAINED, MAX_LISTS))
    code = next(size for size in range(min(CODE_BYTES, dimensions), 0, -1) if dimensions % size == 0)
    encoding = {"ivf": "SQfp16", "ivfpq": f"PQ{code}"}[kind]
    index = faiss.index_factory(dimensions, f"IVF{lists},{encoding}", faiss.METRIC_L2)
    sampled = min(count, MAX_TRAINED * max(lists, CODEBOOK if kind == "ivfpq" else 1))
    rows = np.sort(np.random.default_rng(seed).choice(count, sampled, replace=False))
    index.train(_scaled(gallery[rows], metric))
    for start in range(0, count, BLOCK_ROWS):
        index.add(_scaled(gallery[start : start + BLOCK_ROWS], metric))
    logger.info("index IVF%d,%s of %d features, trained on %d", lists, encoding, count, sampled)
    return ApproximateIndex(index, metric=metric)


def _scaled(features: np.ndarray, metric: str) -> np.ndarray:
    """As float32; of unit norm with "cosine", whose order is then that of Euclidean distances."""
    scaled = np.ascontiguousarray(features, dtype=np.float32)
    if metric == "cosine":
        scaled = scaled / np.linalg.norm(scaled, axis=1, keepdims=True).clip(1e-12)
    return scaled


def recall(found: Nearest, query: np.ndarray, gallery: Any, k: int, *, metric: str) -> float:
    """The share of the exact `k` nearest that `found` has, over all queries."""
    exact = nearest(query, gallery, k, metric=metric).indices
    pairs = zip(found.indices, exact, strict=True)
    return float(np.mean([len(np.intersect1d(row, other)) / k for row, other in pairs]))
