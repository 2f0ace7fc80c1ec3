"""glass_blur of imagecorruptions 1.1.2 with its pixel loop compiled; the same numbers, bit for bit.

The published loop reads `x[h, w], x[h', w'] = x[h', w'], x[h, w]`. On NumPy arrays both right-hand sides are views: the
first assignment already changes what the second one reads, which then writes x[h', w'] onto itself. What looks like a
swap is the copy x[h, w] = x[h', w'], and is kept so.

Its random integers come in pairs, `randint(-delta, delta, size=(2,))` per pixel. RandomState draws integers one by one
from the stream, so one call for all pixels of an iteration gives the same integers.
"""

import functools
import logging

import numpy as np

from corruption.published import gaussian

try:
    from corruption import _kernels
except ImportError:
    _kernels = None

logger = logging.getLogger(__name__)

# sigma of both blurs, largest displacement in pixels, iterations; by severity (imagecorruptions, glass_blur).
_SETTINGS = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))


def shuffle_python(image: np.ndarray, offsets: np.ndarray, delta: int) -> None:
    """One iteration of the local shuffle, in place, without the extension.

    Args:
        image: (H, W, 3) uint8, C-contiguous.
        offsets: (N, 2) displacements (dx, dy) in [-delta, delta), one per visited pixel.
        delta: largest displacement; a border of this width is not visited.
    """
    height, width = image.shape[:2]
    rows = np.arange(height - delta, delta, -1)
    columns = np.arange(width - delta, delta, -1)
    targets = (rows[:, None] * width + columns[None, :]).reshape(-1)
    sources = targets + offsets[:, 1] * width + offsets[:, 0]
    pixels = list(map(tuple, image.reshape(-1, 3).tolist()))
    for target, source in zip(targets.tolist(), sources.tolist(), strict=True):
        pixels[target] = pixels[source]
    image[...] = np.array(pixels, dtype=np.uint8).reshape(image.shape)


@functools.cache
def _warn_not_built() -> None:
    logger.warning(
        "corruption._kernels is not built: glass_blur runs in Python, about ten times slower, with the same numbers; "
        "build it with: python setup.py build_ext --inplace"
    )


def _shuffle(image: np.ndarray, offsets: np.ndarray, delta: int) -> None:
    if _kernels is None:
        _warn_not_built()
        shuffle_python(image, offsets, delta)
    else:
        _kernels.glass_shuffle(image, offsets, delta)


def glass_blur(image: np.ndarray, severity: int, rng: np.random.RandomState) -> np.ndarray:
    """Blur, local shuffle of pixels, blur.

    Args:
        image: (H, W, 3) uint8 RGB.
        severity: 1 to 5.
        rng: source of the displacements.

    Returns:
        (H, W, 3) float64 in [0, 255], not rounded.
    """
    sigma, delta, iterations = _SETTINGS[severity - 1]
    shuffled = np.ascontiguousarray(np.uint8(gaussian(image / 255.0, sigma, multichannel=True) * 255))
    visited = max(image.shape[0] - 2 * delta, 0) * max(image.shape[1] - 2 * delta, 0)
    for _ in range(iterations):
        _shuffle(shuffled, rng.randint(-delta, delta, size=(visited, 2), dtype=np.int64), delta)
    return np.clip(gaussian(shuffled / 255.0, sigma, multichannel=True), 0, 1) * 255
