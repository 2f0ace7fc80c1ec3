"""Weather corruptions, and what lands on the lens; rain has a file of its own.

Parameters and order of draws as in imagecorruptions 1.1.2. Each corruption takes a C-contiguous (H, W, 3) uint8 RGB
image, a severity from 1 to 5 and the draws, and returns a new image of the same shape and type.
"""

import functools

import cv2
import numpy as np

import corruption._kernels as _kernels
from corruption.blur import clipped_zoom, gaussian_filter, motion_filter, to_uint8
from corruption.draws import Draws
from corruption.imagecorruptions_backend import package_folder
from utils.errors import UserError


def snow(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Whitened image plus flakes with motion blur, added once as drawn and once turned by 180 degrees."""
    mean, std, zoom, threshold, radius, sigma, keep = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    height, width = image.shape[:2]
    flakes = clipped_zoom(draws.normal(mean, std, (height, width, 1)), zoom)
    flakes[flakes < threshold] = 0
    flakes = motion_filter(np.clip(flakes, 0, 1, out=flakes), radius, sigma, draws.between(-135, -45))
    flakes = np.rint(flakes[:height, :width, 0] * 255).astype(np.uint8)
    grey = cv2.cvtColor(image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2GRAY)
    out = np.empty_like(image)
    _kernels.add_snow(image, grey, flakes, keep, out)
    return out


@functools.cache
def _frost_photograph(index: int) -> np.ndarray:
    """One of the package's photographs, (H, W, 3) uint8 BGR."""
    path = package_folder() / "frost" / f"frost{index + 1}.{'png' if index < 3 else 'jpg'}"
    photograph = cv2.imread(str(path))
    if photograph is None:
        raise UserError(f"frost photograph {path} cannot be read; reinstall imagecorruptions==1.1.2")
    return photograph


# Images smaller than a photograph share one size of it; each larger size is computed for its image.
@functools.lru_cache(maxsize=10)
def _enlarged_frost(index: int, scale: float) -> np.ndarray:
    """A photograph enlarged by `scale`, uint8 RGB."""
    photograph = _frost_photograph(index)
    size = (int(np.ceil(photograph.shape[1] * scale)), int(np.ceil(photograph.shape[0] * scale)))
    enlarged = cv2.resize(photograph, dsize=size, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(enlarged[..., ::-1])


def frost(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """A random crop of a photograph of frost blended in. The package holds six photographs and never uses the sixth."""
    image_weight, frost_weight = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    index = draws.index(5)
    height, width = image.shape[:2]
    photograph_height, photograph_width = _frost_photograph(index).shape[:2]
    scale = max(1, height / photograph_height, width / photograph_width)
    photograph = _enlarged_frost(index, scale * 1.1)
    top = draws.index(photograph.shape[0] - height)
    left = draws.index(photograph.shape[1] - width)
    out = np.empty_like(image)
    crop = photograph[top : top + height, left : left + width]
    _kernels.blend(image, crop, image_weight, frost_weight, out)
    return out


def fog(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """A plasma fractal (diamond-square) added, and the sum scaled back to the brightness of before."""
    amount, decay = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))[severity - 1]
    height, width = image.shape[:2]
    side = 1 << (max(image.shape) - 1).bit_length()
    plasma = np.empty((side, side))
    _kernels.plasma(plasma, draws.uniform(side * side - 1), decay)
    plasma -= plasma.min()
    plasma /= plasma.max()
    values = image / 255.0
    brightest = values.max()
    values += amount * plasma[:height, :width, None]
    values *= brightest
    values /= brightest + amount
    return to_uint8(values)


def brightness(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """HSV value raised."""
    out = np.empty_like(image)
    shift = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    _kernels.adjust_hsv(image.reshape(-1), 1.0, 0.0, shift, out.reshape(-1))
    return out


def spatter(image: np.ndarray, severity: int, draws: Draws) -> np.ndarray:
    """Drops of water (severity 1 to 3) or mud (4, 5) on the lens."""
    mean, std, sigma, threshold, strength = (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    )[severity - 1]
    noise = draws.normal(mean, std, (*image.shape[:2], 1)).astype(np.float64, copy=False)
    liquid = gaussian_filter(noise, (sigma, sigma))[..., 0]
    liquid[liquid < threshold] = 0
    if severity <= 3:
        return _add_water(image, (liquid * 255).astype(np.uint8), strength)
    return _add_mud(image, liquid > threshold, strength)


def _add_water(image: np.ndarray, liquid: np.ndarray, strength: float) -> np.ndarray:
    """Drops thickest a few pixels from their edges, lit from one side; without any drop the image stays clean."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
    relief = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, emboss)
    drops = liquid * cv2.blur(relief, (3, 3)).astype(np.float32)
    strongest = drops.max()
    if strongest == 0:  # the published code divides 0 by 0
        return image.copy()
    drops /= strongest
    drops *= np.float32(strength)
    pale_turquoise = np.array((175, 238, 238), np.float32) / np.float32(255)
    return to_uint8(image.astype(np.float32) / np.float32(255) + drops[..., None] * pale_turquoise)


def _add_mud(image: np.ndarray, wet: np.ndarray, sigma: float) -> np.ndarray:
    """Brown where the smoothed mask `wet` (H, W) is above 0.8."""
    cover = gaussian_filter(wet[..., None].astype(np.float64), (sigma, sigma)).astype(np.float32)
    cover[cover < 0.8] = 0
    brown = np.array((63, 42, 20)) / 255.0
    return to_uint8(image.astype(np.float32) / np.float32(255) * (1 - cover) + brown * cover)
