"""Verification: thresholds on the distance, with true and false accept rates over all pairs of query and gallery.

A pair is genuine where the identities agree, and an impostor pair where they do not. As in retrieval, pairs of one
identity by one camera and junk do not count, and distractors are impostors. At a threshold t, the true accept rate
(TAR) is the share of genuine pairs at a distance of at most t, and the false accept rate (FAR) that of impostor pairs.
At the equal error rate FAR = 1 - TAR. Terms: ISO/IEC 19795-1; Grother et al., Face Recognition Vendor Test.
"""

from dataclasses import dataclass

import numpy as np
import torch

from utils.errors import UserError
from utils.escaping import format_csv
from utils.metrics.checks import MEMORY_LIMIT, centred, check_sets, query_blocks
from utils.openmp import sharing_cores
from utils.structures import JUNK_PID, FeatureSet
from utils.tables import make_table

FALSE_ACCEPT_RATES = (1e-2, 1e-3, 1e-4)
# Histogram bins are the upper bits of the distance as float32: sign, exponent and 12 bits of the mantissa. So a bin is
# one part in 4096 wide, whatever the scale of the features.
_DROPPED_BITS = 11
_BINS = 2 ** (31 - _DROPPED_BITS)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, the largest distance of a pair that is accepted as one identity, and the rates that follow."""

    name: str
    threshold: float
    true_accept_rate: float
    false_accept_rate: float


@dataclass(frozen=True)
class Verification:
    """Operating points, the equal error rate as a fraction, and the numbers of pairs."""

    points: tuple[OperatingPoint, ...]
    equal_error_rate: float
    num_genuine: int
    num_impostor: int


@sharing_cores()
def verify(
    query: FeatureSet, gallery: FeatureSet, *, metric: str = "euclidean", memory_limit: int = MEMORY_LIMIT
) -> Verification:
    """Verification thresholds and rates of features, by blocks of queries.

    Args:
        query, gallery: features with identities and cameras.
        metric: "euclidean" (not squared) or "cosine" (1 - cosine).
        memory_limit: bytes of a block; with "euclidean" a centred copy of the features comes on top.

    Returns:
        Thresholds with an error of one part in 4096, or near zero of float32's rounding (about 1e-3 of the norm of the
        centred features for "euclidean", 1e-7 for "cosine").

    Raises:
        UserError: input that does not fit or is not finite, or no genuine or no impostor pair.
    """
    return count_pairs(query, gallery, metric=metric, memory_limit=memory_limit).verification()


@dataclass(frozen=True)
class PairCounts:
    """Numbers of genuine and of impostor pairs in every bin of the distance, (_BINS,) int64."""

    genuine: np.ndarray
    impostor: np.ndarray

    def verification(self) -> Verification:
        """Thresholds and rates of these pairs."""
        return _operating_points(self.genuine, self.impostor)

    def histogram(self, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges (bins + 1,) from the smallest to the largest distance, and the numbers (bins,) of genuine and of
        impostor pairs between them."""
        found = np.flatnonzero(self.genuine + self.impostor)
        distances = _largest_in_bin(found)
        edges = np.linspace(distances[0], distances[-1], bins + 1)
        if distances[0] == distances[-1]:
            edges = np.linspace(distances[0] - 0.5, distances[0] + 0.5, bins + 1)
        genuine, impostor = (
            np.histogram(distances, edges, weights=counts[found])[0].astype(np.int64)
            for counts in (self.genuine, self.impostor)
        )
        return edges, genuine, impostor


def count_pairs(
    query: FeatureSet, gallery: FeatureSet, *, metric: str = "euclidean", memory_limit: int = MEMORY_LIMIT
) -> PairCounts:
    """Counts the pairs of query and gallery by distance; arguments and errors as in `verify`."""
    query, gallery = check_sets("verify", query, gallery, metric)
    q_features, g_features = query.features, gallery.features
    if metric == "euclidean":
        q_features, g_features = centred(q_features, g_features)
    q_features, g_features = q_features.float(), g_features.float()
    q_norms, g_norms = q_features.norm(dim=1), g_features.norm(dim=1)
    genuine, impostor = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    # distances, bins as int64, masks, and workspace
    for rows in query_blocks(len(query.pids), len(gallery.pids), 8 * 4, memory_limit):
        part = slice(rows.start, rows.stop)
        bins = _bins(q_features[part], g_features, q_norms[part], g_norms, metric)
        same = query.pids[part, None] == gallery.pids
        counted = (gallery.pids != JUNK_PID) & ~(same & (query.camids[part, None] == gallery.camids))
        genuine += np.bincount(bins[same & counted], minlength=_BINS)
        impostor += np.bincount(bins[~same & counted], minlength=_BINS)
    if not genuine.sum() or not impostor.sum():
        raise UserError(
            f"{genuine.sum()} genuine and {impostor.sum()} impostor pairs: thresholds need both; "
            "check that query and gallery share identities, and their camera ids"
        )
    return PairCounts(genuine, impostor)


def _largest_in_bin(index: np.ndarray) -> np.ndarray:
    """The largest distance in each bin, float64."""
    return (((index + 1) << _DROPPED_BITS) - 1).astype(np.int32).view(np.float32).astype(np.float64)


def _bins(
    query: torch.Tensor, gallery: torch.Tensor, q_norms: torch.Tensor, g_norms: torch.Tensor, metric: str
) -> np.ndarray:
    """The bin of every distance, (rows, G) int32. Larger floats have larger bits, so larger bins."""
    if metric == "cosine":
        distances = query @ gallery.T
        distances.div_(-(q_norms[:, None] * g_norms).clamp_min(1e-12)).add_(1).clamp_min_(0)
    else:
        distances = torch.addmm(g_norms.square(), query, gallery.T, alpha=-2).add_(q_norms.square()[:, None])
        distances.clamp_min_(0).sqrt_()
    return distances.cpu().numpy().view(np.int32) >> _DROPPED_BITS


def _operating_points(genuine: np.ndarray, impostor: np.ndarray) -> Verification:
    true_accepts = np.cumsum(genuine) / genuine.sum()
    false_accepts = np.cumsum(impostor) / impostor.sum()

    def point(name: str, index: int) -> OperatingPoint:
        threshold = float(_largest_in_bin(np.array([index]))[0])
        return OperatingPoint(name, threshold, float(true_accepts[index]), float(false_accepts[index]))

    crossing = int(np.abs(false_accepts - (1 - true_accepts)).argmin())
    points = [point("equal error rate", crossing)]
    for rate in FALSE_ACCEPT_RATES:
        num_bins = int(np.searchsorted(false_accepts, rate, side="right"))  # bins that stay within the rate
        if num_bins:
            points.append(point(f"FAR {rate:g}", num_bins - 1))
    return Verification(
        points=tuple(points),
        equal_error_rate=float(false_accepts[crossing] + 1 - true_accepts[crossing]) / 2,
        num_genuine=int(genuine.sum()),
        num_impostor=int(impostor.sum()),
    )


def make_threshold_csv(found: dict[str, Verification], metric: str) -> str:
    """The text of thresholds.csv: a row for every protocol and operating point."""
    columns, rows = ("threshold", "true_accept_rate", "false_accept_rate"), []
    for protocol, result in found.items():
        totals = (result.equal_error_rate, result.num_genuine, result.num_impostor)
        for point in result.points:
            rows.append([protocol, metric, point.name, *(getattr(point, column) for column in columns), *totals])
    header = ("protocol", "metric", "point", *columns, "equal_error_rate", "num_genuine", "num_impostor")
    return format_csv(header, rows)


def format_verification(found: Verification) -> str:
    """Counts and a table for the log: thresholds, true and false accept rates in percent."""
    rows = [
        (p.name, f"{p.threshold:.4f}", f"{100 * p.true_accept_rate:.2f}", f"{100 * p.false_accept_rate:.4f}")
        for p in found.points
    ]
    table = make_table(["at", "distance up to", "true accepts %", "false accepts %"], rows, "lr")
    return (
        f"{found.num_genuine} genuine and {found.num_impostor} impostor pairs, equal error rate "
        f"{100 * found.equal_error_rate:.2f} %\n\n{table}"
    )
