"""Images as callers from Python have them: paths, directories, PIL images, arrays, and any number of these."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeGuard

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.image_listing import image_paths
from utils.images import rgb_of

Images = str | os.PathLike | Image.Image | np.ndarray | Iterable[Any]
EXPECTED = "expected a path, a PIL image or a NumPy array (H, W, 3) of uint8 RGB"


class Input(NamedTuple):
    """One image: a path yet to be read, or (H, W, 3) uint8 RGB; and what messages call it."""

    image: str | np.ndarray
    name: str


def is_several(images: Any) -> TypeGuard[Iterable[Any]]:
    """Whether this is an iterable of images, not one path, PIL image or array (H, W, 3)."""
    if hasattr(images, "ndim"):  # an array, or a tensor, which is none
        return images.ndim == 4
    return isinstance(images, Iterable) and not isinstance(images, str | bytes | os.PathLike | Image.Image)


def iterate_images(images: Images) -> Iterator[Input]:
    """Yields single images, in their order.

    An array that is yielded may be the caller's own, and change when the next one is asked for.

    Args:
        images: a path, a PIL image, an array (H, W, 3) of uint8 RGB; a directory, whose images come in the order of
            utils.image_listing.image_paths; an array (N, H, W, 3); or an iterable of any of these, but not of others.

    Raises:
        UserError: something else, or a directory without images. Files are not read here.
    """
    if is_several(images):
        if isinstance(images, dict | set | frozenset):
            raise UserError(f"the images are in a {type(images).__name__}, which has no order; {EXPECTED}, or a list")
        for index, image in enumerate(images):
            yield from _images_of(image, f"image {index}")
    else:
        yield from _images_of(images, "the image")


def _images_of(image: Any, name: str) -> Iterator[Input]:
    """The images of one element; `name` is what messages call it."""
    if isinstance(image, str | os.PathLike):
        path = os.fspath(image)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        for place in image_paths(path) if os.path.isdir(path) else [path]:
            yield Input(place, f"image {place}")
    elif isinstance(image, Image.Image):
        yield Input(rgb_of(image, name), name)
    elif isinstance(image, np.ndarray):
        yield Input(_check_array(image, name), name)
    else:
        raise UserError(f"{name}: found {_describe(image)}; {EXPECTED}{_hint(image)}")


def _check_array(image: np.ndarray, name: str) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(f"{name}: found an array {image.shape} of {image.dtype}; {EXPECTED}{_hint(image)}")
    return image


def _describe(image: Any) -> str:
    shape = getattr(image, "shape", None)
    kind = f"{type(image).__module__}.{type(image).__qualname__}".removeprefix("builtins.")
    return kind if shape is None else f"{kind} {tuple(shape)}"


def _hint(image: Any) -> str:
    """What turns a near miss into an image; "" where it is no near miss."""
    if not isinstance(image, np.ndarray):
        is_tensor = hasattr(image, "numpy") and hasattr(image, "permute")
        return ": tensor.permute(1, 2, 0).numpy() of one (3, H, W)" if is_tensor else ""
    if image.ndim == 2:
        return "; a grey one: np.stack([image] * 3, axis=-1)"
    if image.ndim == 3 and image.shape[2] == 4:
        return "; without its alpha channel: image[:, :, :3]"
    if image.ndim == 3 and image.shape[2] != 3 and image.shape[0] == 3:
        return "; with channels first: image.transpose(1, 2, 0)"
    if image.dtype.kind == "f":
        return "; of floats in [0, 1]: (image * 255).round().astype(np.uint8)"
    if image.ndim == 4:
        return ", or (N, H, W, 3) of uint8 outside a list"
    return ""
