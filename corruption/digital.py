"""Digital corruptions. Settings and order of draws as in imagecorruptions 1.1.2.

Each function takes a C-contiguous (H, W, 3) uint8 RGB picture, a severity from 1 to 5 and the draws, and returns a new
picture of the same kind.
"""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from corruption import _kernels
from corruption.blur import gaussian_filter, to_uint8
from corruption.draws import Draws


def contrast(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Values pulled towards the mean colour."""
    keep = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    means = np.mean(image / 255.0, axis=(0, 1))
    levels = np.arange(256)[:, None] / 255.0
    return cv2.LUT(image, to_uint8((levels - means) * keep + means)[None])


def saturate(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Lowered (severity 1, 2) or raised HSV saturation."""
    factor, shift = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    out = np.empty_like(image)
    _kernels.adjust_hsv(image.reshape(-1), factor, shift, 0.0, out.reshape(-1))
    return out


def jpeg_compression(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """JPEG of quality 25 down to 7, by PIL as published."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    return np.array(Image.open(file))


def pixelate(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Reduced by area averaging and enlarged again without interpolation."""
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.NEAREST))


def elastic_transform(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Small smooth displacements; their size follows the height, also across."""
    height, width = image.shape[:2]
    sigma = (height * 0.01, width * 0.01)
    strength = (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12)[severity - 1]
    largest = height * 0.005
    # dx is drawn whole before dy; both are smoothed as the channels of one picture
    drawn = draws.uniform((2, height, width)) * (2 * largest) - largest
    smooth = gaussian_filter(np.stack(drawn, axis=2).astype(np.float64), sigma, truncate=3, reflect=True) * strength
    out = np.empty(image.shape, np.float32)
    _kernels.displace(image.astype(np.float32) / np.float32(255), smooth.astype(np.float32), out)
    return to_uint8(out)
