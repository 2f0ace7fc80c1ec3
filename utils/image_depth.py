"""Reduces 16-bit images to 8 bits: finds the actual depth, that is, which value is white, and keeps its upper 8 bits.

A 16-bit file often holds the 10, 12 or 14 bits of a camera. The depth is, in this order:

1. what the file states: maxval of PGM and PPM, BitsPerSample and MaxSampleValue of TIFF, the sBIT chunk of PNG, the
   precision of JPEG 2000. The PNG standard scales values of fewer bits to 16, which many programs do not do: where a
   value exceeds sBIT, the values are taken as scaled.
2. 16 bits, where every low byte is 0 or repeats the high byte: 8 bits scaled to 16.
3. the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value of the image. This is a guess for each image,
   and a dark image may come out too bright; below 16 bits, one warning is logged.
"""

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from utils.logging import warn_once

DEPTHS = (8, 10, 12, 14, 16)
_PLAIN_BYTES = 2**22  # of a PNM file with ASCII digits, which PIL reads one by one
_JPEG2000_HEAD = 2**20  # bytes, colour profiles among them
_BITS, _PHOTOMETRIC, _PLANES, _LARGEST, _COLOURS = 258, 262, 284, 281, 320  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE = 0, 2

# Modes that PIL's TIFF reader can decode, but does not list: 12-bit grey and inverted 16-bit grey.
for _order in (b"II", b"MM"):
    for _photometric in (0, 1):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


def upper_bits(values: np.ndarray, white: int) -> np.ndarray:
    """Scales values from 0..`white` (at least 255) to uint8; for 2^n - 1 these are the upper 8 bits. Clips at white."""
    return np.minimum(values.astype(np.uint32) * 256 // (white + 1), 255).astype(np.uint8)


def read_grey(image: Image.Image, values: np.ndarray, significant: int, path: object) -> np.ndarray:
    """Reduces grey values of more than 8 bits to uint8, black 0.

    Args:
        image: the image that PIL opened.
        values: (H, W), its values.
        significant: bits that a PNG states, 0 for none.
        path: file, for the warning.
    """
    if image.format in ("PPM", "JPEG2000"):  # PIL has scaled the values to 16 bits
        return upper_bits(values, 2**16 - 1)
    tags = _tiff_tags(image)
    bits = tags.get(_BITS, (16,))[0]
    white = 2 ** (bits if bits < 16 else _find_depth(values, significant or _stated(tags), path)) - 1
    grey = upper_bits(values, white)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _tiff_tags(image: Image.Image) -> Mapping:
    """Tags of a TIFF; none for other formats."""
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _stated(tags: Mapping) -> int:
    """Depth from the MaxSampleValue of a TIFF; 0 without one."""
    largest = tags.get(_LARGEST, (0,))
    return _smallest_depth(largest[0] if isinstance(largest, tuple) else largest)


def _smallest_depth(largest: int) -> int:
    return next((depth for depth in DEPTHS if largest < 2**depth), 16) if largest else 0


def _find_depth(values: np.ndarray, stated: int, path: object) -> int:
    """Actual depth of 16-bit values, see the top of the file."""
    largest = int(values.max())
    low, high = values & 255, values >> 8
    if largest >= 2 ** DEPTHS[-2] or np.array_equal(low, np.where(low, high, 0)):
        return 16
    if stated:
        return stated if largest < 2**stated else 16
    depth = _smallest_depth(largest)
    warn_once(
        "depth",
        "image %s: 16-bit values of at most %d, and the file does not say which value is white; taken as %d bits, the "
        "smallest depth that holds them, here and in other such images. To be sure, store the depth (PGM maxval, TIFF "
        "BitsPerSample, PNG sBIT) or convert to 8 bits",
        path,
        largest,
        depth,
    )
    return depth


def read_colours(image: Image.Image, handle: BinaryIO, significant: int, path: object) -> np.ndarray | None:
    """Reduces 16-bit colours to (H, W, 3) uint8; None where PIL's result, the high bytes, is right.

    Args:
        image: the image that PIL has loaded.
        handle: its file.
        significant, path: see `read_grey`.

    Raises:
        ValueError: a layout that PIL reads wrongly.
    """
    if image.format == "JPEG2000" and not image.mode.startswith("I") and _jpeg2000_bits(handle) > 8:
        raise ValueError("JPEG 2000 of more than 8 bits a colour, whose white Pillow reads as black; convert it to PNG")
    tags = _tiff_tags(image)
    deep = _png_header(handle)[0] == 16 if image.format == "PNG" else tags.get(_BITS, (8,))[0] == 16
    if not deep or image.mode not in ("RGB", "RGBA"):
        return None
    high = np.asarray(image.convert("RGB")).astype(np.uint16)
    full, separate = high.max() >= 2 ** (DEPTHS[-2] - 8), tags.get(_PLANES) == _SEPARATE
    if separate and (not full or image.info.get("compression") == "raw"):
        raise ValueError("16-bit values in separate planes; expected them interleaved, convert it")
    if full:
        return None
    values = high << 8 | _low_bytes(image, handle)
    return upper_bits(values, 2 ** _find_depth(values, significant or _stated(tags), path) - 1)


def _jpeg2000_bits(handle: BinaryIO) -> int:
    """Bits of the deepest component, as the SIZ segment at the start of the code stream states them."""
    handle.seek(0)
    head = handle.read(_JPEG2000_HEAD)
    start = head.find(b"\xff\x4f\xff\x51") + 40  # two markers, length, profile and eight sizes
    count = int.from_bytes(head[start : start + 2], "big")
    return max(((bits & 127) + 1 for bits in head[start + 2 : start + 2 + 3 * count : 3]), default=0)


def _png_header(handle: BinaryIO) -> bytes:
    """Depth and colour type of a PNG."""
    handle.seek(24)
    return handle.read(2)


def _low_bytes(image: Image.Image, handle: BinaryIO) -> np.ndarray:
    """The low bytes of 16-bit colours, (H, W, 3) uint8. PIL reads the high bytes, so the byte order is swapped."""
    grey_with_alpha = image.format == "PNG" and _png_header(handle)[1] == 4
    handle.seek(0)
    if grey_with_alpha:  # read as 8-bit RGBA: high and low byte of grey, high and low byte of alpha
        content = bytearray(handle.read())
        content[24:26] = 8, 6  # depth, colour type RGBA
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        with Image.open(io.BytesIO(content), formats=["PNG"]) as as_bytes:
            return np.repeat(np.asarray(as_bytes)[:, :, 1:2], 3, axis=2)
    with Image.open(handle, formats=[str(image.format)]) as again:
        again.tile = [tile._replace(args=_other_order(tile.args)) for tile in again.tile]
        return np.asarray(again.convert("RGB"))


def _other_order(arguments: Any) -> Any:
    """The arguments of PIL's raw decoder, with the other byte order."""
    rawmode = arguments if isinstance(arguments, str) else arguments[0]
    other = rawmode[:-1] + {"L": "B", "B": "L", "N": "B"}[rawmode[-1]]
    return other if isinstance(arguments, str) else (other, *arguments[1:])


def read_pnm(image: ImageFile.ImageFile, handle: BinaryIO) -> np.ndarray | None:
    """Reads a binary PGM or PPM as (H, W) or (H, W, 3) uint8; None for the other forms, which PIL reads.

    Raises:
        ValueError: the file is truncated, or large and in ASCII digits.
    """
    tile: Any = image.tile[0]
    codec, _, offset, arguments = tile
    if codec == "ppm_plain" and handle.seek(0, io.SEEK_END) > _PLAIN_BYTES:
        raise ValueError(f"a PNM in digits of more than {_PLAIN_BYTES >> 20} MiB; convert it to binary")
    if codec != "ppm":
        return None
    white, channels = arguments[1], 3 if arguments[0] == "RGB" else 1
    width, height = image.size
    kind = np.dtype(">u2" if white > 255 else "u1")
    handle.seek(offset)
    content = handle.read(width * height * channels * kind.itemsize)
    if arguments[0] not in ("RGB", "I", "L") or len(content) < width * height * channels * kind.itemsize:
        raise ValueError("image file is truncated" if arguments[0] in ("RGB", "I", "L") else f"PNM {arguments[0]}")
    values = np.frombuffer(content, kind).reshape((height, width, channels))
    if white >= 255:
        scaled = upper_bits(values, white)
    else:
        scaled = np.minimum(np.rint(values * (255 / white)), 255).astype(np.uint8)
    return scaled if channels == 3 else scaled[:, :, 0]


def widen_palette(image: Image.Image) -> None:
    """Corrects the palette of a TIFF with 8-bit palette values: PIL takes the upper 8 of 16 bits, which are all 0."""
    colours = _tiff_tags(image).get(_COLOURS, (256,))
    if max(colours) < 256:
        image.putpalette(np.array(colours, np.uint8).reshape(3, -1).T.tobytes())
