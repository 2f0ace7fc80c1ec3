"""The depth of 16-bit images: which value is white, and the upper 8 bits of what it gives.

A 16-bit container often holds 10, 12 or 14 bits of a camera. White is, in this order:

1. what the file states: maxval of PGM and PPM, BitsPerSample and MaxSampleValue of TIFF, the sBIT chunk of PNG, the
   precision of JPEG 2000. PNG wants the values of fewer bits spread over 16, which many writers do not do: where a
   value exceeds what sBIT allows, they are spread.
2. 16 bits, where every low byte is 0 or repeats the high byte: 8 bits that were spread.
3. the smallest depth of 8, 10, 12, 14 and 16 bits that holds the largest value of the image. That is a guess for each
   image by itself, a dark image may come out too bright; where it is below 16 bits, one warning is logged.
"""

import io
import struct
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from utils.logging import warn_once

DEPTHS = (8, 10, 12, 14, 16)
_PLAIN_BYTES = 2**22  # of a PNM file in digits, which PIL reads one by one
_BITS, _PHOTOMETRIC, _PLANES, _LARGEST, _COLOURS = 258, 262, 284, 281, 320  # TIFF tags
_WHITE_IS_ZERO, _SEPARATE = 0, 2

# What PIL's TIFF reader could decode, but does not know: 12-bit grey and inverted 16-bit grey.
for _order in (b"II", b"MM"):
    for _photometric in (0, 1):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


def upper_bits(values: np.ndarray, white: int) -> np.ndarray:
    """Values of 0 to `white`, at least 255, as uint8: of 2^n - 1 the upper 8 bits; what exceeds it is white."""
    return np.minimum(values.astype(np.uint32) * 256 // (white + 1), 255).astype(np.uint8)


def read_grey(image: Image.Image, values: np.ndarray, significant: int, path: object) -> np.ndarray:
    """Grey of more than 8 bits as uint8, black 0.

    Args:
        image: where the values are from.
        values: (H, W) as PIL gives them.
        significant: bits that a PNG states, 0 for none.
        path: for the warning.
    """
    if image.format in ("PPM", "JPEG2000"):  # PIL has spread the values over 16 bits
        return upper_bits(values, 2**16 - 1)
    tags = image.tag_v2 if image.format == "TIFF" else {}
    bits = tags.get(_BITS, (16,))[0]
    white = 2 ** (bits if bits < 16 else _find_depth(values, significant or _stated(tags), path)) - 1
    grey = upper_bits(values, white)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _stated(tags) -> int:
    """Depth by the MaxSampleValue of a TIFF, 0 where it has none."""
    largest = tags.get(_LARGEST, (0,))
    return _smallest_depth(largest[0] if isinstance(largest, tuple) else largest)


def _smallest_depth(largest: int) -> int:
    return next((depth for depth in DEPTHS if largest < 2**depth), 16) if largest else 0


def _find_depth(values: np.ndarray, stated: int, path: object) -> int:
    """Bits of 16-bit values, as the module says."""
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
    """Colours of 16 bits that hold fewer, as (H, W, 3) uint8; None where PIL's own reading, the high bytes, is right.

    Args:
        image: loaded by PIL.
        handle: the file, read from its start.
        significant, path: see `read_grey`.

    Raises:
        ValueError: a layout that PIL misreads.
    """
    tags = image.tag_v2 if image.format == "TIFF" else {}
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


def _png_header(handle: BinaryIO) -> bytes:
    """Depth and colour type of a PNG."""
    handle.seek(24)
    return handle.read(2)


def _low_bytes(image: Image.Image, handle: BinaryIO) -> np.ndarray:
    """The low bytes of 16-bit colours, (H, W, 3) uint8: PIL reads the high ones, so it is told another byte order."""
    grey_with_opacity = image.format == "PNG" and _png_header(handle)[1] == 4
    handle.seek(0)
    if grey_with_opacity:  # as four bytes a pixel: grey high and low, opacity high and low
        content = bytearray(handle.read())
        content[24:26] = 8, 6  # depth, colour type RGBA
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        with Image.open(io.BytesIO(content), formats=["PNG"]) as spread:
            return np.repeat(np.asarray(spread)[:, :, 1:2], 3, axis=2)
    with Image.open(handle, formats=[image.format]) as again:
        again.tile = [tile._replace(args=_other_order(tile.args)) for tile in again.tile]
        return np.asarray(again.convert("RGB"))


def _other_order(arguments):
    rawmode = arguments if isinstance(arguments, str) else arguments[0]
    other = rawmode[:-1] + {"L": "B", "B": "L", "N": "B"}[rawmode[-1]]
    return other if isinstance(arguments, str) else (other, *arguments[1:])


def read_pnm(image: Image.Image, handle: BinaryIO) -> np.ndarray | None:
    """A PGM or PPM of another maxval than 255 as (H, W) or (H, W, 3) uint8; None for those that PIL reads at once.

    Raises:
        ValueError: in digits and large, or truncated.
    """
    codec, _, offset, arguments = image.tile[0]
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
    """Mends the palette of a TIFF that was written with 8 bits a value: PIL takes the upper 8 of 16, all 0."""
    colours = image.tag_v2.get(_COLOURS, (256,))
    if max(colours) < 256:
        image.putpalette(np.array(colours, np.uint8).reshape(3, -1).T.tobytes())
