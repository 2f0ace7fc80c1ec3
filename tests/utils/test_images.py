"""Pictures of every mode that a camera, a scanner or an editor leaves behind end as RGB, or in a clear error."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from utils.errors import UserError
from utils.images import image_size, read_image

HEIGHT, WIDTH = 24, 16


@pytest.fixture
def pixels():
    """A smooth image with other colours in every corner, (24, 16, 3) uint8."""
    corners = np.random.default_rng(0).integers(0, 256, (3, 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(corners).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))


def check(path, expected, tolerance=0):
    image = read_image(path)
    assert (image.shape, image.dtype) == (expected.shape, np.uint8)
    assert image_size(path) == expected.shape[:2]
    assert np.abs(image.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_files(tmp_path, pixels, suffix):
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", lossless=True)
    check(tmp_path / f"a.{suffix}", pixels)


def test_jpeg_is_decoded_as_pil_does(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    check(tmp_path / "a.jpg", np.asarray(Image.open(tmp_path / "a.jpg")))
    check(tmp_path / "a.jpg", pixels, tolerance=12)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])  # PIL turns TIFF's by itself
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, pixels, orientation, name):
    upright = Image.fromarray(pixels)
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # Image.Transpose that the camera applied
    stored = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif)
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name))), pixels)
    check(tmp_path / name, pixels)


def test_grey(tmp_path, pixels):
    grey = pixels[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    check(tmp_path / "grey.png", np.repeat(grey[:, :, None], 3, axis=2))
    Image.fromarray(grey > 127).save(tmp_path / "one_bit.png")
    check(tmp_path / "one_bit.png", np.repeat((grey > 127)[:, :, None], 3, axis=2) * np.uint8(255))


def test_opacity_goes_and_colours_stay(tmp_path, pixels):
    alpha = np.linspace(0, 255, HEIGHT * WIDTH).astype(np.uint8).reshape(HEIGHT, WIDTH, 1)
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(tmp_path / "rgba.png")
    check(tmp_path / "rgba.png", pixels)
    Image.fromarray(np.concatenate([pixels[:, :, :1], alpha], axis=2), "LA").save(tmp_path / "la.png")
    check(tmp_path / "la.png", np.repeat(pixels[:, :, :1], 3, axis=2))


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(64))])
def test_palettes(tmp_path, pixels, transparency):
    palette = Image.fromarray(pixels).quantize(64)
    options = {} if transparency is None else {"transparency": transparency}
    palette.save(tmp_path / "a.png", **options)
    expected = np.asarray(palette.convert("RGB"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(tmp_path / "a.png", expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, suffix):
    deep = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH), dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    check(tmp_path / f"deep.{suffix}", np.repeat((deep // 256).astype(np.uint8)[:, :, None], 3, axis=2))


def test_big_endian_sixteen_bits(tmp_path):
    deep = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 160
    image = Image.frombytes("I;16B", (WIDTH, HEIGHT), deep.astype(">u2").tobytes())
    image.save(tmp_path / "deep.tif")
    check(tmp_path / "deep.tif", np.repeat((deep // 256).astype(np.uint8)[:, :, None], 3, axis=2))


def test_cmyk_jpeg(tmp_path, pixels):
    cmyk = Image.fromarray(pixels).convert("CMYK")
    cmyk.save(tmp_path / "a.jpg", quality=100, subsampling=0)
    check(tmp_path / "a.jpg", pixels, tolerance=8)


@pytest.mark.parametrize(("mode", "array"), [("I", np.int32), ("F", np.float32)])
def test_values_without_a_known_white(tmp_path, mode, array):
    Image.fromarray(np.zeros((4, 4), array)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=rf"image {tmp_path}/a\.tif: mode {mode}, 32 bits .* expected 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_the_first_of_several_frames(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.tif", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    check(tmp_path / "a.tif", pixels)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's, of what it could still read
def test_every_cut_and_bit_flip_is_a_image_or_a_user_error(tmp_path, pixels):
    rng = np.random.default_rng(0)
    for suffix in ("jpg", "png", "tif", "bmp", "webp"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(pixels).save(path)
        whole = path.read_bytes()
        for length in rng.integers(0, len(whole), 20):
            path.write_bytes(whole[:length])
            survives(path)
        for position in rng.integers(0, len(whole), 60):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(flipped)
            survives(path)


def survives(path):
    try:
        image = read_image(path)
    except UserError as error:
        message = str(error)
    else:
        message = str(path) if (image.ndim, image.shape[2], image.dtype) == (3, 3, np.uint8) else ""
    assert str(path) in message


def test_what_is_no_image_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    for content in (b"", b"no image", b"\xff\xd8\xff\xe0" + bytes(100)):
        path.write_bytes(content)
        for read in (read_image, image_size):
            with pytest.raises(UserError, match=f"image {path}: cannot be read"):
                read(path)
    for gone in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(UserError, match=f"image {gone}: cannot be read"):
            read_image(gone)
