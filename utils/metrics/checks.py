"""What every evaluation of features asks of its input."""

import numpy as np
import torch

from utils.errors import UserError
from utils.structures import FeatureSet

METRICS = ("euclidean", "cosine")
MEMORY_LIMIT = 512 * 2**20  # bytes of one block of work, the default
BLOCK_ROWS = 256  # queries in a block at most: more make products no faster, and leave less to share out


def check_ids(where: str, **ids: object) -> list[np.ndarray]:
    """pids and camids as (N,) int64 arrays.

    Raises:
        UserError: one is not of integers that int64 holds, or not of one dimension.
    """
    checked = []
    for name, values in ids.items():
        array = np.asarray(values)
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise UserError(f"{where}: {name} is {array.dtype} {array.shape}; expected integers of one dimension")
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise UserError(f"{where}: {name} holds {array.max()}; expected ids that 64 bits with a sign hold")
        checked.append(np.ascontiguousarray(array, dtype=np.int64))
    return checked


def check_features(where: str, query: object, gallery: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Query (Q, D) and gallery (G, D) features as tensors of one floating type, without gradient.

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
        UserError: see check_ids and check_features; an unknown metric; or ids and features of different numbers.
    """
    if metric not in METRICS:
        raise UserError(f"{where}: metric {metric!r}: expected one of {', '.join(METRICS)}")
    features = check_features(where, query.features, gallery.features)
    checked = []
    for name, one, tensor in zip(("query", "gallery"), (query, gallery), features, strict=True):
        pids, camids = check_ids(f"{where}, {name}", pids=one.pids, camids=one.camids)
        if not len(pids) == len(camids) == len(tensor):
            raise UserError(
                f"{where}: {name} has {len(tensor)} features, {len(pids)} pids and {len(camids)} camids; "
                "expected as many of each"
            )
        checked.append(FeatureSet(tensor, pids, camids, one.paths))
    return checked[0], checked[1]


def centred(query: torch.Tensor, gallery: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """New tensors of both with the gallery's mean subtracted.

    Euclidean distances stay; computed as |q|^2 + |g|^2 - 2 q g they would lose the digits of what all features share.
    """
    mean = gallery.mean(dim=0)
    return query - mean, gallery - mean


def query_blocks(num_queries: int, num_gallery: int, row_bytes: int, memory_limit: int) -> list[range]:
    """Blocks of queries that fit the limit, of `row_bytes` for each entry of a row; at least one query each.

    Blocks do not depend on how many processes share them: products of other shapes would round differently.
    """
    rows = max(1, min(BLOCK_ROWS, memory_limit // (row_bytes * num_gallery)))
    return [range(start, min(start + rows, num_queries)) for start in range(0, num_queries, rows)]
