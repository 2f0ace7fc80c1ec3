"""`corrupt`: one corruption of one picture, checked, for any size, drawn from the caller's generator."""

import functools
import logging

import cv2
import numpy as np
from PIL import Image

from corruption import rain
from corruption.imagecorruptions_backend import drawing_from, published_function
from corruption.names import SEVERITIES, check_name, nearest_hint
from utils.errors import UserError

try:
    from corruption import fast

    _why_not_fast = None
except ImportError as error:  # the extension is not built, or cannot be loaded
    fast, _why_not_fast = None, error

logger = logging.getLogger(__name__)

Generator = np.random.Generator | np.random.RandomState
BACKENDS = ("fast", "imagecorruptions")

# imagecorruptions refuses pictures with a side below 32. These of its types need that much: the others act on single
# values or work at any size, and are not resampled.
PUBLISHED_MIN_SIDE = 32
_NEED_MIN_SIDE = frozenset({"glass_blur", "motion_blur", "zoom_blur", "snow", "spatter", "pixelate"})


def _working_size(name: str, height: int, width: int) -> tuple[int, int]:
    """The (height, width) that the type works at: the picture's own wherever it can."""
    if name == "rain":
        if height < rain.MIN_HEIGHT:
            height, width = rain.ENLARGED_HEIGHT, int(width * rain.ENLARGED_HEIGHT / height)
        return height, max(width, rain.MIN_WIDTH)
    if name in _NEED_MIN_SIDE:
        return max(height, PUBLISHED_MIN_SIDE), max(width, PUBLISHED_MIN_SIDE)
    return height, width


def _run_published(image: np.ndarray, name: str, severity: int, rng: Generator) -> np.ndarray:
    """The published code. It knows RandomState alone: a Generator gives one 32-bit integer that seeds one."""
    state = rng if isinstance(rng, np.random.RandomState) else np.random.RandomState(rng.integers(2**32))
    with drawing_from(state), np.errstate(invalid="ignore"):
        result = np.asarray(published_function(name)(Image.fromarray(image), severity))
    # spatter divides by its strongest drop, 0 where none fell (one picture of 80 x 40 in a thousand, severity 1)
    return (np.where(np.isnan(result), image, result) if name == "spatter" else result).astype(np.uint8)


def _run_rain(image: np.ndarray, name: str, severity: int, rng: Generator) -> np.ndarray:
    return rain.rain(image, severity, rng)


def _check_image(image: object) -> None:
    expected = "expected a NumPy array of shape (H, W, 3), H and W at least 1, dtype uint8, RGB"
    if not isinstance(image, np.ndarray):
        raise UserError(f"image is a {type(image).__name__}; {expected}")
    if image.dtype != np.uint8:
        raise UserError(f"image has dtype {image.dtype}; {expected}. It is not converted: scale it to 0..255 first")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(f"image has shape {image.shape}; {expected}")


def check_severity(severity: object) -> None:
    """Raises UserError where `severity` is not an integer from 1 to 5."""
    if isinstance(severity, bool) or not isinstance(severity, int | np.integer) or severity not in SEVERITIES:
        raise UserError(f"severity is {severity!r}; expected an integer from 1 to 5")


def _check_generator(rng: object) -> None:
    if not isinstance(rng, Generator):
        raise UserError(
            f"rng is a {type(rng).__name__}; expected a numpy.random.Generator or numpy.random.RandomState, "
            "e.g. numpy.random.default_rng(0)"
        )


@functools.cache
def _warn_not_built() -> None:
    logger.warning(
        "the backend imagecorruptions is used instead of fast, many times slower and with other draws from the same "
        "seed, because corruption._kernels is not built or cannot be loaded (%s); "
        "build it with: python setup.py build_ext --inplace",
        _why_not_fast,
    )


def resolve_backend(backend: str) -> str:
    """The backend that `corrupt` uses where `backend` is asked for: "imagecorruptions" where "fast" is not built, with
    one warning.

    Raises:
        UserError: not one of BACKENDS.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}; {nearest_hint(backend, BACKENDS)}")
    if backend == "fast" and fast is None:
        _warn_not_built()
        return "imagecorruptions"
    return backend


def corrupt(image: np.ndarray, name: str, severity: int, rng: Generator, *, backend: str = "fast") -> np.ndarray:
    """One of the 20 corruptions, as published (imagecorruptions 1.1.2; rain: CIL-ReID with albumentations 1.3).

    The result depends on the arguments and the state of `rng` alone. A RandomState is drawn from in the order of the
    published code and gives the published picture (but for impulse_noise and rain, whose sources draw elsewhere); a
    Generator is drawn from faster and gives pictures that agree with the published ones in distribution.

    Small pictures: glass_blur, motion_blur, zoom_blur, snow, spatter and pixelate need sides of 32 pixels, rain a
    height above 60 (it then works at height 65, as CIL-ReID does) and a width of 10. Smaller pictures are enlarged
    bilinearly, corrupted, and reduced again by area averaging. Fog takes memory with the square of the longer side.
    Where spatter draws no drop at all, which the published code ends in 0 / 0 and an undefined picture, the picture
    stays clean.

    Args:
        image: (H, W, 3) uint8 RGB, H and W at least 1; never modified; may be read-only or a view.
        name: one of CORRUPTIONS.
        severity: 1 to 5.
        rng: numpy.random.Generator (fast) or numpy.random.RandomState (exact); advanced.
        backend: "fast", this project's kernels, or "imagecorruptions", the published functions, for which a Generator
            seeds a RandomState. Where the extension is not built, the second stands in for the first.

    Returns:
        A new C-contiguous (H, W, 3) uint8 array; values are cut off to integers, as published.

    Raises:
        UserError: unknown name or backend, severity outside 1 to 5, wrong type, dtype or shape of the image, wrong type
            of rng.
    """
    check_name(name)
    check_severity(severity)
    _check_image(image)
    _check_generator(rng)
    run = _run_published if resolve_backend(backend) == "imagecorruptions" else fast.run
    if name == "rain":  # in no package as published: the same code whatever the backend
        run = _run_rain
    height, width = image.shape[:2]
    working = _working_size(name, height, width)
    image = np.ascontiguousarray(image)
    if working != (height, width):
        image = cv2.resize(image, working[::-1], interpolation=cv2.INTER_LINEAR)
    result = run(image, name, int(severity), rng)
    if working != (height, width):
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(result)
