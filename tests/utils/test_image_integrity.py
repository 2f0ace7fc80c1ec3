"""Damage that PIL passes over is an error, and odd but whole files are none."""

import io
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.__main__ import check
from datasets.decoding import find_unreadable
from tests.hostile.images import chunk, encode, make_image, png
from utils.errors import UserError
from utils.image_integrity import _check_jpeg
from utils.images import read_image

OPTIONS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_blocks": 3},
    "subsampled": {"subsampling": 2},
    "full": {"subsampling": 0},
}


def damage(content):
    """What the check of a JPEG's content says, "" where it is whole."""
    try:
        _check_jpeg(content)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 33), (64, 128), (300, 5)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_whole_jpegs(size, mode):
    image = make_image(np.random.default_rng(0), size).convert(mode)
    for options in OPTIONS.values():
        for quality in (5, 50, 95):
            assert damage(encode(image, "JPEG", quality=quality, **options)) == ""


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("interval", [0, 1, 7])
def test_whole_jpegs_of_opencv(progressive, interval):
    image = np.asarray(make_image(np.random.default_rng(1), (77, 301)))
    for factors in (0x411111, 0x221111, 0x211111, 0x121111, 0x111111):
        options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, interval]
        written, data = cv2.imencode(".jpg", image, [*options, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors])
        assert written
        assert damage(data.tobytes()) == ""


def odd_jpegs():
    image = make_image(np.random.default_rng(2), (64, 128))
    whole = encode(image, "JPEG", quality=90)
    scan = whole.find(b"\xff\xda")
    thumbnail = encode(image.resize((16, 32)), "JPEG")
    yield "garbage after the end", whole + b"\0garbage\xff\xd8\xff\xda" * 99
    yield "bytes that fill up a word", whole[:-2] + b"\0\0\0\xff\xd9"
    yield "fill bytes before markers", whole[:scan] + b"\xff\xff\xff" + whole[scan:-2] + b"\xff\xff\xff\xd9"
    yield "thumbnail", whole[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + whole[2:]
    yield "comment with markers", whole[:2] + b"\xff\xfe\0\x08\xff\xd9\xff\xda\xff\0" + whole[2:]
    yield "several images", encode(image, "MPO", save_all=True, append_images=[image.resize((32, 64))])


@pytest.mark.parametrize(("title", "content"), list(odd_jpegs()))
def test_odd_jpegs_are_whole(tmp_path, title, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert np.array_equal(read_image(path), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def broken_jpegs(rng, count):
    """Overwritten and cut JPEGs, most of which PIL reads without a word."""
    for number in range(count):
        kind = list(OPTIONS)[number % len(OPTIONS)]
        whole = encode(make_image(rng, (64, 128)), "JPEG", quality=int(rng.integers(60, 97)), **OPTIONS[kind])
        first = whole.find(b"\xff\xda") + 20
        size = int(rng.choice([4, 16, 64, 256]))
        at = int(rng.integers(first, len(whole) - size - 2))
        for filling in (bytes(size), b"\xff" * size, rng.bytes(size)):
            yield whole[:at] + filling + whole[at + size :]
        yield whole[:at] + b"\xff\xd9"
        yield whole[:at] + bytes(len(whole) - at - 2) + b"\xff\xd9"
        yield whole[:at]


def test_whatever_libjpeg_warns_of_is_damage(tmp_path):
    """OpenCV lets libjpeg write its warnings to the standard error, which only a process of its own can catch."""
    files = list(broken_jpegs(np.random.default_rng(3), 60))
    for number, content in enumerate(files):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    code = (
        "import cv2, os, sys\n"
        "for number in range(int(sys.argv[1])):\n"
        "    before = os.lseek(2, 0, os.SEEK_END)\n"
        "    image = cv2.imread(f'{number}.jpg')\n"
        "    print(int(image is None or os.lseek(2, 0, os.SEEK_END) > before))\n"
    )
    with (tmp_path / "stderr").open("w") as stderr:
        command = [sys.executable, "-c", code, str(len(files))]
        run = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, check=True)
    warned = [line == b"1" for line in run.stdout.split()]
    found = [damage(content) != "" for content in files]
    assert len(warned) == len(found)
    assert sum(warned) > 0.6 * len(files)
    assert all(ours for ours, theirs in zip(found, warned, strict=True) if theirs)


def test_a_file_is_checked_again_once_it_has_changed(tmp_path):
    path, whole = tmp_path / "a.jpg", encode(make_image(np.random.default_rng(0), (64, 128)), "JPEG", quality=90)
    for age in (0, 3600):  # written just now, and long ago
        path.write_bytes(whole)
        os.utime(path, ns=(0, path.stat().st_mtime_ns - age * 10**9))
        for _ in range(2):
            read_image(path)
        path.write_bytes(whole[:1200] + bytes(800) + whole[2000:])
        with pytest.raises(UserError, match="cannot be read"):
            read_image(path)


def test_many_scans():
    whole = encode(make_image(np.random.default_rng(0)).convert("L"), "JPEG")
    scan = whole[whole.find(b"\xff\xda") : -2]
    assert damage(whole[:-2] + 200 * scan + whole[-2:]) == "it has more than 200 scans"


def test_any_bytes_end_in_a_verdict():
    rng = np.random.default_rng(0)
    for kind in OPTIONS.values():
        whole = encode(make_image(rng), "JPEG", **kind)
        for _ in range(300):
            flipped = bytearray(whole)
            for position in rng.integers(2, len(whole), 3):
                flipped[position] = int(rng.integers(256))
            assert isinstance(damage(bytes(flipped)), str)


@pytest.mark.parametrize("kind", [b"IDAT", b"tEXt", b"IEND", b"IHDR"])
def test_the_crc_of_every_chunk_of_a_png(tmp_path, kind):
    whole = png(48, 32, 8, 0, bytes(32 * 49), chunk(b"tEXt", b"Comment\0text"))
    (tmp_path / "a.png").write_bytes(whole)
    assert not read_image(tmp_path / "a.png").any()
    broken = bytearray(whole)
    broken[whole.find(kind) + 4 + int.from_bytes(whole[whole.find(kind) - 4 :][:4], "big")] ^= 1
    (tmp_path / "a.png").write_bytes(broken)
    with pytest.raises(UserError, match=f"a.png: cannot be read .the CRC of its '{kind.decode()}' chunk is wrong"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("content", [b"", b"garbage after the end"])
def test_a_png_is_whole_up_to_its_last_chunk(tmp_path, content):
    (tmp_path / "a.png").write_bytes(png(48, 32, 8, 0, bytes(32 * 49)) + content)
    assert find_unreadable([str(tmp_path / "a.png")]) == {}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "gif", "bmp", "avif", "jp2", "ppm"])
def test_a_cut_file_is_an_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_image(np.random.default_rng(0)).save(path)
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=f"{path}: "):
            read_image(path)


def test_datasets_check_names_what_was_overwritten(tmp_path, capsys):
    for split in ("train", "query", "gallery"):
        for pid in ("1", "2"):
            for camera in ("1", "2"):
                path = tmp_path / split / pid / f"{camera}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                make_image(np.random.default_rng(int(pid + camera) + len(split)), (64, 128)).save(path, quality=90)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(400) + whole[len(whole) // 2 + 400 :])
    Image.open(path).load()  # without a word
    keys = ["DATASETS.NAMES", "folder", "DATASETS.ROOT_DIR", str(tmp_path)]
    keys += ["DATASETS.FOLDER.PATTERN", r"(?P<pid>\d+)/(?P<camid>\d+)\.jpg"]
    assert check(None, keys, fast=False) == 1
    report = capsys.readouterr().out
    assert f"image {path}: cannot be read (" in report
    assert report.count("cannot be read") == 1
