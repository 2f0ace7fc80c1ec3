"""Which distance means the same person: true and false accept rates over all pairs of query and gallery.

A pair is genuine where the identities agree and an impostor where they do not; pairs by one camera of one person, and
junk, do not count, distractors are impostors (the pairs that retrieval is measured on). At a threshold t, TAR is the
share of genuine and FAR that of impostor pairs at a distance of at most t. At the equal error rate FAR = 1 - TAR.
Terms: ISO/IEC 19795-1; Grother et al., Face Recognition Vendor Test.
"""

from dataclasses import dataclass

import numpy as np
import torch

from utils.errors import UserError
from utils.metrics.checks import MEMORY_LIMIT, centred, check_sets, query_blocks
from utils.metrics.ranking import JUNK_PID
from utils.structures import FeatureSet
from utils.text import format_csv

FALSE_ACCEPT_RATES = (1e-2, 1e-3, 1e-4)
# Distances are counted by the upper bits of their float32, sign, exponent and 12 bits after it: a bin is one part in
# 4096 wide, whatever the scale of the features.
_DROPPED_BITS = 11
_BINS = 2 ** (31 - _DROPPED_BITS)


@dataclass(frozen=True)
class OperatingPoint:
    """`name`; accept a pair as one person where its distance is at most `threshold`, with the rates that follow."""

    name: str
    threshold: float
    true_accept_rate: float
    false_accept_rate: float


@dataclass(frozen=True)
class Verification:
    """Operating points, and the numbers of pairs that they are measured on; `equal_error_rate` is a fraction."""

    points: tuple[OperatingPoint, ...]
    equal_error_rate: float
    num_genuine: int
    num_impostor: int


def verify(
    query: FeatureSet, gallery: FeatureSet, *, metric: str = "euclidean", memory_limit: int = MEMORY_LIMIT
) -> Verification:
    """Thresholds for features, by blocks of queries.

    Args:
        query, gallery: features with identities and cameras.
        metric: "euclidean" (not squared) or "cosine" (1 - cosine).
        memory_limit: bytes of a block of work; with "euclidean" a centred copy of the features comes on top.

    Returns:
        Thresholds are exact to one part in 4096, near zero to the rounding of float32 (about 1e-3 of the centred
        features' norm for "euclidean", 1e-7 for "cosine").

    Raises:
        UserError: input that does not fit or is not finite, or no genuine or no impostor pair.
    """
    query, gallery = check_sets("verify", query, gallery, metric)
    q_features, g_features = query.features, gallery.features
    if metric == "euclidean":
        q_features, g_features = centred(q_features, g_features)
    q_features, g_features = q_features.float(), g_features.float()
    q_norms, g_norms = q_features.norm(dim=1), g_features.norm(dim=1)
    genuine, impostor = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    # distances, their bins as int64, masks, and room for work
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
    return _operating_points(genuine, impostor)


def _bins(
    query: torch.Tensor, gallery: torch.Tensor, q_norms: torch.Tensor, g_norms: torch.Tensor, metric: str
) -> np.ndarray:
    """The bin of every distance, (rows, G) int32; larger distances have larger bits."""
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
        largest_in_bin = np.array((index + 1 << _DROPPED_BITS) - 1, np.int32).view(np.float32)
        return OperatingPoint(name, float(largest_in_bin), float(true_accepts[index]), float(false_accepts[index]))

    crossing = int(np.abs(false_accepts - (1 - true_accepts)).argmin())
    points = [point("equal error rate", crossing)]
    for rate in FALSE_ACCEPT_RATES:
        accepted = int(np.searchsorted(false_accepts, rate, side="right"))  # the last bin that stays within the rate
        if accepted:
            points.append(point(f"FAR {rate:g}", accepted - 1))
    return Verification(
        points=tuple(points),
        equal_error_rate=float(false_accepts[crossing] + 1 - true_accepts[crossing]) / 2,
        num_genuine=int(genuine.sum()),
        num_impostor=int(impostor.sum()),
    )


def make_threshold_csv(found: dict[str, Verification], metric: str) -> str:
    """A row for every setting and operating point."""
    columns, rows = ("threshold", "true_accept_rate", "false_accept_rate"), []
    for protocol, result in found.items():
        totals = (result.equal_error_rate, result.num_genuine, result.num_impostor)
        for point in result.points:
            rows.append([protocol, metric, point.name, *(getattr(point, column) for column in columns), *totals])
    header = ("protocol", "metric", "point", *columns, "equal_error_rate", "num_genuine", "num_impostor")
    return format_csv(header, rows)


def format_verification(found: Verification) -> str:
    """The table for people: threshold, true and false accept rates in percent."""
    lines = [
        f"{found.num_genuine} genuine and {found.num_impostor} impostor pairs, equal error rate "
        f"{100 * found.equal_error_rate:.2f} %",
        f"{'at':<17} {'distance up to':>14} {'true accepts %':>15} {'false accepts %':>16}",
    ]
    lines += [
        f"{p.name:<17} {p.threshold:>14.4f} {100 * p.true_accept_rate:>15.2f} {100 * p.false_accept_rate:>16.4f}"
        for p in found.points
    ]
    return "\n".join(lines)
