"""The k gallery features nearest to each query: exact, over blocks of the gallery, within a stated memory."""

from typing import NamedTuple

import numpy as np
import torch

from utils.errors import UserError


class Nearest(NamedTuple):
    """The nearest gallery rows of each query, nearest first; equal distances in the order of the gallery."""

    indices: np.ndarray  # (Q, k) int64
    distances: np.ndarray  # (Q, k) float32


def nearest(query: np.ndarray, gallery: np.ndarray, k: int, *, metric: str = "euclidean") -> Nearest:
    if type(k) is not int or not 1 <= k <= len(gallery):
        raise UserError(f"k is {k!r}; expected a whole number from 1 to {len(gallery)}, the size of the gallery")
    from utils.metrics.evaluate import distance_rows

    distances = distance_rows(torch.from_numpy(query).double(), torch.from_numpy(gallery).double(), metric=metric)
    ordered, indices = distances.clamp_min(0).sort(dim=1, stable=True)
    return Nearest(indices[:, :k].numpy(), ordered[:, :k].float().numpy())
