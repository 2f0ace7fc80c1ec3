"""Image files that a stranger might send, made afresh from a seed, and a process that reads them within bounds.

python -m tests.hostile.images DIRECTORY [SEED]     makes all of them, reads each, prints a table of time and message
"""

import io
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (48, 32)  # width, height of the harmless image that most are made of


def make_image(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Image.Image:
    """A smooth colour image with some noise."""
    small = rng.integers(0, 256, (4, 3, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, data: bytes, *before: bytes) -> bytes:
    """A PNG of filtered rows `data`, with further chunks before them."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    content = chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(before) + content


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes = b"", order: str = "<") -> bytes:
    """A TIFF with `data` at offset 8; tag -> (type, count, value or offset)."""
    content = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data)) + data
    content += struct.pack(order + "H", len(tags))
    for tag, (kind, count, value) in sorted(tags.items()):
        short = kind == 3 and count == 1
        content += struct.pack(order + "HHI", tag, kind, count)
        content += struct.pack(order + ("HH" if short else "I"), *((value, 0) if short else (value,)))
    return content + struct.pack(order + "I", 0)


def grey_tags(width: int, height: int, bits: int, length: int, photometric: int = 1) -> dict:
    """Tags of an uncompressed grey TIFF in one strip."""
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, bits),
        259: (3, 1, 1),
        262: (3, 1, photometric),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, length),
    }


def foreign(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Other content under the names of images."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    for suffix in ("jpg", "png", "bmp", "tif", "webp", "gif", "avif", "jp2", "pgm", "ppm"):
        yield f"postscript.{suffix}", postscript
    yield "dos_eps.jpg", struct.pack("<4sIIIIII", b"\xc5\xd0\xd3\xc6", 32, len(postscript), 0, 0, 0, 0) + postscript
    yield "pdf.jpg", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"
    yield "svg.png", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    yield "ico.png", encode(make_image(rng), "ICO")
    yield "im.tif", encode(make_image(rng), "IM")
    yield "noise.jpg", rng.bytes(4096)


def huge(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """More pixels than the memory may have room for, in a few kB."""
    side = 13_000
    yield "one_bit.png", png(side, side, 1, 0, bytes(side * (1 + (side + 7) // 8)))
    yield "head.png", png(2**31 - 1, 2**31 - 1, 8, 2, bytes(100))
    jpeg = bytearray(encode(make_image(rng), "JPEG"))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = b"\xff" * 4
    yield "head.jpg", bytes(jpeg)
    yield "second_frame.jpg", bytes(jpeg[:2]) + bytes(jpeg[at : at + 19]) + encode(make_image(rng), "JPEG")[2:]
    bmp = bytearray(encode(make_image(rng), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield "head.bmp", bytes(bmp)
    gif = bytearray(encode(make_image(rng), "GIF"))
    gif[6:10] = b"\xff" * 4
    yield "screen.gif", bytes(gif)
    for number in (2, 3, 5, 6):
        yield f"head{number}.ppm", b"P%d 99999 99999 255\n" % number + bytes(100)
    yield "strip.tif", tiff(grey_tags(60_000, 60_000, 8, 100), bytes(100))
    yield "float.tif", tiff({**grey_tags(9_000, 9_000, 32, 100), 339: (3, 1, 3)}, bytes(100))
    webp = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16382).to_bytes(3, "little") * 2
    yield "canvas.webp", b"RIFF" + struct.pack("<I", 4 + len(webp)) + b"WEBP" + webp
    jp2 = bytearray(encode(make_image(rng), "JPEG2000", no_jp2=True))
    jp2[8:16] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    yield "head.jp2", bytes(jp2)


def bombs(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Small files that unpack to much, or ask for much work."""
    zeros = zlib.compress(bytes(2**26), 9)
    rows = bytes(32 * (1 + 48))
    yield "ztxt.png", png(*SIZE, 8, 0, rows, chunk(b"zTXt", b"Comment\0\0" + zeros))
    yield "itxt.png", png(*SIZE, 8, 0, rows, chunk(b"iTXt", b"Comment\0\1\0\0\0" + zeros))
    yield "iccp.png", png(*SIZE, 8, 0, rows, chunk(b"iCCP", b"sRGB\0\0" + zeros))
    yield "idat.png", png(*SIZE, 8, 0, bytes(2**26))
    yield "chunks.png", png(*SIZE, 8, 0, rows, chunk(b"tIME", bytes(7)) * 200_000)
    frames = [make_image(rng, (8, 8)) for _ in range(300)]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        yield f"frames.{kind.lower()}", encode(frames[0], kind, save_all=True, append_images=frames[1:])
    gif = encode(make_image(rng), "GIF")
    palette = 13 + (3 << (gif[10] & 7) + 1)
    yield "comment.gif", gif[:palette] + b"!\xfe" + (b"\xff" + b"a" * 255) * 40_000 + b"\0" + gif[palette:]
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 4000)
    exif += b"".join(struct.pack("<HHII", 40_000 + i, 1, 60_000, 8) for i in range(4000)) + bytes(2**16)
    yield "exif.png", png(*SIZE, 8, 0, rows, chunk(b"eXIf", exif))
    raw = "\nexif\n" + str(len(exif)) + "\n" + exif.hex()
    yield "raw_exif.png", png(*SIZE, 8, 0, rows, chunk(b"tEXt", b"Raw profile type exif\0" + raw.encode()))
    yield "exif.webp", encode(make_image(rng), "WEBP", exif=exif)
    big = Image.new("L", (3_000, 3_000))
    jpeg = encode(big, "JPEG", progressive=True)
    places = [at for at in range(len(jpeg)) if jpeg.startswith(b"\xff\xda", at)]
    yield "scans.jpg", jpeg[:-2] + jpeg[places[-1] : -2] * 2_000 + jpeg[-2:]
    tags = grey_tags(*SIZE, 8, 48 * 32)
    yield "strip_length.tif", tiff({**tags, 279: (4, 1, 2**31)}, bytes(100))
    yield "tag_count.tif", tiff({**tags, 33723: (1, 2**31 - 1, 8)}, bytes(48 * 32))
    tiles = {259: (3, 1, 8), 322: (4, 1, 2**18), 323: (4, 1, 2**18), 324: (4, 1, 8), 325: (4, 1, len(zeros))}
    yield "tile.tif", tiff({tag: tags[tag] for tag in (256, 257, 258, 262, 277)} | tiles, zeros)
    many = {1000 + i: (1, 2**16, 8) for i in range(2000)}
    yield "tags.tif", tiff({**tags, **many}, bytes(2**16))
    yield "own_directory.tif", tiff(tags, bytes(48 * 32))[:-4] + struct.pack("<I", 8 + 48 * 32)
    yield "deflate.tif", tiff({**tags, 259: (3, 1, 8), 279: (4, 1, len(zeros))}, zeros)
    yield "digits.ppm", b"P3 5000 5000 255\n" + b"1 " * 4_000_000
    yield "comment.ppm", b"P6\n#" + b"a" * 3_000_000 + b"\n48 32\n255\n" + bytes(48 * 32 * 3)


def damaged(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Files that were cut or overwritten on a disk, and that have checksums that show it."""
    image = make_image(rng, (64, 128))
    options = {
        "baseline.jpg": {},
        "progressive.jpg": {"progressive": True},
        "optimised.jpg": {"optimize": True},
        "restarts.jpg": {"restart_marker_blocks": 4},
    }
    files = {name: encode(image, "JPEG", quality=90, **kind) for name, kind in options.items()}
    files["grey.jpg"] = encode(image.convert("L"), "JPEG", quality=90)
    files["cmyk.jpg"] = encode(image.convert("CMYK"), "JPEG", quality=90)
    files["true.png"] = encode(image, "PNG")
    files["deflate.tif"] = encode(image, "TIFF", compression="tiff_adobe_deflate")
    files["jpeg.tif"] = encode(image, "TIFF", compression="jpeg")
    for name, whole in files.items():
        count = len(whole)
        start, end = count // 2, count // 2 + count // 4
        if whole.startswith(b"\xff\xd8"):
            start = max(start, whole.find(b"\xff\xda") + 20)
            yield f"cut_with_end.{name}", whole[:start] + b"\xff\xd9"
            yield f"no_tail.{name}", whole[:start] + bytes(count - start - 2) + b"\xff\xd9"
            yield f"no_end.{name}", whole[:-2]
        for kind, filling in (("zeros", bytes), ("ones", lambda n: b"\xff" * n), ("noise", rng.bytes)):
            yield f"{kind}.{name}", whole[:start] + filling(end - start) + whole[end:]
        yield f"cut.{name}", whole[:start]
    whole = files["true.png"]
    text = chunk(b"tEXt", b"Comment\0something")
    for name, extra in (("text_crc", text[:-1] + b"\0"), ("text_length", b"\0\xff" + text[2:]), ("text_cut", text[:9])):
        yield f"{name}.png", whole[:-12] + extra + (b"" if name == "text_cut" else whole[-12:])


def special(directory: Path) -> Iterator[str]:
    """Paths of what is no regular file, or has a name that no file may have."""
    os.mkfifo(directory / "fifo.jpg")
    (directory / "directory.jpg").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(directory / "socket.jpg"))  # such a path has at most 107 bytes
    links = {
        "loop.jpg": "loop.jpg",
        "nowhere.jpg": "gone",
        "zero.jpg": "/dev/zero",
        "memory.jpg": "/proc/self/mem",
        "terminal.jpg": "/dev/tty",
        "up.jpg": "..",
    }
    for name, target in links.items():
        (directory / name).symlink_to(target)
    yield from (str(path) for path in sorted(directory.iterdir()))
    yield str(directory / ("a" * 300 + ".jpg"))
    yield str(directory / "nul\0.jpg")
    yield str(directory / "/".join(["deep"] * 1500)) + ".jpg"
    yield "/proc/self/status"
    with (directory / "sparse.jpg").open("wb") as handle:
        handle.truncate(2**40)
    yield str(directory / "sparse.jpg")


KINDS: dict[str, Callable] = {"foreign": foreign, "huge": huge, "bombs": bombs, "damaged": damaged}


def make(directory: Path, kind: str, seed: int) -> list[str]:
    """Paths of the hostile inputs of a kind, made in `directory`."""
    directory.mkdir(parents=True)
    if kind == "special":
        return list(special(directory))
    paths = []
    for name, content in KINDS[kind](np.random.default_rng(seed)):
        (directory / name).write_bytes(content)
        paths.append(str(directory / name))
    return paths


def read_all(paths: list[str]) -> dict:
    """Reads the paths in a process of its own; see `read_here`."""
    code = "import sys; from tests.hostile.images import read_here; read_here(sys.stdin.read())"
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert process.returncode == 0, process.stderr
    return {**json.loads(process.stdout.splitlines()[-1]), "stderr": process.stderr}


def read_here(paths: str) -> None:
    """Prints, as JSON, path -> (seconds, "" or the error), and the memory in MiB that reading took at most."""
    from utils.errors import UserError
    from utils.images import image_size, read_image

    results, before = {}, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in json.loads(paths):
        start = time.perf_counter()
        try:
            shape, error = read_image(path).shape, ""
            assert image_size(path) == shape[:2]
        except UserError as caught:
            error = str(caught)
        results[path] = (time.perf_counter() - start, error)
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"results": results, "mib": taken}))


def main(directory: Path, seed: int) -> None:
    for kind in (*KINDS, "special"):
        report = read_all(make(directory / kind, kind, seed))
        print(f"{kind}: {len(report['results'])} inputs, at most {report['mib']:.0f} MiB")
        for path, (seconds, error) in report["results"].items():
            print(f"  {seconds:6.2f} s  {os.path.basename(path)[-30:]!a}: {error[-1000:] or 'read'!a}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
