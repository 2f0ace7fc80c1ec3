"""Reads image files: any common format in, 8-bit RGB out, and one error for whatever is wrong with a file."""

import contextlib
import io
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from utils.errors import UserError
from utils.files import MIB, open_regular
from utils.image_depth import read_colours, read_grey, read_pnm, widen_palette
from utils.image_integrity import check_content, check_directory, check_head
from utils.logging import warn_once

# PIL's names of the formats that are read; utils.image_listing has their suffixes. Others are not tried, whatever the
# first bytes of a file are: PostScript would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * MIB  # more than 64 million pixels of uncompressed 8-bit RGB
LARGE = 2**24  # pixels; the threads of a process decode larger images one at a time

_ORIENTATION, _SWAPS_SIDES = 0x0112, (5, 6, 7, 8)  # EXIF tag; its values that swap height and width
_TRANSPOSES = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Modes of PIL with values of 8 bits, or of one.
_EIGHT_BITS = frozenset(["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"])
_RAW_EXIF = "Raw profile type exif"  # text chunk with hexadecimal EXIF data, which ImageMagick writes into PNGs
# What PIL raises for broken files: documented exceptions first, then those of its parsers.
_PIL_ERRORS = (
    *(OSError, SyntaxError, ValueError, Image.DecompressionBombError),
    *(ArithmeticError, EOFError, LookupError, TypeError, RuntimeError, AttributeError, MemoryError, struct.error),
)
# ns; a file that was written within the resolution of its time stamp may change again without a new time stamp
_STABLE_AGE = 2 * 10**9
_large_images = threading.Lock()
_checked: set[tuple[int, ...]] = set()  # device, inode, size and time of files whose content is undamaged


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image as (H, W, 3) uint8 RGB, turned upright by its EXIF orientation.

    Grey, palette and CMYK images are converted to RGB. The alpha channel is dropped, as PIL and torchvision do. 16-bit
    values are reduced to the upper 8 bits of their actual depth (utils.image_depth). Of several frames the first is
    read, which is logged once.

    Raises:
        UserError: the file is missing, not regular, empty, truncated, damaged (utils.image_integrity) or no image; it
            has more than MAX_PIXELS or MAX_BYTES; or it has 32-bit, signed or floating point values, whose white is
            unknown. The message names the file.
    """
    with _opened(path) as handle:
        head = check_head(handle)
        with _identified(path, handle) as image:
            _check_once(image, handle)
            with _large_images if image.width * image.height > LARGE else contextlib.nullcontext():
                rgb = _read_rgb(image, handle, head.significant, path)
            if head.animated if image.format == "GIF" else getattr(image, "is_animated", False):
                warn_once("frames", "image %s: holds several frames; of such files the first is read", path)
            return rgb


def _check_once(image: Image.Image, handle: BinaryIO) -> None:
    """Checks the content of a file, unless this process, or the one it was forked from, has done so before."""
    status = os.fstat(handle.fileno())
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if identity not in _checked:
        check_content(image, handle)
        if time.time_ns() - status.st_mtime_ns > _STABLE_AGE:
            _checked.add(identity)


def _read_rgb(image: ImageFile.ImageFile, handle: BinaryIO, significant: int, path: str | Path) -> np.ndarray:
    values = read_pnm(image, handle) if image.format == "PPM" else None
    if values is not None:
        return _as_rgb(values)
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise UserError(
            f"image {path}: mode {image.mode}, 32 bits or signed values; expected 8 or 16 bits, convert it first"
        )
    if image.format == "TIFF" and image.mode == "P":
        widen_palette(image)
    image.load()  # PIL turns a TIFF here
    orientation = _orientation(image)
    turned = _turn(image, orientation)
    if turned.mode.startswith("I"):
        return _as_rgb(read_grey(image, np.asarray(turned), significant, path))
    colours = read_colours(image, handle, significant, path)
    if colours is not None:
        return np.asarray(_turn(Image.fromarray(colours), orientation))
    if turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")  # without this step PIL warns of each image
    return np.asarray(turned if turned.mode == "RGB" else turned.convert("RGB"))


def _as_rgb(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)


def rgb_of(image: Image.Image, where: str) -> np.ndarray:
    """An open PIL image as `read_image` returns a file, (H, W, 3) uint8 RGB.

    Args:
        image: of 8 bits or fewer a value; a file that PIL has opened may still be decoded here.
        where: which image, for messages.

    Raises:
        UserError: it has values of other depths, whose white is unknown, or cannot be decoded.
    """
    if image.mode not in _EIGHT_BITS:
        raise UserError(
            f"{where}: a PIL image of mode {image.mode}, expected 8 bits a value; give its path, from which the depth "
            'is read, or convert it to mode "RGB"'
        )
    try:
        image.load()  # PIL turns a TIFF here
        turned = _turn(image, _orientation(image))
        if turned.mode == "P" and "transparency" in turned.info:
            turned = turned.convert("RGBA")  # without this step PIL warns of each image
        return np.asarray(turned if turned.mode == "RGB" else turned.convert("RGB"))
    except _PIL_ERRORS as error:
        raise UserError(f"{where}: a PIL image that cannot be decoded ({error}); it is damaged or closed") from error


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of what `read_image` returns, from the header alone.

    Raises:
        UserError: the file is no image; the message names it.
    """
    with _opened(path) as handle, _identified(path, handle) as image:
        width, height = image.size
        turned = image.format == "TIFF"  # PIL has turned its size already
        return (width, height) if _orientation(image) in _SWAPS_SIDES and not turned else (height, width)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """Opens an image file, and turns every exception about it into one UserError."""
    try:
        with open_regular(path, max_bytes=MAX_BYTES) as handle:
            yield handle
    except UserError as error:
        if str(error).startswith(f"image {path}: "):
            raise
        raise _cannot_read(path, error.__cause__ or str(error).removeprefix(f"{path}: ")) from error
    except UnidentifiedImageError as error:
        reason = f"cannot identify image file; expected {', '.join(FORMATS)} of 1 to 8, 12 or 16 bits"
        raise _cannot_read(path, reason) from error
    except _PIL_ERRORS as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: str | Path, reason: object) -> UserError:
    return UserError(
        f"image {path}: cannot be read ({reason}); it is missing, incomplete or no image, fetch it anew "
        "(a corrupted copy: run its export again)"
    )


@contextlib.contextmanager
def _identified(path: str | Path, handle: BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """Opens the file with PIL, which reads the header, and checks the size; nothing is decoded yet."""
    try:
        image = Image.open(handle, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _other_size(path, str(error).split(" exceeds")[0]) from error
    with image:
        width, height = image.size
        if not 0 < width * height <= MAX_PIXELS:
            raise _other_size(path, f"{height} x {width} pixels")
        yield image


def _other_size(path: str | Path, found: str) -> UserError:
    expected = f"1 to {MAX_PIXELS // 10**6} million pixels"
    return UserError(f"image {path}: {found}; expected {expected}, scale it down or leave it out")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 is upright, as every loaded TIFF is."""
    data = image.info.get("exif")
    if data is None and _RAW_EXIF in image.info:
        data = image.info["exif"] = bytes.fromhex("".join(image.info[_RAW_EXIF].split("\n")[3:]))
    if data is not None and image.format != "TIFF":
        check_directory(io.BytesIO(data.removeprefix(b"Exif\0\0")))
    return image.getexif().get(_ORIENTATION, 1)


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TRANSPOSES[orientation]) if orientation in _TRANSPOSES else image
