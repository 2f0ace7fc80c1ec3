"""Images from Python: paths, directories, PIL images, arrays, and what is none of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from utils.errors import UserError
from utils.image_inputs import Input, iterate_images
from utils.image_listing import image_paths
from utils.images import read_image

ARRAY = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype(np.uint8)


def save(path, orientation=None):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ARRAY).save(path, exif=exif)
    return path


def names(images):
    return [one.image for one in iterate_images(images)]


def test_paths_and_directories(tmp_path):
    for name in ("b.png", "a/2.png", "a/10.png"):
        save(tmp_path / name)
    expected = [str(tmp_path / name) for name in ("a/10.png", "a/2.png", "b.png")]
    assert names(tmp_path) == names(str(tmp_path)) == image_paths(tmp_path) == expected
    assert names([tmp_path / "b.png", str(tmp_path / "a")]) == [expected[2], *expected[:2]]
    assert names(path for path in [Path("x.png")]) == ["x.png"]  # read later, by the caller
    assert list(iterate_images("x.png")) == [Input("x.png", "image x.png")]


def test_arrays_and_pil_images():
    for images in (ARRAY, Image.fromarray(ARRAY), [ARRAY], (Image.fromarray(ARRAY),), ARRAY[None], iter([ARRAY])):
        (found,) = iterate_images(images)
        assert found.image.dtype == np.uint8
        np.testing.assert_array_equal(found.image, ARRAY)
    assert names([]) == []
    assert [one.name for one in iterate_images([ARRAY, ARRAY])] == ["image 0", "image 1"]


def test_pil_images_are_read_as_files_are(tmp_path):
    for orientation in range(1, 9):
        path = save(tmp_path / f"{orientation}.png", orientation)
        with Image.open(path) as image:
            (found,) = names(image)
        np.testing.assert_array_equal(found, read_image(path))
    grey = Image.fromarray(ARRAY[:, :, 0])
    np.testing.assert_array_equal(names(grey)[0], np.stack([ARRAY[:, :, 0]] * 3, axis=-1))
    with_alpha = Image.fromarray(np.dstack([ARRAY, ARRAY[:, :, 0]]))
    np.testing.assert_array_equal(names(with_alpha)[0], ARRAY)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (ARRAY / 255, r"the image: found an array \(8, 6, 3\) of float64; expected .*\(image \* 255\)\.round"),
        ([ARRAY, ARRAY[:, :, 0]], r"image 1: found an array \(8, 6\) of uint8; expected .*np\.stack"),
        (np.dstack([ARRAY, ARRAY[:, :, 0]]), r"\(8, 6, 4\) of uint8; expected .*image\[:, :, :3\]"),
        (ARRAY.transpose(2, 0, 1), r"\(3, 8, 6\) of uint8; expected .*transpose\(1, 2, 0\)"),
        ([ARRAY[None]], r"image 0: found an array \(1, 8, 6, 3\)"),
        (ARRAY[:0], r"found an array \(0, 6, 3\)"),
        ([torch.zeros(3, 8, 6)], r"image 0: found torch\.Tensor \(3, 8, 6\); expected .*permute"),
        (3, "the image: found int; expected a path"),
        (None, "the image: found NoneType"),
        ([["a.png"]], "image 0: found list; expected"),
        ({"a.png"}, "in a set, which has no order"),
        (Image.new("I;16", (4, 4)), "the image: a PIL image of mode I;16, expected 8 bits a value; give its path"),
        (Image.new("F", (4, 4)), "mode F"),
    ],
)
def test_what_is_no_image(images, message):
    with pytest.raises(UserError, match=message):
        names(images)


def test_a_directory_without_images(tmp_path):
    with pytest.raises(UserError, match="no image below it; expected files that end in"):
        names(tmp_path)
    with pytest.raises(UserError, match="does not exist; expected a directory with images"):
        image_paths(tmp_path / "none")


def test_a_pil_image_of_a_damaged_file(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(np.tile(ARRAY, (20, 20, 1))).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as image, pytest.raises(UserError, match="image 0: a PIL image that cannot be decoded"):
        names([image])
