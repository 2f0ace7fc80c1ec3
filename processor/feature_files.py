"""Features as they are stored in .npz files: TEST.FEATURE_DTYPE."""

import numpy as np
import torch

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
