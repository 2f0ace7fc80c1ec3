"""Rain bit for bit: the golden images were made with Python's `random`, so the tests sample from it in that order."""

import random

import numpy as np
import pytest

from corruption import CORRUPTIONS
from corruption.rain import Drops, render_rain, sample_drops
from tests.helpers import load_golden

GOLDEN = load_golden("corruptions.npz")
INDEX = CORRUPTIONS.index("rain")
# Pixels per drop and length of a drop, by severity; not imported, so that an error in either place shows.
KINDS = {1: (770, 10), 2: (600, 30), 3: (600, 30), 4: (500, 60), 5: (500, 60)}
# Random numbers before the slant. Of 0 to 4, only 2 gives the golden images, and it gives all ten.
NUM_BEFORE = 2


def sample_drops_as_published(height: int, width: int, severity: int, seed: int) -> Drops:
    rng = random.Random(seed)
    for _ in range(NUM_BEFORE):
        rng.random()
    area, length = KINDS[severity]
    slant = int(rng.uniform(-10, 10))
    starts = []
    for _ in range(height * width // area):
        x = rng.randint(slant, width) if slant < 0 else rng.randint(0, width - slant)
        starts.append((x, rng.randint(0, height - length)))
    return Drops(slant, length, np.array(starts))


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("key", ["a", "b"])
def test_golden_bit_for_bit(key, severity):
    image = GOLDEN[f"image_{key}"]
    drops = sample_drops_as_published(*image.shape[:2], severity, seed=1000 * INDEX + severity)
    expected = GOLDEN[f"corrupted_{key}"][INDEX, severity - 1]
    assert (render_rain(image, drops, severity) == expected).all()


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_drops_fall_within_the_published_bounds(severity):
    height, width = 128, 64
    area, length = KINDS[severity]
    slants = set()
    for seed in range(300):
        drops = sample_drops(height, width, severity, np.random.RandomState(seed))
        slants.add(drops.slant)
        low, high = (drops.slant, width) if drops.slant < 0 else (0, width - drops.slant)
        assert (len(drops.starts), drops.length) == (height * width // area, length)
        assert low <= drops.starts[:, 0].min()
        assert drops.starts[:, 0].max() <= high
        assert drops.starts[:, 1].min() >= 0
        assert drops.starts[:, 1].max() <= height - length
    assert slants == set(range(-9, 10))


def test_drops_are_sampled_x_and_y_in_turn():
    drops = sample_drops(128, 64, 1, np.random.RandomState(5))
    rng = np.random.RandomState(5)
    slant = int(rng.uniform(-10, 10))
    low, high = (slant, 64) if slant < 0 else (0, 64 - slant)
    assert drops.starts.tolist() == [[rng.randint(low, high + 1), rng.randint(0, 128 - 10 + 1)] for _ in drops.starts]
