"""Random numbers of the corruptions: exactly those of the published code, or the same distributions at speed.

ExactDraws takes a RandomState and draws as the published code draws from NumPy's global one, in the same order: the
images are the published ones, except for impulse_noise, whose published code draws from another generator. FastDraws
takes a Generator and draws in single precision and from tables: the images agree with the published ones in
distribution.
"""

import functools

import numpy as np
from scipy.special import pdtr

import corruption._kernels as _kernels
from corruption.level_tables import make_tables


class ExactDraws:
    """Draws from a RandomState, number by number as published; arrays of float64 and int64."""

    def __init__(self, rng: np.random.RandomState) -> None:
        self.rng = rng

    def normal(self, mean: float, std: float, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.normal(mean, std, shape)

    def uniform(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """Numbers in [0, 1)."""
        return self.rng.random_sample(shape)

    def between(self, low: float, high: float) -> float:
        """One number in [low, high)."""
        return self.rng.uniform(low, high)

    def index(self, count: int) -> int:
        """One integer in [0, count)."""
        return int(self.rng.randint(count))

    def offsets(self, delta: int, count: int) -> np.ndarray:
        """(count, 2) integers in [-delta, delta)."""
        return self.rng.randint(-delta, delta, size=(count, 2), dtype=np.int64)

    def photons(self, image: np.ndarray, photons: int) -> np.ndarray:
        """Poisson noise on (H, W, 3) uint8; white is `photons` expected counts; returns uint8."""
        counts = self.rng.poisson(image / 255.0 * photons)
        return _photon_levels(photons)[np.minimum(counts, photons)]


class FastDraws:
    """Draws from a Generator: the methods of ExactDraws, with arrays of float32 and int8."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def normal(self, mean: float, std: float, shape: tuple[int, ...]) -> np.ndarray:
        values = self.rng.standard_normal(shape, dtype=np.float32)
        values *= np.float32(std)
        values += np.float32(mean)
        return values

    def uniform(self, shape: int | tuple[int, ...]) -> np.ndarray:
        return self.rng.random(shape, dtype=np.float32)

    def between(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def index(self, count: int) -> int:
        return int(self.rng.integers(count))

    def offsets(self, delta: int, count: int) -> np.ndarray:
        return self.rng.integers(-delta, delta, size=(count, 2), dtype=np.int8)

    def photons(self, image: np.ndarray, photons: int) -> np.ndarray:
        thresholds, guide = _poisson_tables(photons)
        uniforms = self.rng.integers(2**32, size=image.size, dtype=np.uint32)
        out = np.empty_like(image)
        levels = _photon_levels(photons)
        _kernels.sample_by_level(image.reshape(-1), uniforms, thresholds, guide, levels, out.reshape(-1))
        return out


Draws = ExactDraws | FastDraws


@functools.cache
def _photon_levels(photons: int) -> np.ndarray:
    """(photons + 1,) uint8: the grey level of 0 to `photons` counts; more counts are white."""
    return (np.arange(photons + 1) / float(photons) * 255).astype(np.uint8)


@functools.cache
def _poisson_tables(photons: int) -> tuple[np.ndarray, np.ndarray]:
    """Inverse cumulative Poisson distributions, see `make_tables`: outcome k of a grey level is k counts."""
    expected = np.arange(256) / 255.0 * photons
    return make_tables(pdtr(np.arange(photons + 1), expected[:, None]))
