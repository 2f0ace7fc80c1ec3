"""Digital corruptions: contrast, colour, compression, resolution and displacement.

Parameters and order of draws as in imagecorruptions 1.1.2. Each corruption takes a C-contiguous (H, W, 3) uint8 RGB
image, a severity from 1 to 5 and the draws, and returns a new image of the same shape and type.
"""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

import corruption._kernels as _kernels
from corruption.blur import gaussian_filter, to_uint8
from corruption.draws import Draws


def contrast(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Values pulled towards the mean colour."""
    factor = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    means = np.mean(image / 255.0, axis=(0, 1))
    levels = np.arange(256)[:, None] / 255.0
    table = to_uint8((levels - means) * factor + means)  # (256, 3)
    return cv2.LUT(image, table[None])


def saturate(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """HSV saturation lowered (severity 1, 2) or raised."""
    factor, shift = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    out = np.empty_like(image)
    _kernels.adjust_hsv(image.reshape(-1), factor, shift, 0.0, out.reshape(-1))
    return out


def jpeg_compression(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """JPEG of quality 25 down to 7, encoded by PIL as published."""
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
    return np.array(Image.open(file))


def pixelate(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Downsampled by area averaging, then upsampled without interpolation."""
    scale = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.NEAREST))


def elastic_transform(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Small smooth displacements, scaled by the height in both directions."""
    height, width = image.shape[:2]
    sigma = (height * 0.01, width * 0.01)
    strength = (250 * 0.05, 250 * 0.065, 250 * 0.085, 250 * 0.1, 250 * 0.12)[severity - 1]
    amplitude = height * 0.005
    # all of dx is drawn before dy; both are smoothed as the channels of one image
    shifts = draws.uniform((2, height, width)) * (2 * amplitude) - amplitude
    shifts = np.stack(shifts, axis=2).astype(np.float64)  # (2, H, W) -> (H, W, 2)
    shifts = gaussian_filter(shifts, sigma, truncate=3, reflect=True) * strength
    out = np.empty(image.shape, np.float32)
    _kernels.displace(image.astype(np.float32) / np.float32(255), shifts.astype(np.float32), out)
    return to_uint8(out)
