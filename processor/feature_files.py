"""Features as they are stored in .npz files, and the weights that they are of."""

import hashlib

import numpy as np
import torch
from torch import nn

from utils.errors import UserError


def stored(features: torch.Tensor, dtype: str) -> np.ndarray:
    """Features (N, D) in the precision of a file, little-endian.

    utils.metrics.evaluate_features takes arrays of either precision. float16 has 11 significant bits: the numbers of
    unit features, which are at most 1, change by less than 0.0005.

    Args:
        features: float32.
        dtype: "float32" or "float16".

    Raises:
        UserError: a feature is beyond the range of float16.
    """
    with np.errstate(over="ignore"):
        array = features.numpy().astype(np.dtype(dtype).newbyteorder("<"))
    if not np.isfinite(array).all():
        raise UserError(
            f"TEST.FEATURE_DTYPE {dtype}: features have values up to {features.abs().max():.4g}, expected at most "
            f"{np.finfo(dtype).max}; set TEST.FEAT_NORM True, or TEST.FEATURE_DTYPE float32"
        )
    return array


def weights_digest(model: nn.Module) -> str:
    """sha256 of the names, types, shapes and values of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, values in sorted(model.state_dict().items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
