"""The kernels against the libraries or plain loops that they replace."""

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage import color

from corruption.blur import clipped_zoom, gaussian_filter, motion_filter, to_uint8
from corruption.imagecorruptions_backend import published_function

_kernels = pytest.importorskip("corruption._kernels", reason="not built: python setup.py build_ext --inplace")

RNG = np.random.default_rng(0)
SIZES = [(1, 1), (2, 7), (40, 23), (9, 64), (33, 40)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("mode", "truncate"), [("nearest", 4.0), ("reflect", 3.0)])
@pytest.mark.parametrize("sigma", [(0.01, 0.4), (1.0, 1.0), (2.3, 0.7), (6.0, 9.0)])
def test_gaussian_filter_is_scipys(sigma, mode, truncate, size):
    for channels in (1, 2, 3):
        image = RNG.random((*size, channels))
        expected = ndimage.gaussian_filter(image, (*sigma, 0), mode=mode, truncate=truncate)
        found = gaussian_filter(image, sigma, truncate=truncate, reflect=mode == "reflect")
        np.testing.assert_allclose(found, expected, rtol=0, atol=4e-16)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 23), (64, 128), (97, 53)])
@pytest.mark.parametrize("factor", [1.0, 1.01, 1.09, 1.3, 2.5, 4.5])
def test_clipped_zoom_is_the_published_one(factor, size):
    published_zoom = published_function("clipped_zoom")
    for dtype, tolerance in ((np.float32, 1e-7), (np.float64, 1e-15)):
        layer = RNG.random((*size, 2)).astype(dtype)
        expected = published_zoom(layer, factor)
        found = clipped_zoom(layer, factor)
        assert (found.shape, found.dtype) == (expected.shape, dtype)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(33, 32), (40, 90), (8, 300)])
@pytest.mark.parametrize("angle", [-135.0, -90.0, -47.1, -10.0, 0.0, 44.9])
def test_motion_filter_is_the_published_one(angle, size):
    published = published_function("_motion_blur")
    image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    for radius, sigma in ((10, 3), (20, 15)):
        expected = published(image, radius=radius, sigma=sigma, angle=angle)
        np.testing.assert_allclose(motion_filter(image, radius, sigma, angle), expected, rtol=0, atol=1e-12)


def test_displace_is_scipys_map_coordinates():
    for height, width in SIZES:
        image = RNG.random((height, width, 3)).astype(np.float32)
        shifts = RNG.uniform(-3 * max(height, width), 3 * max(height, width), (height, width, 2)).astype(np.float32)
        shifts[RNG.random((height, width)) < 0.3] = 0
        out = np.empty_like(image)
        _kernels.displace(image, shifts, out)
        rows, columns = np.mgrid[:height, :width]
        where = (rows + shifts[..., 1].astype(float), columns + shifts[..., 0].astype(float))
        for channel in range(3):
            expected = ndimage.map_coordinates(image[..., channel], where, order=1, mode="reflect")
            np.testing.assert_allclose(out[..., channel], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("factor", "shift", "lift"), [(1, 0, 0), (0.3, 0, 0), (20, 0.2, 0), (1, 0, 0.5), (2, 0, 0.2)])
def test_adjust_hsv_is_skimages(factor, shift, lift):
    """All colours on a grid of 52 levels per channel: every hue sector, every tie between channels."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    image = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    hsv = color.rgb2hsv(image / 255.0)
    hsv[:, 1] = np.clip(hsv[:, 1] * factor + shift, 0, 1)
    hsv[:, 2] = np.clip(hsv[:, 2] + lift, 0, 1)
    expected = (np.clip(color.hsv2rgb(hsv), 0, 1) * 255).astype(np.uint8)
    out = np.empty_like(image)
    _kernels.adjust_hsv(image.reshape(-1), factor, shift, lift, out.reshape(-1))
    assert (out == expected).all()


def test_plasma_is_the_published_one():
    for size in (4, 8, 64):
        uniforms = np.random.RandomState(size).random_sample(size * size - 1)
        expected = published_fractal(size, 1.7, iter(uniforms))
        field = np.empty((size, size))
        _kernels.plasma(field, uniforms, 1.7)
        np.testing.assert_allclose(field, expected, rtol=1e-12, atol=1e-10)


def published_fractal(size: int, decay: float, uniforms) -> np.ndarray:
    """Diamond-square on a torus, point by point."""
    field, step, amplitude = np.zeros((size, size)), size, 100.0
    while step >= 2:
        half = step // 2
        cells = [(row, column) for row in range(0, size, step) for column in range(0, size, step)]
        # the neighbours of a new point are `half` away from it; those of a square's middle are diagonal
        for offset, neighbours in (
            ((half, half), [(-1, -1), (-1, 1), (1, -1), (1, 1)]),
            ((0, half), [(-1, 0), (1, 0), (0, -1), (0, 1)]),
            ((half, 0), [(-1, 0), (1, 0), (0, -1), (0, 1)]),
        ):
            for row, column in cells:
                y, x = row + offset[0], column + offset[1]
                total = sum(field[(y + dy * half) % size, (x + dx * half) % size] for dy, dx in neighbours)
                field[y, x] = total / 4 + amplitude**2 * (2 * next(uniforms) - 1)
        step, amplitude = half, amplitude / decay
    return field


@pytest.mark.parametrize("dtype", [np.int64, np.int8])
@pytest.mark.parametrize("delta", [1, 2, 3, 4])
def test_glass_shuffle_is_the_published_loop(delta, dtype):
    image = RNG.integers(0, 256, (40, 23, 3), dtype=np.uint8)
    offsets = RNG.integers(-delta, delta, ((40 - 2 * delta) * (23 - 2 * delta), 2)).astype(dtype)
    expected, found = image.copy(), image.copy()
    draws = iter(offsets.astype(int))
    for h in range(40 - delta, delta, -1):
        for w in range(23 - delta, delta, -1):
            dx, dy = next(draws)
            expected[h, w], expected[h + dy, w + dx] = expected[h + dy, w + dx], expected[h, w]
    assert (expected != image).any()
    _kernels.glass_shuffle(found, offsets, delta)
    assert (found == expected).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grey_levels_are_truncated(dtype):
    values = np.concatenate([[-1, -0.0, 0, 1, 7, np.inf, -np.inf], RNG.uniform(-0.5, 1.5, 1000)]).astype(dtype)
    expected = (np.clip(values, 0, 1) * 255).astype(np.uint8)
    assert (to_uint8(values) == expected).all()


def test_blend():
    image, texture = RNG.integers(0, 256, (2, 30, 20, 3), dtype=np.uint8)
    out = np.empty((20, 15, 3), np.uint8)
    _kernels.blend(np.ascontiguousarray(image[:20, :15]), texture[7:27, 2:17], 0.7, 0.7, out)
    expected = np.clip(0.7 * image[:20, :15] + 0.7 * texture[7:27, 2:17], 0, 255).astype(np.uint8)
    assert (out == expected).all()
    assert cv2.countNonZero(out[..., 0]) > 0
