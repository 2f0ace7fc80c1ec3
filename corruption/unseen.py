"""The ten corruptions of ImageNet-C-bar, for images of any size.

Mintun, Kirillov and Xie, "On Interaction between Augmentations and Corruptions in Natural Corruption Robustness",
NeurIPS 2021, https://arxiv.org/abs/2102.11273; https://github.com/facebookresearch/augmentation-corruption at ba4d5a5.
The published code takes squares of one side n. Here positions that it draws as a share of n are shares of the height
or the width, and lengths proportional to n are proportional to sqrt(H W), so that squares give the published images.

Each corruption takes a C-contiguous (H, W, 3) uint8 RGB image, a severity from 1 to 5 and the generator, and returns a
new image of the same shape and type. A RandomState gives the numbers of the published code in its order; a Generator
gives the same distributions.
"""

import math

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

from corruption import unseen_arrays

try:
    import corruption._unseen as _kernels
except ImportError:  # not built, or cannot be loaded: the same images, slower
    _kernels = unseen_arrays

Generator = np.random.Generator | np.random.RandomState

_GREY = 128
_LEVELS = np.arange(256.0)


def blue_noise_sample(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Sets pixels to black where blue noise (amplitude proportional to frequency) is below a threshold."""
    threshold = 0.3 * (0.8, 1.6, 2.4, 4.0, 5.6)[severity - 1] - 2.5
    amplitudes = np.sqrt(_squared_frequencies(*image.shape[:2]))
    noise = _spectral_noise(amplitudes, _second_stream(rng))
    return image * (noise > threshold)[..., None]


def brownish_noise(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Adds noise with an amplitude of 1 / (frequency^2 + 1), another one for each channel."""
    amount = 6.4 * (1, 2, 3, 4, 5)[severity - 1]
    amplitudes = 1 / (_squared_frequencies(*image.shape[:2]) + 1)
    stream = _second_stream(rng)
    channels = [_spectral_noise(amplitudes, stream) for _ in range(3)]
    return _add(image, _LEVELS, amount * np.stack(channels, axis=2))


def caustic_refraction(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Refracts and lights the image by the caustics of waves on water."""
    strength = (2.35, 3.2, 4.9, 6.6, 9.15)[severity - 1]
    time, size = rng.uniform(0.5, 2), rng.uniform(0.75, 1.25) * _length(image)
    rows, columns = (np.arange(side) / size % 1 * 6.28318530718 - 250 for side in image.shape[:2])
    caustics = np.empty(image.shape[:2])
    _kernels.caustics(rows, columns, time, caustics)
    out = np.empty_like(image)
    _kernels.refract(image, gaussian_filter(caustics, 1), 0.05 * strength * _length(image), 0.2 * strength, out)
    return out


def checkerboard_cutout(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Sets a share of the black fields of a turned checkerboard to grey."""
    share = 0.1 * (2, 3, 4, 5, 6)[severity - 1]
    height, width = image.shape[:2]
    angle, size = rng.uniform(0, 2 * np.pi), max(rng.uniform(0.1, 0.25) * _length(image), 1)
    count = int(4 * max(height, width) // size)
    chosen = _second_stream(rng).uniform(size=(count, count)) < share
    y, x = np.arange(height)[:, None], np.arange(width)
    u = (np.cos(angle) * y + np.sin(angle) * x) / size
    v = (-np.sin(angle) * y + np.cos(angle) * x) / size
    black = (np.floor(u).astype(np.int64) + np.floor(v).astype(np.int64)) % 2 == 0
    # Indices are truncated towards zero, negative ones count from the end.
    out = image.copy()
    out[black & chosen[u.astype(np.int64), v.astype(np.int64)]] = _GREY
    return out


def cocentric_sine_waves(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Adds rings around a point, a sawtooth across and wavy along; the published name is spelt this way."""
    amount = 12.8 * (3, 5, 8, 9, 10)[severity - 1]
    height, width = image.shape[:2]
    x0, y0 = rng.uniform(0, 1, size=2) * (width, height)
    frequency = rng.uniform(0, 10)
    amplitude, ring_width = rng.uniform(0, _length(image) / 10), rng.uniform(0, _length(image) / 10)
    y, x = np.arange(height)[:, None] - y0, np.arange(width) - x0
    rings = (np.sqrt(x**2 + y**2) + amplitude * np.sin(frequency * np.arctan2(x, y))) / ring_width
    return _add(image, _LEVELS, amount * (rings - np.floor(rings) - 0.5))


def inverse_sparkles(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Fades the image to white outside of a star."""
    exponent = 0.13 * (1, 2, 4, 9, 10)[severity - 1]
    center = rng.uniform(0.25, 0.75, size=2) * image.shape[:2]
    stream = _second_stream(rng)
    count = int(_integers(rng, 50, 200))
    values = image.astype(np.float64)
    lengths = _ray_lengths(0.25 * _length(image), count, stream)
    _kernels.whiten(values, 1 - _ray_weights(image, center, lengths, exponent))
    return values.astype(np.uint8)


def perlin_noise(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Blends in the turbulence of Perlin noise: five octaves of its absolute value."""
    share = 0.05 * (4.6, 5.2, 5.8, 7.6, 8.8)[severity - 1]
    table, gradients = _perlin_tables(_second_stream(rng))
    cell = 32 * _length(image) / 224
    turbulence = np.empty(image.shape[:2])
    _kernels.perlin_turbulence(*(np.arange(side) / cell for side in image.shape[:2]), table, gradients, turbulence)
    noise = np.minimum(0.5 * turbulence + 0.5, 1)
    levels = np.arange(256, dtype=np.float32) * np.float32(1 - share)  # single, as published
    return _add(image, levels.astype(np.float64), 255 * share * noise)


def plasma_noise(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Blends in a coloured plasma: sines of coordinates that earlier sines displaced."""
    amount = 6.4 * (4.75, 7, 8.5, 9.25, 10)[severity - 1]
    time, iterations = rng.uniform(0, 6 * np.pi), int(_integers(rng, 4, 7))
    sharpness, size = rng.uniform(0.5, 1), rng.uniform(0.075, 0.2) * _length(image)
    noise = np.empty(image.shape)
    _kernels.plasma(*(np.arange(side) / size for side in image.shape[:2]), time, iterations, sharpness, noise)
    return _add(image, (1 - amount / 255) * _LEVELS, amount * noise)


def single_frequency_greyscale(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Adds one plane sine wave of any direction and frequency."""
    amount = 19.6 * (1, 1.5, 2, 4.5, 5)[severity - 1]
    larger = rng.uniform(-np.pi, np.pi)
    smaller = rng.uniform(-abs(larger), abs(larger))
    x_frequency, y_frequency = np.array((larger, smaller))[rng.permutation(2)]
    phase = rng.uniform(0, 2 * np.pi)
    y, x = np.arange(image.shape[0])[:, None], np.arange(image.shape[1])
    return _add(image, _LEVELS, amount * np.sin(x * x_frequency + y * y_frequency + phase))


def sparkles(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Blends in five white stars, one after the other."""
    centers = rng.uniform(0, 1, size=(5, 2)) * image.shape[:2]
    stream = _second_stream(rng)
    counts = _integers(rng, 50, 200, 5)
    radius = 0.01 * (1, 2, 3, 5, 6)[severity - 1] * _length(image)
    values = image.astype(np.float64)
    for center, count in zip(centers, counts, strict=True):
        lengths = np.maximum(1, _ray_lengths(radius, count, stream))
        _kernels.whiten(values, _ray_weights(image, center, lengths, 1))
    return values.astype(np.uint8)


def _add(image: np.ndarray, levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """levels[image] + values, clipped to [0, 255] and truncated, as published; values (H, W) or (H, W, 3)."""
    out = np.empty_like(image)
    height, count = values.shape[0], math.prod(values.shape[1:])
    shape = (height, count, image.size // (height * count))
    _kernels.add_values(image.reshape(shape), levels, values.reshape(height, count), out.reshape(shape))
    return out


def _length(image: np.ndarray) -> float:
    """sqrt(H W), the published side n of a square."""
    return math.sqrt(image.shape[0] * image.shape[1])


def _integers(rng: Generator, low: int, high: int, size: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Integers in [low, high)."""
    draw = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    return draw(low, high, size=size, dtype=np.int64)


def _second_stream(rng: Generator) -> Generator:
    """The generator that the published code seeds with one of its numbers; a Generator simply goes on."""
    return np.random.RandomState(_integers(rng, 0, 2**32)) if isinstance(rng, np.random.RandomState) else rng


def _squared_frequencies(height: int, width: int) -> np.ndarray:
    """(H, W): of every wave, 0 at the first row and column; isotropic, sqrt(H W) times cycles per pixel.

    The published frequencies of an odd side lie half a step beside the whole ones.
    """
    length = math.sqrt(height * width)
    y, x = (np.roll(np.arange(side) - side / 2, side // 2) * (length / side) for side in (height, width))
    return y[:, None] ** 2 + x**2


def _spectral_noise(amplitudes: np.ndarray, rng: Generator) -> np.ndarray:
    """(H, W) noise of waves with these amplitudes (H, W) and random phases, standard deviation 1.

    Opposite frequencies have the same phase, about the middle between samples; the noise is the real part.
    """
    height, width = amplitudes.shape
    left = rng.uniform(0, 2 * np.pi, (height, width // 2))
    middle = []
    if width % 2:
        upper = rng.uniform(0, 2 * np.pi, (height // 2, 1))
        middle = [np.concatenate([upper, np.zeros((height % 2, 1)), upper[::-1]])]
    waves = np.empty((height, width), np.complex128)
    for part, function in ((waves.real, np.cos), (waves.imag, np.sin)):
        half = function(left)
        rows = np.concatenate([half, *map(function, middle), half[::-1, ::-1]], axis=1)
        # Frequency 0 goes from the middle to the first row and column.
        np.multiply(np.roll(rows, (height // 2, width // 2), (0, 1)), amplitudes, out=part)
    noise = scipy.fft.ifft2(waves).real
    deviation = noise.std()
    return noise / deviation if deviation else np.zeros_like(noise)  # one pixel has no deviation


def _ray_lengths(radius: float, count: int, rng: Generator) -> np.ndarray:
    """(count,) lengths of the rays of a star, normally distributed."""
    return radius + 0.25 * radius * rng.standard_normal(count)


def _ray_weights(image: np.ndarray, center: np.ndarray, lengths: np.ndarray, exponent: float) -> np.ndarray:
    """(H, W) weights of a star: 1 within its rays, then falling with the distance from `center` (y, x)."""
    weights = np.empty(image.shape[:2])
    rows, columns = (np.arange(side) - middle for side, middle in zip(image.shape[:2], center, strict=True))
    _kernels.ray_weights(rows, columns, lengths, exponent, weights)
    return weights


def _perlin_tables(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Permutation (514,) int64 and unit gradients (514, 2) of Perlin noise; entry 256 + i repeats entry i.

    A gradient of (0, 0), where the published code divides by 0, stays 0.
    """
    gradients = (_integers(rng, 0, 2**31, (514, 2)) % 512 - 256) / 256
    norms = np.sqrt((gradients**2).sum(axis=1, keepdims=True))
    gradients /= np.where(norms == 0, 1, norms)
    table = list(range(514))
    for last, other in zip(range(255, -1, -1), _integers(rng, 0, 2**31, 256) % 256, strict=True):
        table[last], table[other] = table[other], table[last]
    table[256:] = table[:258]
    gradients[256:] = gradients[:258]
    return np.array(table, np.int64), gradients
