"""Finds damage in image files that decoders ignore, because they decode as much as they can.

JPEG: libjpeg's warnings ("Corrupt JPEG data"), which Pillow drops and simplejpeg raises; damage without a warning
cannot be found. PNG: every chunk is complete and has the right CRC. TIFF: JPEG strips like a JPEG, zlib checksums. BMP,
PPM, WebP, AVIF, JPEG 2000 and uncompressed TIFF have no checksums: only their length is checked.

The metadata before the pixels is bounded, too: PIL reads all of it, some in quadratic time.
"""

import io
import struct
import zlib
from typing import BinaryIO, NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from utils.logging import warn_once

try:
    import simplejpeg
except ImportError:  # no wheel for this machine
    simplejpeg = None

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000  # at the usual 8 KiB or more each, enough for the largest image
_BLOCK = 2**20
MAX_JPEG_BYTES = 2**26
_START_OF_SCAN, _MAX_SCANS = b"\xff\xda", 200  # in compressed data 0xFF is followed by 0 or a restart marker
_MAX_EXTENSIONS = 2**20  # of a GIF, bytes
_MAX_PNM_HEAD = 2**16  # bytes, comments among them
_MAX_ENTRIES, _MAX_TAG_BYTES = 4096, 2**24  # of a TIFF directory
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_COMPRESSION, _JPEG_TABLES = 259, 347  # TIFF tags
_PLACES = ((273, 279), (324, 325))  # offsets and lengths of strips, of tiles
_TIFF_JPEG, _TIFF_DEFLATE = 7, (8, 32946)


class Head(NamedTuple):
    """Facts from the header: significant bits that a PNG states (0: none), whether a GIF has several frames."""

    significant: int = 0
    animated: bool = False


def check_head(handle: BinaryIO) -> Head:
    """Checks the metadata that PIL reads before the pixels. The handle is at the start before and after.

    Raises:
        ValueError: there is too much metadata, or a chunk of a PNG is damaged.
    """
    start = handle.read(8)
    head = Head()
    if start == _PNG_SIGNATURE:
        head = Head(significant=_walk_png(handle))
    elif start.startswith(b"GIF8"):
        head = Head(animated=_walk_gif(handle))
    elif start[:1] == b"P" and start[1:2] in b"123456fFy7":
        _check_pnm(start + handle.read(_MAX_PNM_HEAD))
    elif start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        handle.seek(0)
        check_directory(handle)
    elif start.startswith(b"\xff\xd8") and handle.seek(0, io.SEEK_END) > MAX_JPEG_BYTES:
        raise ValueError(f"a JPEG of more than {MAX_JPEG_BYTES >> 20} MiB")
    handle.seek(0)
    return head


def _walk_png(handle: BinaryIO) -> int:
    """Checks all chunks. Returns the largest number of significant bits in the sBIT chunk, 0 without one."""
    significant = 0
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
            significant = max(block[: 3 if length > 2 else 1])  # of 2 or 4 values the last is alpha
        if kind == b"IEND":
            return significant
    raise ValueError(f"it has more than {_MAX_CHUNKS} chunks")


def _walk_gif(handle: BinaryIO) -> bool:
    """Walks to the block after the first frame. Returns whether another frame follows."""
    handle.seek(10)
    flags = handle.read(3)
    frames = extensions = 0
    while True:
        if flags and flags[0] & 0x80:  # a colour table
            handle.seek(3 << (flags[0] & 7) + 1, io.SEEK_CUR)
        if frames == 1:
            handle.seek(1, io.SEEK_CUR)  # LZW's code size
            _skip_blocks(handle)
        introducer = handle.read(1)
        while introducer == b"!":
            handle.seek(1, io.SEEK_CUR)
            extensions += _skip_blocks(handle)
            if frames == 0 and extensions > _MAX_EXTENSIONS:
                raise ValueError(f"more than {_MAX_EXTENSIONS >> 10} KiB before its first frame")
            introducer = handle.read(1)
        if introducer != b"," or frames == 1:
            return introducer == b","
        frames, flags = 1, handle.read(9)[8:]


def _skip_blocks(handle: BinaryIO) -> int:
    """Skips a GIF's data blocks up to the empty one; returns their number of bytes."""
    total = 0
    while length := handle.read(1):
        if length == b"\0":
            break
        handle.seek(length[0], io.SEEK_CUR)
        total += 1 + length[0]
    return total


def _check_pnm(head: bytes) -> None:
    words = b" ".join(line.split(b"#")[0] for line in head.splitlines()).split(maxsplit=4)
    if len(head) > _MAX_PNM_HEAD and len(words) < (3 if head[1:2] in b"14" else 4):
        raise ValueError(f"its head has more than {_MAX_PNM_HEAD >> 10} KiB")


def check_directory(handle: BinaryIO) -> None:
    """Checks the size of the first directory of a TIFF or of EXIF data, since PIL reads every value in it.

    Raises:
        ValueError: it is larger than an image can need.
    """
    head = handle.read(16)
    order, big = "<" if head[:1] == b"I" else ">", b"+" in head[2:4]
    try:
        handle.seek(struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0])
        (count,) = struct.unpack(order + ("Q" if big else "H"), handle.read(8 if big else 2))
        entries = handle.read(min(count, _MAX_ENTRIES) * (20 if big else 12))
        fields = struct.iter_unpack(order + ("HHQ8x" if big else "HHI4x"), entries)
        total = sum(_TYPE_BYTES.get(kind, 0) * number for _, kind, number in fields)
    except (struct.error, OverflowError, OSError):
        return  # PIL raises an error about it
    if count > _MAX_ENTRIES or total > _MAX_TAG_BYTES:
        raise ValueError(f"its directory has {count} entries of {total / 2**20:.1f} MiB, more than an image can need")


def check_content(image: Image.Image, handle: BinaryIO) -> None:
    """Checks the pixel data of a JPEG or TIFF that PIL has opened. The handle's position does not change.

    Raises:
        ValueError: the data are damaged.
    """
    place = handle.tell()
    if image.format in ("JPEG", "MPO"):
        handle.seek(0)
        _check_jpeg(handle.read())
    elif isinstance(image, TiffImageFile):
        _check_tiff(image, handle)
    handle.seek(place)


def _check_jpeg(content: bytes) -> None:
    if content.count(_START_OF_SCAN) > _MAX_SCANS:
        raise ValueError(f"it has more than {_MAX_SCANS} scans")
    if simplejpeg is None:
        warn_once(
            "simplejpeg",
            "the package simplejpeg is not installed: damage in the middle of a JPEG is read without an error",
        )
        return
    try:  # at 1/8 of the size: all data are decoded, but few pixels are computed
        simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1, min_factor=1, strict=True)
    except ValueError as error:
        if not str(error).startswith("tjDecompressHeader"):  # subsampling that PIL may know
            raise


def _check_tiff(image: TiffImageFile, handle: BinaryIO) -> None:
    tags = image.tag_v2
    compression = tags.get(_COMPRESSION, 1)
    if compression != _TIFF_JPEG and compression not in _TIFF_DEFLATE:
        return
    offsets, lengths = next(((tags[a], tags[b]) for a, b in _PLACES if a in tags and b in tags), ((), ()))
    for offset, length in zip(offsets, lengths, strict=False):
        handle.seek(offset)
        content = handle.read(length)
        if compression in _TIFF_DEFLATE:
            _check_zlib(content)
        elif tables := bytes(tags.get(_JPEG_TABLES, b"")):  # a JPEG file, whose last marker is removed
            _check_jpeg(tables[:-2] + content[2:])
        else:
            _check_jpeg(content)


def _check_zlib(content: bytes) -> None:
    stream = zlib.decompressobj()
    try:
        while content and not stream.eof:
            stream.decompress(content, _BLOCK)
            content = stream.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"TIFF data are damaged ({error})") from error
    if not stream.eof:
        raise ValueError("TIFF data are damaged: a strip ends before its data")
