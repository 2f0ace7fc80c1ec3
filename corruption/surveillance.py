"""Two corruptions of surveillance cameras, by models of their own: too little light, too few pixels.

Each takes a C-contiguous (H, W, 3) uint8 RGB image, a severity from 1 to 5 and the generator, and returns a new image
of the same shape and type.
"""

import functools

import cv2
import numpy as np
from scipy.special import ndtr, pdtr

from corruption.level_tables import make_tables, sample_by_level

Generator = np.random.Generator | np.random.RandomState

GAMMA = 2.2  # grey level / 255 = (linear light) ^ (1 / GAMMA)
# Electrons of a white pixel at full exposure, and the standard deviation of the read noise: the order of a small
# sensor's, chosen here.
WHITE_ELECTRONS = 8000
READ_NOISE = 3.0
# By severity: exposure, and how bright the image is after the gain, both as a share of full exposure, linear light.
# A stop of exposure less is made up for by half a stop of gain.
EXPOSURES = tuple(2.0**-stops for stops in (4, 5, 6, 7, 8))
BRIGHTNESS = tuple(2.0**-stops for stops in (1, 1.5, 2, 2.5, 3))
# By severity; 2, 3 and 4 are those of MLR-VIPeR, MLR-SYSU and MLR-CUHK03, 6 and 8 are chosen here.
SCALE_FACTORS = (2, 3, 4, 6, 8)

_ALL_LEVELS = np.arange(256, dtype=np.uint8)


def low_light(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """A short exposure, amplified: shot noise and read noise, darker than the image.

    In linear light, with exposure e and brightness b of the severity:

        electrons = Poisson(WHITE_ELECTRONS e (image / 255)^GAMMA) + Normal(0, READ_NOISE^2)
        out = 255 clip(electrons b / (WHITE_ELECTRONS e), 0, 1)^(1 / GAMMA), truncated

    The noise is the Poisson-Gaussian model of Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for
    single-image raw-data", IEEE TIP 2008; Wei et al., CVPR 2020, https://arxiv.org/abs/2003.12751, shorten exposures
    by up to 300 in the same way. Values are sampled from their exact distribution, which depends on the grey level.
    """
    if isinstance(rng, np.random.RandomState):
        uniforms = rng.randint(0, 2**32, size=image.size, dtype=np.uint32)
    else:
        uniforms = rng.integers(0, 2**32, size=image.size, dtype=np.uint32)
    out = np.empty_like(image)
    sample_by_level(image.reshape(-1), uniforms, *_low_light_tables(severity), _ALL_LEVELS, out.reshape(-1))
    return out


def low_light_probabilities(severity: int) -> np.ndarray:
    """(256, 256): the probability of a grey level up to the second index where the image has the first."""
    white = WHITE_ELECTRONS * EXPOSURES[severity - 1]
    expected = white * (np.arange(256) / 255) ** GAMMA
    # Shot noise of white is 22 electrons or less: counts beyond twice the mean do not occur.
    counts = np.arange(2 * white + 64)
    shot = np.diff(pdtr(counts, expected[:, None]), axis=1, prepend=0)
    edges = white / BRIGHTNESS[severity - 1] * (np.arange(1, 256) / 255) ** GAMMA
    below = shot @ ndtr((edges - counts[:, None]) / READ_NOISE)
    return np.concatenate([below, np.ones((256, 1))], axis=1)


@functools.cache
def _low_light_tables(severity: int) -> tuple[np.ndarray, np.ndarray]:
    return make_tables(low_light_probabilities(severity))


def low_resolution(image: np.ndarray, severity: int, rng: Generator) -> np.ndarray:
    """Downsampled by a factor of 2, 3, 4, 6 or 8 by area averaging, as a far camera's pixels do, and upsampled.

    out = bilinear upsampling of the area means, rounded, of round(H / factor) x round(W / factor) fields. Such images
    (factors 2 to 4) are the low-resolution query set of Jiao et al., "Deep Low-Resolution Person Re-Identification",
    AAAI 2018. Nothing is random.
    """
    height, width = image.shape[:2]
    factor = SCALE_FACTORS[severity - 1]
    size = max(round(width / factor), 1), max(round(height / factor), 1)
    return cv2.resize(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_LINEAR
    )
