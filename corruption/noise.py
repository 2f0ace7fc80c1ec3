"""Noise: every value of a picture on its own. Settings and order of draws as in imagecorruptions 1.1.2.

Each function takes a C-contiguous (H, W, 3) uint8 RGB picture, a severity from 1 to 5 and the draws, and returns a new
picture of the same kind.
"""

import numpy as np

from corruption import _kernels
from corruption.draws import Draws


def _normal_noise(image: np.ndarray, deviation: float, draws: Draws, *, proportional: bool) -> np.ndarray:
    noise = draws.normal(0.0, deviation, image.shape)
    out = np.empty_like(image)
    _kernels.add_noise(image.reshape(-1), noise.reshape(-1), proportional, out.reshape(-1))
    return out


def gaussian_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Normal noise of the same deviation everywhere."""
    return _normal_noise(image, (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1], draws, proportional=False)


def speckle_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Normal noise with a deviation proportional to the value."""
    return _normal_noise(image, (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1], draws, proportional=True)


def shot_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Poisson noise; white is 60 down to 3 photons."""
    return draws.photons(image, (60, 25, 12, 5, 3)[severity - 1])


def impulse_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Salt and pepper: a share of the values becomes 0 or 255, half each.

    The published code draws from a generator that nobody seeds: no picture can be reproduced, the distribution is.
    """
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    drawn = draws.uniform(image.shape)
    out = image.copy()
    out[drawn < amount] = 255
    out[drawn < amount / 2] = 0
    return out
