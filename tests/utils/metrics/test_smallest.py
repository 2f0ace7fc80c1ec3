"""utils.metrics.smallest against sorting."""

import numpy as np
import pytest
import torch

import utils.metrics.smallest
from utils.metrics.smallest import MOST, smallest


@pytest.fixture(params=["compiled", "topk"], autouse=True)
def backend(request, monkeypatch):
    """Every test runs with the extension, and without it."""
    if request.param == "topk":
        monkeypatch.setattr(utils.metrics.smallest, "smallest_cylib", None)
    elif utils.metrics.smallest.smallest_cylib is None:
        pytest.skip("needs utils.metrics.smallest_cylib")


def assert_smallest(rows, k):
    values, places = smallest(rows, k)
    assert (values.dtype, places.dtype) == (rows.dtype, torch.int64)
    expected = rows.sort(dim=1, stable=True)
    assert torch.equal(values, expected.values[:, :k])
    if k <= MOST:
        assert torch.equal(places, expected.indices[:, :k])  # also among equal values
    assert torch.equal(rows.gather(1, places), values)
    assert all(len(set(row)) == k for row in places.tolist())


@pytest.mark.parametrize("seed", range(60))
def test_equals_sorting(seed):
    """Ties, infinities, falling and rising rows, as many values as there are, more than are kept by inserting."""
    rng = np.random.default_rng(seed)
    count, length = int(rng.integers(1, 40)), int(rng.choice([1, 2, 127, 128, 129, 1000]))
    rows = rng.integers(0, rng.choice([1, 5, 10**6]), (count, length)).astype(rng.choice([np.float32, np.float64]))
    rows[rng.random(rows.shape) < 0.1] = rng.choice([np.inf, -np.inf])
    if seed % 3:
        rows.sort(axis=1)
    rows = torch.from_numpy(rows if seed % 2 else rows[:, ::-1].copy())
    for k in {1, min(6, length), min(MOST, length), min(MOST + 1, length), length}:
        assert_smallest(rows, k)


def test_both_zeros_are_equal():
    assert_smallest(torch.tensor([[0.0, -0.0, 1.0, -0.0, 0.0]]), 3)


def test_other_layouts():
    rows = torch.from_numpy(np.random.default_rng(0).random((300, 50)))
    assert_smallest(rows.T, 7)
    assert_smallest(rows[::2, 5:20], 7)
    assert_smallest(rows[:0], 3)


def test_nan_is_not_among_the_smallest():
    rows = torch.full((1, 300), 7.0)
    rows[0, [0, 130, 299]] = torch.nan
    rows[0, 200] = 1
    values, places = smallest(rows, 5)
    assert values.tolist() == [[1, 7, 7, 7, 7]]
    assert not {0, 130, 299} & set(places[0].tolist())
