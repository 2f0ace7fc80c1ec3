"""low_light and low_resolution against their formulas."""

import numpy as np
import pytest

from corruption import SEVERITIES, corrupt, level_tables
from corruption.level_tables import make_tables
from corruption.surveillance import (
    BRIGHTNESS,
    EXPOSURES,
    GAMMA,
    READ_NOISE,
    SCALE_FACTORS,
    WHITE_ELECTRONS,
    low_light_probabilities,
)


def simulate_low_light(level: int, severity: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) grey levels by the formula, step by step."""
    exposure, brightness = EXPOSURES[severity - 1], BRIGHTNESS[severity - 1]
    electrons = rng.poisson(WHITE_ELECTRONS * exposure * (level / 255) ** GAMMA, count)
    electrons = electrons + rng.normal(0, READ_NOISE, count)
    light = np.clip(electrons * brightness / (WHITE_ELECTRONS * exposure), 0, 1)
    return (255 * light ** (1 / GAMMA)).astype(np.uint8)


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_low_light_has_the_distribution_of_its_formula(severity, make):
    count = 40000
    for level in (0, 3, 60, 140, 255):
        image = np.full((count // 200, 200 // 4, 3), level, np.uint8)
        found = corrupt(image, "low_light", severity, make(level)).ravel()
        expected = simulate_low_light(level, severity, count, np.random.default_rng(level + 1000))
        grid = np.arange(256)
        gaps = [np.searchsorted(np.sort(values), grid, "right") / len(values) for values in (found, expected)]
        # Kolmogorov and Smirnov: exceeded once in 10,000 where the distributions agree.
        assert np.abs(gaps[0] - gaps[1]).max() < 2.23 * np.sqrt(1 / len(found) + 1 / count), level


def test_low_light_keeps_its_share_of_the_light_and_loses_contrast_to_noise():
    image = np.full((100, 100, 3), 200, np.uint8)
    ratios = []
    for severity in SEVERITIES:
        light = (corrupt(image, "low_light", severity, np.random.default_rng(0)) / 255.0) ** GAMMA
        clean = (200 / 255) ** GAMMA
        assert light.mean() / clean == pytest.approx(BRIGHTNESS[severity - 1], rel=0.03)
        ratios.append(light.mean() / light.std())
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == pytest.approx(
        # electrons of the mean over the deviation of shot and read noise
        18.3 / np.sqrt(18.3 + READ_NOISE**2),
        rel=0.05,
    )


def test_low_light_probabilities():
    for severity in SEVERITIES:
        probabilities = low_light_probabilities(severity)
        assert (np.diff(probabilities, axis=1) >= -1e-12).all()
        assert (np.diff(probabilities, axis=0) <= 1e-12).all()  # brighter in, brighter out
        assert probabilities.max() <= 1 + 1e-12
        assert (probabilities[:, -1] == 1).all()


def test_the_sampler_without_the_extension_is_the_compiled_one():
    kernels = pytest.importorskip("corruption._kernels", reason="not built: python setup.py build_ext --inplace")
    rng = np.random.default_rng(0)
    thresholds, guide = make_tables(low_light_probabilities(3))
    image, uniforms = rng.integers(0, 256, 5000, dtype=np.uint8), rng.integers(0, 2**32, 5000, dtype=np.uint32)
    values = rng.integers(0, 256, 256, dtype=np.uint8)
    found, expected = np.empty_like(image), np.empty_like(image)
    kernels.sample_by_level(image, uniforms, thresholds, guide, values, found)
    level_tables.sample_on_arrays(image, uniforms, thresholds, guide, values, expected)
    assert (found == expected).all()


@pytest.mark.parametrize("severity", SEVERITIES)
def test_low_resolution_by_plain_loops(severity):
    factor = SCALE_FACTORS[severity - 1]
    image = np.random.default_rng(0).integers(0, 256, (5 * factor, 3 * factor, 3), dtype=np.uint8)
    small = image.reshape(5, factor, 3, factor, 3).mean(axis=(1, 3)).round()
    expected = np.empty(image.shape)
    for y, x in np.ndindex(image.shape[:2]):
        row, column = (np.clip((i + 0.5) / factor - 0.5, 0, n - 1) for i, n in ((y, 5), (x, 3)))
        top, left = int(row), int(column)
        bottom, right = min(top + 1, 4), min(left + 1, 2)
        upper = small[top, left] + (column - left) * (small[top, right] - small[top, left])
        lower = small[bottom, left] + (column - left) * (small[bottom, right] - small[bottom, left])
        expected[y, x] = upper + (row - top) * (lower - upper)
    found = corrupt(image, "low_resolution", severity, np.random.default_rng(0))
    assert np.abs(found - expected).max() <= 1.5


def test_low_resolution_of_an_image_smaller_than_the_factor_is_its_mean():
    image = np.random.default_rng(0).integers(0, 256, (3, 2, 3), dtype=np.uint8)
    found = corrupt(image, "low_resolution", 5, np.random.default_rng(0))
    assert np.abs(found - image.mean(axis=(0, 1))).max() <= 1
