"""Reading pictures from disk."""

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
from PIL import Image, UnidentifiedImageError

from utils.errors import UserError
from utils.files import MIB, open_regular
from utils.image_depth import read_colours, read_grey, read_pnm, widen_palette
from utils.image_integrity import check_content, check_directory, check_head
from utils.logging import warn_once

# PIL's names of the formats that the suffixes of datasets.readers.locate stand for. Others are not tried, whatever a file
# begins with: PostScript would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * MIB  # 64 million pixels of 8-bit RGB, uncompressed, and some room
LARGE = 2**24  # pixels; from here on, the threads of a process decode one image at a time

_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF tag; those of its values that swap height and width
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_RAW_EXIF = "Raw profile type exif"  # in digits, where ImageMagick writes EXIF data into a PNG
# What PIL raises for broken files: those it documents, and what its parsers run into.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, ArithmeticError, EOFError, LookupError,
           TypeError, RuntimeError, AttributeError, MemoryError, struct.error)  # fmt: skip
_SETTLED = 2 * 10**9  # ns; a file that was written just now may change again within the resolution of its time stamp
_large = threading.Lock()
_whole: set[tuple[int, ...]] = set()


def read_image(path: str | Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Grey, palette and CMYK pictures become RGB; of transparent ones the colours stay and the opacity goes, as PIL and
    torchvision have it; of 16-bit values the upper 8 bits of the file's own depth stay (utils.image_depth); of several
    frames the first is read, which is logged once.

    Raises:
        UserError: missing, no regular file, empty, truncated, damaged (utils.image_integrity), of more than MAX_PIXELS
            or MAX_BYTES, of 32-bit, signed or floating point values (which of them is white is not known), or no
            picture at all; names the file.
    """
    with _opened(path) as handle:
        head = check_head(handle)
        with _identified(path, handle) as image:
            _check_once(image, handle)
            with _large if image.width * image.height > LARGE else contextlib.nullcontext():
                rgb = _read_rgb(image, handle, head.significant, path)
            if head.animated if image.format == "GIF" else getattr(image, "is_animated", False):
                warn_once("frames", "image %s: holds several frames; of such files the first is read", path)
            return rgb


def _check_once(image: Image.Image, handle: BinaryIO) -> None:
    """Checks the content of a file that this process, or the one it was forked from, has not found whole before."""
    status = os.fstat(handle.fileno())
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if identity not in _whole:
        check_content(image, handle)
        if time.time_ns() - status.st_mtime_ns > _SETTLED:
            _whole.add(identity)


def _read_rgb(image: Image.Image, handle: BinaryIO, significant: int, path: str | Path) -> np.ndarray:
    values = read_pnm(image, handle) if image.format == "PPM" else None
    if values is not None:
        return _as_rgb(values)
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise UserError(
            f"picture {path}: mode {image.mode}, 32 bits or signed values; expected 8 or 16 bits, convert it first"
        )
    if image.format == "TIFF" and image.mode == "P":
        widen_palette(image)
    image.load()  # turns a TIFF
    orientation = _orientation(image)
    turned = _turn(image, orientation)
    if turned.mode.startswith("I"):
        return _as_rgb(read_grey(image, np.asarray(turned), significant, path))
    colours = read_colours(image, handle, significant, path)
    if colours is not None:
        return np.asarray(_turn(Image.fromarray(colours), orientation))
    if turned.mode == "P" and "transparency" in turned.info:
        turned = turned.convert("RGBA")  # PIL warns of what this drops, picture by picture
    return np.asarray(turned if turned.mode == "RGB" else turned.convert("RGB"))


def _as_rgb(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 3 else np.repeat(values[:, :, None], 3, axis=2)


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of what `read_image` gives, from the head of the file alone.

    Raises:
        UserError: no picture; names the file.
    """
    with _opened(path) as handle, _identified(path, handle) as image:
        width, height = image.size
        turned = image.format == "TIFF"  # PIL has turned its size already
        return (width, height) if _orientation(image) in _LYING and not turned else (height, width)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """The file of a picture; whatever goes wrong with it is one error."""
    try:
        with open_regular(path, max_bytes=MAX_BYTES) as handle:
            yield handle
    except UserError as error:
        if str(error).startswith(f"picture {path}: "):
            raise
        raise _cannot_read(path, error.__cause__ or str(error).removeprefix(f"{path}: ")) from error
    except UnidentifiedImageError as error:
        reason = f"cannot identify image file; expected {', '.join(FORMATS)} of 1 to 8, 12 or 16 bits"
        raise _cannot_read(path, reason) from error
    except _BROKEN as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: str | Path, reason: object) -> UserError:
    return UserError(
        f"picture {path}: cannot be read ({reason}); it is missing, incomplete or no picture, fetch it anew "
        "(a corrupted copy: run its export again)"
    )


@contextlib.contextmanager
def _identified(path: str | Path, handle: BinaryIO) -> Iterator[Image.Image]:
    """What PIL knows from the head of a file; nothing is decoded yet."""
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
    return UserError(f"picture {path}: {found}; expected {expected}, scale it down or leave it out")


def _orientation(image: Image.Image) -> int:
    """The value of the EXIF tag, 1: as it is; always so of a TIFF that is loaded."""
    data = image.info.get("exif")
    if data is None and _RAW_EXIF in image.info:
        data = image.info["exif"] = bytes.fromhex("".join(image.info[_RAW_EXIF].split("\n")[3:]))
    if data is not None and image.format != "TIFF":
        check_directory(io.BytesIO(data.removeprefix(b"Exif\0\0")))
    return image.getexif().get(_ORIENTATION, 1)


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
