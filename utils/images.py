"""Reading pictures from disk."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from utils.errors import UserError

_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF tag, 1 as it is; those that swap height and width
# What PIL raises for broken files: those it documents, and what its parsers run into.
_BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, ArithmeticError, EOFError, LookupError,
           TypeError, RuntimeError, AttributeError, MemoryError, struct.error)  # fmt: skip


def read_image(path: str | Path) -> np.ndarray:
    """A picture as (H, W, 3) uint8 RGB, turned as its EXIF orientation says.

    Grey, palette and CMYK pictures become RGB; of transparent ones the colours stay and the opacity goes, as PIL and
    torchvision have it; 16-bit grey keeps its upper 8 bits; of several frames the first is read.

    Raises:
        UserError: missing, empty, truncated, of 32-bit or floating point values (which of them is white is not known),
            or no picture at all; names the file.
    """
    with _open(path) as image:
        if image.mode in ("I", "F"):
            raise UserError(
                f"picture {path}: mode {image.mode}, 32 bits a value; expected 8 or 16 bits, convert it first"
            )
        turned = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        if turned.mode.startswith("I;16"):
            return np.repeat((np.asarray(turned) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        if turned.mode == "P" and "transparency" in turned.info:
            turned = turned.convert("RGBA")  # PIL warns of what this drops, picture by picture
        return np.asarray(turned.convert("RGB"))


def image_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of what `read_image` gives, from the head of the file alone.

    Raises:
        UserError: no picture; names the file.
    """
    with _open(path) as image:
        width, height = image.size
        turned = image.format == "TIFF"  # PIL has turned its size already
        return (width, height) if _orientation(image) in _LYING and not turned else (height, width)


@contextlib.contextmanager
def _open(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(
            f"picture {path}: cannot be read ({error}); it is missing, incomplete or no picture, fetch it anew "
            "(a corrupted copy: run its export again)"
        ) from error


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)
