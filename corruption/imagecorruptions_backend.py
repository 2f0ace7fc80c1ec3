"""The backend `imagecorruptions`: the published functions of imagecorruptions 1.1.2, on current NumPy and scikit-image.

The backend `fast` is tested against it.

https://github.com/bethgelab/imagecorruptions. Its file corruptions.py is loaded as a private copy, unchanged, so that
nothing else in the process sees the patches. These names that it looks up are replaced in the copy:

- `np`: numpy, with `float_` (gone in NumPy 2) and with `random` being the caller's RandomState;
- `gaussian`: skimage's, with `multichannel=` (which it no longer takes) translated to `channel_axis=`;
- `sk`: skimage, with salt-and-pepper noise drawn from the caller's RandomState instead of a fresh generator;
- `print`: nothing (zoom_blur and snow print on a path that they handle);
- `pkg_resources`, imported for one path and gone from setuptools 81: a stub during the import.
"""

import contextlib
import functools
import importlib.util
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import skimage
import skimage.color
from PIL import Image
from skimage.filters import gaussian as skimage_gaussian

from utils.errors import UserError

_current = threading.local()


def run_published(
    image: np.ndarray, name: str, severity: int, rng: np.random.Generator | np.random.RandomState
) -> np.ndarray:
    """Runs the published code of one corruption. It only knows RandomState: one integer of a Generator seeds one.

    Args:
        image: (H, W, 3) uint8 RGB, sides of at least 32 pixels where the published code needs them.
        name: one of CORRUPTIONS except rain.
        severity: 1 to 5.
        rng: advanced.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    state = rng if isinstance(rng, np.random.RandomState) else np.random.RandomState(rng.integers(2**32))
    with use_rng(state), np.errstate(invalid="ignore"):
        result = np.asarray(published_function(name)(Image.fromarray(image), severity))
    if name == "spatter":  # divides by its strongest drop, 0 where none fell (1 in 1000 at 80 x 40 and severity 1)
        result = np.where(np.isnan(result), image, result)
    return result.astype(np.uint8)


def published_function(name: str) -> Callable[..., object]:
    """The function `name` of corruptions.py: (PIL image, severity) -> array or PIL image of values in [0, 255].

    Call it within `use_rng(rng)`.
    """
    return getattr(_load(), name)


@contextlib.contextmanager
def use_rng(rng: np.random.RandomState) -> Iterator[None]:
    """In this block, and in this thread only, the published functions draw from `rng`."""
    before = getattr(_current, "rng", None)
    _current.rng = rng
    try:
        yield
    finally:
        _current.rng = before


def package_folder() -> Path:
    """Where imagecorruptions is installed.

    Raises:
        UserError: it is not installed.
    """
    package = importlib.util.find_spec("imagecorruptions")
    if package is None or not package.submodule_search_locations:
        raise UserError("package imagecorruptions is not installed; run: pip install -r requirements.txt")
    return Path(next(iter(package.submodule_search_locations)))


@functools.cache
def _load() -> ModuleType:
    """The private, patched copy of corruptions.py."""
    folder = package_folder()
    spec = importlib.util.spec_from_file_location("corruption._published_corruptions", folder / "corruptions.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _stub_pkg_resources(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy.ndimage.interpolation and pkg_resources are deprecated
        spec.loader.exec_module(module)
    patches = {
        "np": _PatchedNumpy(),
        "sk": SimpleNamespace(util=SimpleNamespace(random_noise=_salt_and_pepper), color=skimage.color),
        "gaussian": _gaussian,
        "print": lambda *args: None,
        "resource_filename": lambda module_name, path: str(folder / path),
    }
    vars(module).update(patches)
    return module


class _PatchedNumpy:
    """numpy as corruptions.py expects it."""

    float_ = np.float64

    @property
    def random(self) -> np.random.RandomState:
        rng = getattr(_current, "rng", None)
        if rng is None:
            raise RuntimeError("a published corruption was called outside use_rng(rng)")
        return rng

    def __getattr__(self, name: str) -> object:
        value = getattr(np, name)
        setattr(self, name, value)
        return value


def _gaussian(image: np.ndarray, sigma: float, multichannel: bool = False, **options: object) -> np.ndarray:
    """skimage.filters.gaussian with the old `multichannel` option: the last axis is not blurred."""
    return skimage_gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)


def _salt_and_pepper(image: np.ndarray, mode: str, amount: float) -> np.ndarray:
    """skimage.util.random_noise(mode="s&p") on values in [0, 1]: a fraction `amount` becomes 0 or 1, half each."""
    rng = _current.rng
    changed = rng.random_sample(image.shape) <= amount
    salted = rng.random_sample(image.shape) <= 0.5
    return np.where(changed, salted.astype(image.dtype), image)


@contextlib.contextmanager
def _stub_pkg_resources() -> Iterator[None]:
    """Lets `from pkg_resources import resource_filename` pass without setuptools, and without its warning."""
    if "pkg_resources" in sys.modules:
        yield
        return
    stub = types.ModuleType("pkg_resources")
    vars(stub)["resource_filename"] = lambda module_name, path: path
    sys.modules["pkg_resources"] = stub
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]
