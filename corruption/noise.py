"""Noise corruptions: each value of the image changes on its own.

Parameters and order of draws as in imagecorruptions 1.1.2. Each corruption takes a C-contiguous (H, W, 3) uint8 RGB
image, a severity from 1 to 5 and the draws, and returns a new image of the same shape and type.
"""

import numpy as np

import corruption._kernels as _kernels
from corruption.draws import Draws


def gaussian_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Gaussian noise of one standard deviation."""
    return _add_gaussian(image, (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1], draws, proportional=False)


def speckle_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Gaussian noise with a standard deviation proportional to the value."""
    return _add_gaussian(image, (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1], draws, proportional=True)


def _add_gaussian(image: np.ndarray, std: float, draws: Draws, *, proportional: bool) -> np.ndarray:
    noise = draws.normal(0.0, std, image.shape)
    out = np.empty_like(image)
    _kernels.add_noise(image.reshape(-1), noise.reshape(-1), proportional, out.reshape(-1))
    return out


def shot_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Poisson noise; white is 60 down to 3 photons."""
    return draws.photons(image, (60, 25, 12, 5, 3)[severity - 1])


def impulse_noise(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Salt and pepper: a fraction of the values becomes 0 or 255, half each.

    The published code draws from an unseeded generator: its images cannot be reproduced, their distribution can.
    """
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    uniforms = draws.uniform(image.shape)
    out = image.copy()
    out[uniforms < amount] = 255
    out[uniforms < amount / 2] = 0
    return out
