"""`corrupt`: one corruption of one picture, checked, for any size, drawn from the caller's generator."""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from corruption import rain
from corruption.glass import glass_blur
from corruption.names import CORRUPTIONS, SEVERITIES, check_name, nearest_hint
from corruption.published import drawing_from, published_function
from utils.errors import UserError

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


def _run_published(name: str) -> Callable[[np.ndarray, int, np.random.RandomState], np.ndarray]:
    function = published_function(name)

    def run(image: np.ndarray, severity: int, rng: np.random.RandomState) -> np.ndarray:
        with drawing_from(rng), np.errstate(invalid="ignore"):
            result = np.asarray(function(Image.fromarray(image), severity))
        # spatter divides by its strongest drop, 0 where none fell (one picture of 80 x 40 in a thousand, severity 1)
        return np.where(np.isnan(result), image, result) if name == "spatter" else result

    return run


_FUNCTIONS = {name: _run_published(name) for name in CORRUPTIONS if name not in ("glass_blur", "rain")}
_FUNCTIONS |= {"glass_blur": glass_blur, "rain": rain.rain}


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


def _as_random_state(rng: object) -> np.random.RandomState:
    if isinstance(rng, np.random.RandomState):
        return rng
    if isinstance(rng, np.random.Generator):
        return np.random.RandomState(rng.integers(2**32))
    raise UserError(
        f"rng is a {type(rng).__name__}; expected a numpy.random.Generator or numpy.random.RandomState, "
        "e.g. numpy.random.default_rng(0)"
    )


def resolve_backend(backend: str) -> str:
    """The backend that `corrupt` will use where `backend` is asked for.

    Raises:
        UserError: not one of BACKENDS.
    """
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}; {nearest_hint(backend, BACKENDS)}")
    return backend


def corrupt(image: np.ndarray, name: str, severity: int, rng: Generator, *, backend: str = "fast") -> np.ndarray:
    """One of the 20 corruptions, as published (imagecorruptions 1.1.2; rain: CIL-ReID with albumentations 1.3).

    The result depends on the arguments and the state of `rng` alone. A RandomState is drawn from directly, in the order
    of the published code; a Generator gives one 32-bit integer that seeds a RandomState.

    Small pictures: glass_blur, motion_blur, zoom_blur, snow, spatter and pixelate need sides of 32 pixels, rain a
    height above 60 (it then works at height 65, as CIL-ReID does) and a width of 10. Smaller pictures are enlarged
    bilinearly, corrupted, and reduced again by area averaging. Where spatter draws no drop at all, which the published
    code ends in 0 / 0 and an undefined picture, the picture stays clean.

    Args:
        image: (H, W, 3) uint8 RGB, H and W at least 1; never modified; may be read-only or a view.
        name: one of CORRUPTIONS.
        severity: 1 to 5.
        rng: numpy.random.Generator or numpy.random.RandomState; advanced.

    Returns:
        A new C-contiguous (H, W, 3) uint8 array; values are cut off to integers, as published.

    Raises:
        UserError: unknown name, severity outside 1 to 5, wrong type, dtype or shape of the image, wrong type of rng.
    """
    check_name(name)
    check_severity(severity)
    _check_image(image)
    state = _as_random_state(rng)
    height, width = image.shape[:2]
    working = _working_size(name, height, width)
    image = np.ascontiguousarray(image)
    if working != (height, width):
        image = cv2.resize(image, working[::-1], interpolation=cv2.INTER_LINEAR)
    result = _FUNCTIONS[name](image, int(severity), state).astype(np.uint8)
    if working != (height, width):
        result = cv2.resize(result, (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(result)
