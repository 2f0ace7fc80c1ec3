"""The published corruption functions of imagecorruptions 1.1.2, run unchanged on today's NumPy and scikit-image.

The backend `imagecorruptions`, and what the backend `fast` is tested against.

https://github.com/bethgelab/imagecorruptions. Its file corruptions.py is loaded as a private copy, so that nothing else
in the process sees the changes, and a few of the names it looks up are replaced there:

- `np`: numpy, with `float_` (gone in NumPy 2) and with `random` drawing from the caller's generator;
- `gaussian`: skimage's, with `multichannel=` (which it no longer takes) translated to `channel_axis=`;
- `sk`: skimage, with salt-and-pepper noise drawn from the caller's generator instead of a fresh one;
- `print`: nothing (zoom_blur and snow print on a path that they handle);
- `pkg_resources`, imported for one path and gone from setuptools 81: a stand-in during the import.
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
from skimage.filters import gaussian as skimage_gaussian

from utils.errors import UserError

_current = threading.local()


@contextlib.contextmanager
def drawing_from(rng: np.random.RandomState) -> Iterator[None]:
    """Within it, and in this thread only, the published functions draw from `rng`."""
    before = getattr(_current, "rng", None)
    _current.rng = rng
    try:
        yield
    finally:
        _current.rng = before


class _NumpyWithOurRandom:
    """numpy as corruptions.py expects it."""

    float_ = np.float64

    @property
    def random(self) -> np.random.RandomState:
        rng = getattr(_current, "rng", None)
        if rng is None:
            raise RuntimeError("a published corruption was called outside drawing_from(rng)")
        return rng

    def __getattr__(self, name: str) -> object:
        value = getattr(np, name)
        setattr(self, name, value)
        return value


def gaussian(image: np.ndarray, sigma: float, multichannel: bool = False, **options: object) -> np.ndarray:
    """skimage.filters.gaussian with the old `multichannel` option: the last axis is not blurred."""
    return skimage_gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)


def _salt_and_pepper(image: np.ndarray, mode: str, amount: float) -> np.ndarray:
    """skimage.util.random_noise(mode="s&p") on values in [0, 1]: a share `amount` of them becomes 0 or 1, half each."""
    rng = _current.rng
    changed = rng.random_sample(image.shape) <= amount
    salted = rng.random_sample(image.shape) <= 0.5
    return np.where(changed, salted.astype(image.dtype), image)


@contextlib.contextmanager
def _pkg_resources_stand_in() -> Iterator[None]:
    """Lets `from pkg_resources import resource_filename` pass without setuptools, and without its warning."""
    if "pkg_resources" in sys.modules:
        yield
        return
    stand_in = types.ModuleType("pkg_resources")
    stand_in.resource_filename = lambda module, path: path
    sys.modules["pkg_resources"] = stand_in
    try:
        yield
    finally:
        del sys.modules["pkg_resources"]


def package_folder() -> Path:
    """Where imagecorruptions is installed.

    Raises:
        UserError: it is not.
    """
    package = importlib.util.find_spec("imagecorruptions")
    if package is None or not package.submodule_search_locations:
        raise UserError("package imagecorruptions is not installed; run: pip install -r requirements.txt")
    return Path(next(iter(package.submodule_search_locations)))


@functools.cache
def _load() -> ModuleType:
    folder = package_folder()
    spec = importlib.util.spec_from_file_location("corruption._published_corruptions", folder / "corruptions.py")
    module = importlib.util.module_from_spec(spec)
    with _pkg_resources_stand_in(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy.ndimage.interpolation and pkg_resources are deprecated
        spec.loader.exec_module(module)
    module.np = _NumpyWithOurRandom()
    module.sk = SimpleNamespace(util=SimpleNamespace(random_noise=_salt_and_pepper), color=skimage.color)
    module.gaussian = gaussian
    module.print = lambda *args: None
    module.resource_filename = lambda module_name, path: str(folder / path)
    return module


def published_function(name: str) -> Callable[..., object]:
    """The function `name` of corruptions.py: (PIL image, severity) -> array or PIL image of values in [0, 255].

    Call it within `drawing_from(rng)`.
    """
    return getattr(_load(), name)
