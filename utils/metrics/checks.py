"""Input checks and blocks of queries that evaluation, re-ranking and verification share."""

import numpy as np
import torch

from utils.errors import UserError
from utils.structures import FeatureSet

METRICS = ("euclidean", "cosine")
MEMORY_LIMIT = 256 * 2**20  # bytes of one block, the default
SMALL_OFFSET = 0.5  # of all features, relative to the root mean square of their deviations from it
BLOCK_ROWS = 1024  # queries in a block at most: more leave few blocks for processes to share, fewer slow products down


def check_ids(where: str, **ids: object) -> list[np.ndarray]:
    """pids and camids as (N,) int64 arrays.

    Raises:
        UserError: one is not one-dimensional, or not of integers that fit into int64.
    """
    checked = []
    for name, values in ids.items():
        array = np.asarray(values)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            names = "; np.unique(query's and gallery's, return_inverse=True) numbers names"
            numbered = names if array.dtype.kind in "US" else ""
            raise UserError(
                f"{where}: {name} is {array.dtype} {array.shape}; expected integers of one dimension{numbered}"
            )
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise UserError(f"{where}: {name} holds {array.max()}; expected ids that 64 bits with a sign hold")
        checked.append(np.ascontiguousarray(array, dtype=np.int64))
    return checked


def check_features(where: str, query: object, gallery: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Query (Q, D) and gallery (G, D) features as tensors of one floating point type, without gradient.

    Raises:
        UserError: shapes that do not fit, or a feature that is not finite.
    """
    sides = {"query": query, "gallery": gallery}
    tensors = {name: torch.as_tensor(features).detach() for name, features in sides.items()}
    shapes = {name: tuple(features.shape) for name, features in tensors.items()}
    if any(len(s) != 2 or 0 in s for s in shapes.values()) or shapes["query"][1] != shapes["gallery"][1]:
        raise UserError(
            f"{where}: query features {shapes['query']}, gallery features {shapes['gallery']}; "
            "expected (Q, D) and (G, D), neither empty"
        )
    double = any(features.dtype == torch.float64 for features in tensors.values())
    for name, features in tensors.items():
        tensors[name] = features.to(torch.float64 if double else torch.float32)
        broken = ~torch.isfinite(tensors[name].norm(dim=1))
        if broken.any():
            raise UserError(
                f"{where}: the feature of {name} {int(broken.nonzero()[0])} is not finite, or too large to be squared; "
                "the checkpoint's weights may be broken"
            )
    return tensors["query"], tensors["gallery"]


def check_sets(where: str, query: FeatureSet, gallery: FeatureSet, metric: str) -> tuple[FeatureSet, FeatureSet]:
    """Both sets with their features and ids checked.

    Raises:
        UserError: see check_ids and check_features; an unknown metric; or different numbers of ids and features.
    """
    if metric not in METRICS:
        raise UserError(f"{where}: metric {metric!r}: expected one of {', '.join(METRICS)}")
    features = check_features(where, query.features, gallery.features)
    checked = []
    for name, side, tensor in zip(("query", "gallery"), (query, gallery), features, strict=True):
        pids, camids = check_ids(f"{where}, {name}", pids=side.pids, camids=side.camids)
        if not len(pids) == len(camids) == len(tensor):
            raise UserError(
                f"{where}: {name} has {len(tensor)} features, {len(pids)} pids and {len(camids)} camids; "
                "expected as many of each"
            )
        checked.append(FeatureSet(tensor, pids, camids, side.paths))
    return checked[0], checked[1]


def centred(query: torch.Tensor, gallery: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both, with the mean of the gallery subtracted, as new tensors; themselves where that would spare no digits.

    Euclidean distances do not change. Without this, |q|^2 + |g|^2 - 2 q g loses digits where all features share an
    offset that is large beside their deviations from it. An offset of half of them adds a quarter to the rounding.
    """
    mean = gallery.mean(dim=0)
    offset = mean.square().sum()
    deviation = gallery.norm(dim=1).square().mean() - offset
    if offset <= SMALL_OFFSET**2 * deviation:
        return query, gallery
    return query - mean, gallery - mean


def query_blocks(num_queries: int, num_gallery: int, row_bytes: int, memory_limit: int) -> list[range]:
    """Blocks of queries that fit into the limit, with `row_bytes` for each entry of a row; at least one query each.

    The blocks do not depend on the number of processes: matrix products of other shapes round differently.
    """
    rows = max(1, min(BLOCK_ROWS, memory_limit // (row_bytes * num_gallery)))
    return [range(start, min(start + rows, num_queries)) for start in range(0, num_queries, rows)]
