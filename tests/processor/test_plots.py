"""Figures are measured: their sizes, and colours at given pixels."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from processor.plots import AttentionRow, save_attention

BLACK = np.zeros((128, 64, 3), np.uint8)


def make_row(clean, corrupted):
    return AttentionRow("pid 1, a.jpg", "correlation of the two maps: 0.50", (BLACK, BLACK), (clean, corrupted))


def titled_axes(panel):
    return [axis for axis in panel.axes if axis.get_title()]


@pytest.mark.parametrize(("count", "across"), [(1, 1), (2, 1), (8, 2), (9, 2)])
def test_many_rows_are_side_by_side(tmp_path, count, across):
    path = tmp_path / "attention.png"
    save_attention(path, [make_row(np.eye(2), np.eye(2))] * count, title="a\nb\nc")
    with Image.open(path) as figure:
        assert figure.width == round(5.4 * 110 * across)
        lines = -(-count // across)
        assert figure.height == pytest.approx((2.75 * lines + 0.8) * 110, abs=1)
    assert not plt.get_fignums()


def test_maps_cover_the_image_and_share_a_colour_scale(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    clean, corrupted = np.full((4, 2), 0.5), np.full((4, 2), 1.0)
    corrupted[3, 1] = 3.0
    save_attention(tmp_path / "attention.png", [make_row(clean, corrupted)], title="title")
    (panel,) = figures[0].subfigs
    axes = titled_axes(panel)
    assert [axis.get_title() for axis in axes] == ["clean", "attention", "corrupted", "attention"]
    for axis, attention in ((axes[1], clean), (axes[3], corrupted)):
        heat = axis.images[1]
        np.testing.assert_array_equal(heat.get_array(), attention)
        assert heat.get_clim() == (0.5, 3.0)
        assert list(heat.get_extent()) == list(axis.images[0].get_extent()) == [-0.5, 63.5, 127.5, -0.5]
    boxes = [axis.get_window_extent() for axis in axes]
    assert [box.height for box in boxes] == pytest.approx([2 * boxes[0].width] * 4)  # images keep their shape
    pixels = np.asarray(Image.open(tmp_path / "attention.png").convert("RGB")).astype(int)
    scale = pixels.shape[1] / figures[0].bbox.width
    row, column = pixels.shape[0] - scale * boxes[3].y0 - 8, scale * boxes[3].x1 - 8  # the patch with most attention
    red, green, blue = pixels[int(row), int(column)]
    assert red > 2 * max(green, blue)


def test_a_single_patch(tmp_path):
    save_attention(tmp_path / "attention.png", [make_row(np.ones((1, 1)), np.ones((1, 1)))], title="title")
    assert (tmp_path / "attention.png").stat().st_size > 1000
