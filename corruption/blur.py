"""Blur corruptions, and the filters that weather and digital corruptions share with them.

Parameters and order of draws as in imagecorruptions 1.1.2. Each corruption takes a C-contiguous (H, W, 3) uint8 RGB
image, a severity from 1 to 5 and the draws, and returns a new image of the same shape and type.
"""

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np

import corruption._kernels as _kernels
from corruption.draws import Draws


@functools.lru_cache(maxsize=64)
def _half_kernel(sigma: float, truncate: float) -> np.ndarray:
    """One half of SciPy's Gaussian kernel: outermost weight first, centre last; the whole kernel sums to 1."""
    radius = int(truncate * sigma + 0.5)
    kernel = np.exp(-0.5 / (sigma * sigma) * np.arange(-radius, radius + 1) ** 2)
    return (kernel / kernel.sum())[: radius + 1]


def gaussian_filter(
    image: np.ndarray, sigma: tuple[float, float], *, truncate: float = 4.0, reflect: bool = False
) -> np.ndarray:
    """Computes scipy.ndimage.gaussian_filter over the first two axes, bit for bit.

    Args:
        image: (H, W, C) float64.
        sigma: vertical and horizontal standard deviation, in pixels.
        truncate: radius of the kernel in standard deviations.
        reflect: pad with the mirror image, edges doubled (SciPy's "reflect"); otherwise with the edge ("nearest").

    Returns:
        (H, W, C) float64.
    """
    out = np.empty(image.shape)
    down, across = (_half_kernel(float(value), truncate) for value in sigma)
    _kernels.symmetric_filter(image, down, across, reflect, out)
    return out


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Converts values to grey levels: clipped to [0, 1], times 255, truncated to integers as published."""
    out = np.empty(values.shape, np.uint8)
    _kernels.to_uint8(values.reshape(-1), out.reshape(-1))
    return out


def gaussian_blur(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Blur by a Gaussian kernel."""
    sigma = (1, 2, 3, 4, 6)[severity - 1]
    return to_uint8(gaussian_filter(image / 255.0, (sigma, sigma)))


def glass_blur(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Blur, local shuffle of pixels, blur.

    The published loop says `x[h, w], x[h', w'] = x[h', w'], x[h, w]`. On NumPy arrays both right-hand sides are views:
    the first assignment changes what the second one reads, which then writes x[h', w'] onto itself. What looks like a
    swap is the copy x[h, w] = x[h', w'], and stays one here. The loop skips `delta + 1` rows and columns at the upper
    and left edges, and `delta - 1` at the lower and right ones.
    """
    sigma, delta, iterations = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    shuffled = to_uint8(gaussian_filter(image / 255.0, (sigma, sigma)))
    visited = max(image.shape[0] - 2 * delta, 0) * max(image.shape[1] - 2 * delta, 0)
    for _ in range(iterations):
        _kernels.glass_shuffle(shuffled, draws.offsets(delta, visited), delta)
    return to_uint8(gaussian_filter(shuffled / 255.0, (sigma, sigma)))


@functools.cache
def _disc(radius: int, smoothing: float) -> np.ndarray:
    """A disc of sum 1 with a softened edge, float32."""
    offsets = np.arange(-max(radius, 8), max(radius, 8) + 1)
    disc = np.array(offsets**2 + offsets[:, None] ** 2 <= radius**2, dtype=np.float32)
    disc /= disc.sum()
    side = 3 if radius <= 8 else 5
    return cv2.GaussianBlur(disc, ksize=(side, side), sigmaX=smoothing)


def defocus_blur(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Blur by a disc, as from a lens out of focus."""
    disc = _disc(*((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1])
    return to_uint8(cv2.filter2D(image / 255.0, -1, disc))


class _Motion(NamedTuple):
    """Taps of a motion blur: `weights` (K,) and `shifts` (K, 2) dx, dy in pixels."""

    weights: np.ndarray
    shifts: np.ndarray


def _motion(radius: int, sigma: float, angle: float, height: int, width: int) -> _Motion:
    """One half of a Gaussian kernel along a line; it ends where a shift exceeds the image."""
    taps = 2 * radius + 1
    weights = np.exp(-(np.arange(taps) ** 2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
    point = (taps * np.sin(np.deg2rad(angle)), taps * np.cos(np.deg2rad(angle)))
    length = math.hypot(*point)
    shifts = [(-math.ceil(i * point[1] / length - 0.5), -math.ceil(i * point[0] / length - 0.5)) for i in range(taps)]
    inside = next((k for k, (dx, dy) in enumerate(shifts) if abs(dy) >= height or abs(dx) >= width), taps)
    return _Motion((weights / weights.sum())[:inside], np.array(shifts[:inside], dtype=np.int64))


def motion_filter(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Blurs along one direction; the edge is repeated.

    Args:
        image: (H, W, C) uint8 or float.
        radius: the kernel has 2 radius + 1 taps, one half of a Gaussian.
        sigma: standard deviation of the Gaussian, in pixels.
        angle: direction of the motion, in degrees.

    Returns:
        (H, W, C) float64.
    """
    height, width = image.shape[:2]
    motion = _motion(radius, sigma, angle, height, width)
    margin = int(np.abs(motion.shifts[:, 0]).max())
    padded = np.empty((height, width + 2 * margin, image.shape[2]))
    padded[:, margin : margin + width] = image
    padded[:, :margin] = image[:, :1]
    padded[:, margin + width :] = image[:, -1:]
    out = np.empty(image.shape)
    _kernels.motion_filter(padded, motion.weights, motion.shifts, out)
    return out


def motion_blur(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Blur along one direction, within 45 degrees of the horizontal."""
    radius, sigma = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1]
    blurred = motion_filter(image, radius, sigma, draws.between(-45, 45))
    return np.clip(blurred, 0, 255, out=blurred).astype(np.uint8)


class _Zoom(NamedTuple):
    """A centre crop that is enlarged: the crop, its enlarged size, and the step between sampled pixels."""

    crop: tuple[slice, slice]
    size: tuple[int, int]
    steps: tuple[float, float]


@functools.lru_cache(maxsize=256)
def _zoom(height: int, width: int, factor: float) -> _Zoom:
    crop_height, crop_width = math.ceil(height / factor), math.ceil(width / factor)
    new_height, new_width = round(crop_height * factor), round(crop_width * factor)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return _Zoom(
        crop=(slice(top, top + crop_height), slice(left, left + crop_width)),
        size=(new_height, new_width),
        steps=(_step(crop_height, new_height), _step(crop_width, new_width)),
    )


def _step(length: int, new_length: int) -> float:
    """Distance between sampled pixels where `length` pixels become `new_length`, corners aligned."""
    return (length - 1) / (new_length - 1) if new_length > 1 else 1.0


def clipped_zoom(layer: np.ndarray, factor: float) -> np.ndarray:
    """Enlarges the centre of `layer` (H, W, C) bilinearly to H x W or a pixel more, as imagecorruptions' clipped_zoom.

    That is scipy.ndimage.zoom of order 1: where rounding puts a coordinate beyond the last pixel, SciPy gives 0.
    """
    zoom = _zoom(*layer.shape[:2], factor)
    zoomed = np.zeros((*zoom.size, layer.shape[2]), layer.dtype)
    _kernels.add_zoomed(layer[zoom.crop], *zoom.steps, zoomed)
    return zoomed


_ZOOMS = (
    np.arange(1, 1.11, 0.01),
    np.arange(1, 1.16, 0.01),
    np.arange(1, 1.21, 0.02),
    np.arange(1, 1.26, 0.02),
    np.arange(1, 1.31, 0.03),
)


def zoom_blur(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Mean of the image at several magnifications."""
    factors = _ZOOMS[severity - 1]
    layer = (image / 255.0).astype(np.float32)
    total = np.zeros_like(layer)
    for factor in factors.tolist():
        zoom = _zoom(*image.shape[:2], factor)
        _kernels.add_zoomed(layer[zoom.crop], *zoom.steps, total)
    total += layer
    total /= len(factors) + 1
    return to_uint8(total)
