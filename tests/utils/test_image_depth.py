"""White is white: images of more than 8 bits a value, by what their file says of the depth."""

import io
import logging
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.hostile.images import chunk, grey_tags, png, tiff
from utils import logging as project_logging
from utils.errors import UserError
from utils.image_depth import upper_bits
from utils.images import image_size, read_image

HEIGHT, WIDTH = 23, 17
DEPTHS = (10, 12, 14, 16)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(project_logging, "_warned", set())


@pytest.fixture
def expected():
    """(23, 17, 3) uint8 with a black and a white pixel."""
    colours = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    colours[0, 0], colours[1, 1] = 255, 0
    return colours


def deepen(values, bits):
    """Values of `bits` whose upper 8 are `values`."""
    low = np.random.default_rng(1).integers(0, 2 ** (bits - 8), values.shape, dtype=np.uint16)
    return values.astype(np.uint16) << (bits - 8) | low


def deep_png(values, colour, *chunks):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(values.shape[1], values.shape[0], 16, colour, rows, *chunks)


def pack(values, bits):
    """Rows of values of `bits` each, filled up to bytes."""
    digits = values[:, :, None].astype(np.uint32) >> np.arange(bits - 1, -1, -1) & 1
    return b"".join(np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in digits)


def grey_tiff(values, bits, order, *, photometric=1, more=None):
    data = values.astype(f"{order}u2").tobytes() if bits == 16 else pack(values, bits)
    tags = grey_tags(values.shape[1], values.shape[0], bits, len(data), photometric)
    return tiff({**tags, **(more or {})}, data, order)


def check(path, content, expected):
    path.write_bytes(content)
    wanted = expected if expected.ndim == 3 else np.repeat(expected[:, :, None], 3, axis=2)
    assert np.array_equal(read_image(path), wanted)
    assert image_size(path) == wanted.shape[:2]


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("colour", [0, 2, 4, 6])  # grey, RGB, with opacity
def test_png(tmp_path, expected, caplog, bits, states, colour):
    colours = expected if colour in (2, 6) else expected[:, :, :1]
    values, said = deepen(colours, bits), [bits] * colours.shape[2]
    if colour >= 4:
        values = np.concatenate([values, np.full((HEIGHT, WIDTH, 1), 2**16 - 1, np.uint16)], axis=2)
        said.append(16)
    chunks = [chunk(b"sBIT", bytes(said))] if states else []
    with caplog.at_level(logging.WARNING):
        check(tmp_path / "a.png", deep_png(values, colour, *chunks), colours if colour in (2, 6) else colours[:, :, 0])
    assert ("smallest depth that holds them" in caplog.text) == (bits < 16 and not states)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_png_as_its_specification_says(tmp_path, expected, bits):
    values = deepen(expected[:, :, 0], bits)
    spread = (values << (16 - bits)) | (values >> (2 * bits - 16))
    check(tmp_path / "a.png", deep_png(spread[:, :, None], 0, chunk(b"sBIT", bytes([bits]))), expected[:, :, 0])


@pytest.mark.parametrize("spread", [256, 257])
def test_dark_images_of_8_bits_spread_over_16(tmp_path, expected, caplog, spread):
    dark = expected[:, :, 0] // 8
    check(tmp_path / "a.png", deep_png((dark.astype(np.uint16) * spread)[:, :, None], 0), dark)
    assert caplog.text == ""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_tiff_by_its_bits_per_sample(tmp_path, expected, caplog, order, white_is_zero, bits):
    grey, white = expected[:, :, 0], 2**bits - 1
    values = deepen(grey, bits) if bits > 8 else grey.astype(np.uint16) >> (8 - bits)
    stored = white - values if white_is_zero else values
    content = grey_tiff(stored, bits, order, photometric=0 if white_is_zero else 1)
    check(tmp_path / "a.tif", content, grey if bits >= 8 else (values * (255 // white)).astype(np.uint8))
    assert caplog.text == ""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_by_its_largest_value(tmp_path, expected, caplog, order, bits):
    grey = expected[:, :, 0] // 5  # nothing is white, so that the values do not tell
    largest = {281: (3, 1, 2**bits - 1)}
    check(tmp_path / "a.tif", grey_tiff(deepen(grey, bits), 16, order, more=largest), grey)
    assert caplog.text == ""


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
def test_tiff_in_colours(tmp_path, expected, bits, order, compression):
    data = deepen(expected, bits).astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    tags = {**grey_tags(WIDTH, HEIGHT, 16, len(data), 2), 258: (3, 3, 8 + len(data)), 277: (3, 1, 3)}
    bits_of_each = np.array([16, 16, 16], f"{order}u2").tobytes()
    content = tiff({**tags, 259: (3, 1, compression)}, data + bits_of_each, order)
    check(tmp_path / "a.tif", content, expected)


@pytest.mark.parametrize("white", [1, 3, 15, 100, 255, 300, 1000, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("magic", [b"P5", b"P6"])
def test_pgm_and_ppm_by_their_maxval(tmp_path, expected, caplog, white, magic):
    colours = expected if magic == b"P6" else expected[:, :, 0]
    values = np.rint(colours / 255 * white)
    content = b"%s %d %d %d\n" % (magic, WIDTH, HEIGHT, white) + values.astype(">u2" if white > 255 else "u1").tobytes()
    (tmp_path / "a.ppm").write_bytes(content)
    image = read_image(tmp_path / "a.ppm")
    image = image if magic == b"P6" else image[:, :, 0]
    assert np.abs(image - values / white * 255).max() <= 1
    assert (image[0, 0] == 255).all()
    assert (image[1, 1] == 0).all()
    assert caplog.text == ""


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_pgm_in_digits(tmp_path, expected, white):
    values = np.rint(expected[:, :, 0] / 255.0 * white).astype(int)
    (tmp_path / "a.pgm").write_text(f"P2\n{WIDTH} {HEIGHT}\n{white}\n" + " ".join(map(str, values.ravel())))
    assert np.abs(read_image(tmp_path / "a.pgm")[:, :, 0].astype(int) - expected[:, :, 0]).max() <= 1


@pytest.mark.parametrize("depth", [8, 16])
def test_palette_of_a_tiff(tmp_path, expected, depth):
    image = Image.fromarray(expected).quantize(16)
    file = io.BytesIO()
    image.save(file, "TIFF")
    stored = np.array(Image.open(file).tag_v2[320], np.uint16)  # of 16 bits
    colours = (stored // 256 if depth == 8 else stored).astype("<u2").tobytes()
    indices = np.asarray(image).tobytes()
    tags = {**grey_tags(WIDTH, HEIGHT, 8, len(indices), 3), 320: (3, 768, 8 + len(indices))}
    check(tmp_path / "a.tif", tiff(tags, indices + colours), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("colour", [0, 2])
def test_turned(tmp_path, expected, orientation, colour):
    colours = expected[:, :, : colour + 1]
    exif = b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0" + bytes([orientation]) + bytes(6)
    turned = np.rot90(colours if colour else colours[:, :, 0], {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    check(tmp_path / "a.png", deep_png(deepen(colours, 12), colour, chunk(b"eXIf", exif)), turned)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_2000_is_right_or_an_error(tmp_path, expected, channels):
    """Pillow rounds the brightest of 16 bits a colour up to 256, which is 0."""
    expected = np.tile(expected, (3, 3, 1))  # OpenCV writes none below 32 x 32
    values = deepen(np.concatenate([expected, expected[:, :, :1]], axis=2)[:, :, :channels], 16)
    _, content = cv2.imencode(".jp2", values, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    (tmp_path / "a.jp2").write_bytes(content.tobytes())
    if channels == 1:
        assert np.array_equal(read_image(tmp_path / "a.jp2"), np.repeat(expected[:, :, :1], 3, axis=2))
    else:
        with pytest.raises(UserError, match="JPEG 2000 of more than 8 bits a colour.*convert it to PNG"):
            read_image(tmp_path / "a.jp2")


def test_the_upper_8_bits():
    for bits in DEPTHS:
        values = np.arange(2**bits, dtype=np.uint16)
        assert np.array_equal(upper_bits(values, 2**bits - 1), (values >> (bits - 8)).astype(np.uint8))
    assert upper_bits(np.array([0, 300, 999], np.uint16), 300).tolist() == [0, 255, 255]


def test_one_warning_for_all_images(tmp_path, expected, caplog):
    for number in range(3):
        path = tmp_path / f"{number}.png"
        path.write_bytes(deep_png(deepen(expected[:, :, :1], 12), 0))
        read_image(path)
    assert caplog.text.count("does not say which value is white") == 1
    assert "0.png: 16-bit values of at most 40" in caplog.text
