"""Damage that image decoders pass over: they show what they can, a person wants to know.

JPEG: the compressed data and the image end together (utils/jpeg_scan.pyx). PNG: every chunk is whole and its CRC holds.
TIFF: strips of JPEG as JPEG, the check sums of zlib. BMP, PPM, WebP, AVIF, JPEG 2000 and uncompressed TIFF carry nothing
to check but their length, so that values which were overwritten in place cannot be told.
"""

import zlib
from typing import BinaryIO

from PIL import Image

try:
    from utils import jpeg_scan
except ImportError:  # no C compiler: PIL alone judges
    jpeg_scan = None

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000  # one of 8 KiB or more each holds the largest image
_BLOCK = 2**20
_COMPRESSION, _JPEG_TABLES = 259, 347  # TIFF tags
_PLACES = ((273, 279), (324, 325))  # offsets and lengths of strips, of tiles
_TIFF_JPEG, _TIFF_DEFLATE = 7, (8, 32946)


def check_png(handle: BinaryIO) -> int:
    """Walks the chunks of a PNG; leaves other files alone. The handle is at the start before and after.

    Returns:
        Significant bits of a sample as the sBIT chunk states them, the largest of the colours; 0 without one.

    Raises:
        ValueError: a chunk is not whole or its CRC is wrong, or there is no end.
    """
    significant = 0
    if handle.read(len(_PNG_SIGNATURE)) == _PNG_SIGNATURE:
        for _ in range(_MAX_CHUNKS):
            head = handle.read(8)
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            crc, left, block = zlib.crc32(kind), length, b""
            while left and (block := handle.read(min(left, _BLOCK))):
                crc, left = zlib.crc32(block, crc), left - len(block)
            stored = handle.read(4)
            if len(head) < 8 or left or len(stored) < 4:
                raise ValueError("image file is truncated: it ends without an IEND chunk")
            if int.from_bytes(stored, "big") != crc:
                raise ValueError(f"the CRC of its {kind.decode('latin-1')!r} chunk is wrong")
            if kind == b"sBIT" and 1 <= length <= 4:
                significant = max(block[: 3 if length > 2 else 1])  # the last of 2 and 4 is opacity
            if kind == b"IEND":
                break
        else:
            raise ValueError(f"it has more than {_MAX_CHUNKS} chunks")
    handle.seek(0)
    return significant


def check_content(image: Image.Image, handle: BinaryIO, *, max_pixels: int) -> None:
    """Checks the data of a JPEG or TIFF that PIL has opened; the handle stays where it is.

    Raises:
        ValueError: damaged; the message says how.
    """
    place = handle.tell()
    if image.format in ("JPEG", "MPO"):
        handle.seek(0)
        _check_jpeg(handle.read(), max_pixels)
    elif image.format == "TIFF":
        _check_tiff(image, handle, max_pixels)
    handle.seek(place)


def _check_jpeg(content: bytes, max_pixels: int) -> None:
    if jpeg_scan is not None and (damage := jpeg_scan.find_damage(content, max_pixels)):
        raise ValueError(damage)


def _check_tiff(image: Image.Image, handle: BinaryIO, max_pixels: int) -> None:
    tags = image.tag_v2
    compression = tags.get(_COMPRESSION, 1)
    if compression != _TIFF_JPEG and compression not in _TIFF_DEFLATE:
        return
    offsets, lengths = next(((tags[a], tags[b]) for a, b in _PLACES if a in tags and b in tags), ((), ()))
    for offset, length in zip(offsets, lengths, strict=False):
        handle.seek(offset)
        content = handle.read(length)
        if compression == _TIFF_JPEG:
            _check_jpeg(bytes(tags.get(_JPEG_TABLES, b""))[:-2] + content[2:] if _JPEG_TABLES in tags else content,
                        max_pixels)  # fmt: skip
            continue
        stream, block = zlib.decompressobj(), content
        try:
            while block and not stream.eof:
                stream.decompress(block, _BLOCK)
                block = stream.unconsumed_tail
        except zlib.error as error:
            raise ValueError(f"TIFF data are damaged ({error})") from error
        if not stream.eof:
            raise ValueError("TIFF data are damaged: a strip ends before its data")
