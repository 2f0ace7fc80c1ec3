"""The images of the documents: small, described, and those that docs/render_images.py renders today.

tests/docs/test_commands.py runs the whole script, which needs two checkpoints.
"""

import re
import runpy

import numpy as np
import pytest
from PIL import Image

from processor.plots import figure_style
from tests.docs.pages import PAGES
from tests.helpers import REPOSITORY

IMAGES = sorted((REPOSITORY / "docs" / "images").iterdir())
SHOWN = re.compile(r"!\[([^\]]+)\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(REPOSITORY / "docs" / "render_images.py"))


def test_images_are_small():
    assert sum(path.stat().st_size for path in IMAGES) < 400 * 1024


def test_every_image_is_shown_and_described():
    shown = {
        (page.parent / path).resolve(): text for page in PAGES for text, path in SHOWN.findall(page.read_text("utf-8"))
    }
    assert set(shown) == set(IMAGES)
    assert all(len(text) > 20 for text in shown.values())


def test_corruptions_are_those_of_today(script, tmp_path):
    """Up to what versions of matplotlib and libjpeg make of the same image."""
    with figure_style():
        script["render_corruptions"](tmp_path / "corruptions.jpg")
    rendered, kept = (
        np.asarray(Image.open(path), np.float32)
        for path in (tmp_path / "corruptions.jpg", REPOSITORY / "docs" / "images" / "corruptions.jpg")
    )
    assert rendered.shape == kept.shape
    assert np.abs(rendered - kept).mean() < 3


def test_queries_are_chosen_by_their_rank_alone(script):
    gains = np.array([0.0, 0.5, -0.2, 0.1, 0.0, 0.3, -0.1, 0.2, 0.4, 0.05, 0.15, 0.25, 0.35])
    # without the two of 0: -0.2, -0.1, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5
    assert script["PERCENTILES"] == (90, 50, 10)
    assert gains[script["choose_queries"](gains)].tolist() == [0.4, 0.2, -0.1]
