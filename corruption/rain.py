"""Rain as in CIL-ReID, which calls RandomRain and RandomBrightness of albumentations 0.5 to 1.3 (2.0 has another rain).

Chen et al., "Benchmarks for Corruption Invariant Person Re-identification", https://arxiv.org/abs/2111.00880. With the
same random numbers, the images are the published ones bit for bit (tests/corruption/test_rain.py).
"""

from typing import NamedTuple

import cv2
import numpy as np

# Image pixels per drop and length of a drop in pixels, by severity: drizzle, heavy, heavy, torrential, torrential.
_KINDS = ((770, 10), (600, 30), (600, 30), (500, 60), (500, 60))
_MAX_SLANT = 10
_DROP_GREY = 200
# CIL-ReID enlarges images of height 60 or less to height 65, because a drop is up to 60 pixels long.
MIN_HEIGHT = 61
ENLARGED_HEIGHT = 65
# A drop slanted by up to 10 pixels must fit sideways.
MIN_WIDTH = _MAX_SLANT


class Drops(NamedTuple):
    """Rain drops: each runs from (x, y) to (x + slant, y + length); `starts` (N, 2) holds x, y as integers."""

    slant: int
    length: int
    starts: np.ndarray


def sample_drops(height: int, width: int, severity: int, rng: np.random.Generator | np.random.RandomState) -> Drops:
    """Samples the slant, then x and y of each drop in turn."""
    integers = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    area_per_drop, length = _KINDS[severity - 1]
    slant = int(rng.uniform(-_MAX_SLANT, _MAX_SLANT))
    low = (slant if slant < 0 else 0, 0)
    high = (width if slant < 0 else width - slant, height - length)  # inclusive
    count = height * width // area_per_drop
    return Drops(slant, length, integers(low, np.add(high, 1), size=(count, 2)))


def render_rain(image: np.ndarray, drops: Drops, severity: int) -> np.ndarray:
    """Draws streaks of grey 200, blurs, converts to 8-bit HSV and back, and darkens by 10 to 30 % of 255.

    Args:
        image: (H, W, 3) uint8 RGB, not modified.
        drops: from `sample_drops`.
        severity: 1 to 5.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    wet = image.copy()
    for x, y in drops.starts.tolist():
        cv2.line(wet, (x, y), (x + drops.slant, y + drops.length), (_DROP_GREY,) * 3, 1)
    side = 2 + severity
    wet = cv2.blur(wet, (side, side))
    wet = cv2.cvtColor(cv2.cvtColor(wet, cv2.COLOR_RGB2HSV), cv2.COLOR_HSV2RGB)
    darkening = (0.05 + 0.05 * severity) * 255
    table = np.clip(np.arange(256, dtype=np.float32) - darkening, 0, 255).astype(np.uint8)
    return cv2.LUT(wet, table)


def rain(image: np.ndarray, severity: int, rng: np.random.Generator | np.random.RandomState) -> np.ndarray:
    """Rain on an (H, W, 3) uint8 RGB image of at least MIN_HEIGHT x MIN_WIDTH pixels; returns a new image."""
    height, width = image.shape[:2]
    return render_rain(image, sample_drops(height, width, severity, rng), severity)
