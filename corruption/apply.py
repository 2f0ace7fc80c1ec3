"""`corrupt`: applies one corruption to one image of any size; randomness comes from the caller's generator alone."""

import functools
import logging

import cv2
import numpy as np

from corruption import surveillance, unseen
from corruption.imagecorruptions_backend import run_published
from corruption.names import (
    BACKENDS,
    CORRUPTIONS,
    SEVERITIES,
    SURVEILLANCE,
    UNSEEN,
    check_name,
    family_of,
    nearest_hint,
)
from corruption.rain import ENLARGED_HEIGHT, MIN_HEIGHT, MIN_WIDTH, rain
from utils.errors import UserError

# Corruptions that are the same in both backends.
OWN = {"rain": rain}  # no package has it as published
OWN |= {name: getattr(unseen, name) for name in UNSEEN}
OWN |= {name: getattr(surveillance, name) for name in SURVEILLANCE}
_import_error: ImportError | None = None
try:
    from corruption import blur, digital, noise, weather
    from corruption.draws import ExactDraws, FastDraws
except ImportError as error:  # the extension is not built, or cannot be loaded
    _import_error = error
else:
    _MODULES = {"noise": noise, "blur": blur, "weather": weather, "digital": digital}
    _FUNCTIONS = {name: getattr(_MODULES[family_of(name)], name) for name in CORRUPTIONS if name not in OWN}

logger = logging.getLogger(__name__)

Generator = np.random.Generator | np.random.RandomState

# imagecorruptions refuses images with a side below 32. These corruptions need that much; the others act on single
# values or work at any size, and are not resized.
MIN_SIDE = 32
_NEED_MIN_SIDE = frozenset({"glass_blur", "motion_blur", "zoom_blur", "snow", "spatter", "pixelate"})


def corrupt(image: np.ndarray, name: str, severity: int, rng: Generator, *, backend: str = "fast") -> np.ndarray:
    """Applies a corruption: one of the 20, one of ImageNet-C-bar, low_light or low_resolution.

    The 20 are as published (imagecorruptions 1.1.2; rain: CIL-ReID with albumentations 1.3), the ten of ImageNet-C-bar
    too for squares; corruption.unseen says what they are for other images. The result depends on the arguments and the
    state of `rng` alone. With a RandomState, numbers are drawn in the order of the published code and the result is the
    published image (except for impulse_noise and rain, whose published code draws from other generators). With a
    Generator, drawing is faster and the result agrees with the published one in distribution.

    Small images: glass_blur, motion_blur, zoom_blur, snow, spatter and pixelate need sides of 32 pixels, rain a
    height above 60 (it then works at height 65, as CIL-ReID does) and a width of 10. Smaller images are enlarged
    bilinearly, corrupted, and reduced by area averaging. The memory of fog grows with the square of the longer side.
    Where no drop of spatter falls, the published code divides 0 by 0; here the image stays clean.

    Args:
        image: (H, W, 3) uint8 RGB, H and W at least 1; never modified; may be read-only or a view.
        name: one of CORRUPTIONS, UNSEEN or SURVEILLANCE.
        severity: 1 to 5.
        rng: numpy.random.Generator (fast) or numpy.random.RandomState (exact); advanced.
        backend: "fast", this project's kernels, or "imagecorruptions", the published functions, for which a Generator
            seeds a RandomState. Where the extension is not built, "fast" falls back to "imagecorruptions". UNSEEN,
            SURVEILLANCE and rain are the same in both.

    Returns:
        A new C-contiguous (H, W, 3) uint8 array; values are truncated to integers, as published.

    Raises:
        UserError: unknown name or backend, severity outside 1 to 5, wrong type, dtype or shape of the image, wrong type
            of rng.
    """
    check_name(name)
    check_severity(severity)
    _check_image(image)
    _check_rng(rng)
    backend = resolve_backend(backend)
    height, width = image.shape[:2]
    working_size = _working_size(name, height, width)
    resized = working_size != (height, width)
    image = np.ascontiguousarray(image)
    if resized:
        image = cv2.resize(image, working_size[::-1], interpolation=cv2.INTER_LINEAR)
    if name in OWN:
        result = OWN[name](image, int(severity), rng)
    elif backend == "imagecorruptions":
        result = run_published(image, name, int(severity), rng)
    else:
        draws = ExactDraws(rng) if isinstance(rng, np.random.RandomState) else FastDraws(rng)
        result = _FUNCTIONS[name](image, int(severity), draws)
    if resized:
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(result)


def check_severity(severity: object) -> None:
    """Raises UserError unless `severity` is an integer from 1 to 5."""
    if isinstance(severity, bool) or not isinstance(severity, int | np.integer) or severity not in SEVERITIES:
        raise UserError(f"severity is {severity!r}; expected an integer from 1 to 5")


def resolve_backend(backend: str) -> str:
    """The backend that is used where `backend` is asked for: "imagecorruptions", with one warning, where "fast" is not
    built.

    Raises:
        UserError: not one of BACKENDS.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}; {nearest_hint(backend, BACKENDS)}")
    if backend == "fast" and _import_error is not None:
        _warn_not_built()
        return "imagecorruptions"
    return backend


@functools.cache
def _warn_not_built() -> None:
    logger.warning(
        "the backend imagecorruptions is used instead of fast, many times slower and with other images from the same "
        "seed, because corruption._kernels is not built or cannot be loaded (%s); "
        "build it with: python setup.py build_ext --inplace",
        _import_error,
    )


def _working_size(name: str, height: int, width: int) -> tuple[int, int]:
    """The (height, width) at which a corruption works: the image's own where possible."""
    if name == "rain":
        if height < MIN_HEIGHT:
            height, width = ENLARGED_HEIGHT, int(width * ENLARGED_HEIGHT / height)
        return height, max(width, MIN_WIDTH)
    if name in _NEED_MIN_SIDE:
        return max(height, MIN_SIDE), max(width, MIN_SIDE)
    return height, width


def _check_image(image: object) -> None:
    expected = "expected a NumPy array of shape (H, W, 3), H and W at least 1, dtype uint8, RGB"
    if not isinstance(image, np.ndarray):
        raise UserError(f"image is a {type(image).__name__}; {expected}")
    if image.dtype != np.uint8:
        raise UserError(f"image has dtype {image.dtype}; {expected}. It is not converted: scale it to 0..255 first")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"image has shape {image.shape}; {expected}")


def _check_rng(rng: object) -> None:
    if not isinstance(rng, Generator):
        raise UserError(
            f"rng is a {type(rng).__name__}; expected a numpy.random.Generator or numpy.random.RandomState, "
            "e.g. numpy.random.default_rng(0)"
        )
