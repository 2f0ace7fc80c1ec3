"""The nearest features, against the definition."""

import numpy as np
import pytest

import utils.metrics.nearest
from utils.errors import UserError
from utils.metrics.nearest import nearest


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(utils.metrics.nearest, "BLOCK_ROWS", 64)
    monkeypatch.setattr(utils.metrics.nearest, "QUERY_ROWS", 5)
    monkeypatch.setattr(utils.metrics.nearest, "EXACT_VALUES", 2000)


def by_definition(query, gallery, k, metric):
    query, gallery = query.astype(np.float64), gallery.astype(np.float64)
    if metric == "euclidean":
        distances = np.sqrt(np.square(query[:, None] - gallery).sum(axis=2))
    else:
        unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (query, gallery)]
        distances = 1 - unit[0] @ unit[1].T
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(distances, order, axis=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("count", "k"), [(300, 1), (300, 10), (300, 300), (40, 7), (64, 64)])
def test_the_definition(metric, dtype, count, k):
    rng = np.random.default_rng(count + k)
    query, gallery = rng.standard_normal((12, 24)).astype(np.float32), rng.standard_normal((count, 24)).astype(dtype)
    found = nearest(query, gallery, k, metric=metric)
    indices, distances = by_definition(query, gallery, k, metric)
    assert (found.indices == indices).all()
    np.testing.assert_allclose(found.distances, distances, atol=1e-12)
    assert found.indices.shape == (12, k)


def test_differences_that_float32_products_cannot_see():
    rng = np.random.default_rng(0)
    centre = 100 + rng.standard_normal(16)
    gallery = centre + 1e-4 * rng.standard_normal((500, 16))
    query = centre + 1e-4 * rng.standard_normal((7, 16))
    found = nearest(query, gallery, 5)
    assert (found.indices == by_definition(query, gallery, 5, "euclidean")[0]).all()


@pytest.mark.parametrize("k", [5, 20, 40])
def test_products_too_large_for_float32(k):
    gallery = np.linspace(1, 1.2, 40, dtype=np.float32)[:, None] * np.float32(1e19) * [[1, 0]]
    gallery[::2] *= -1
    found = nearest(gallery[:3], gallery, k)
    assert (found.indices == by_definition(gallery[:3], gallery, k, "euclidean")[0]).all()


def test_equal_distances_are_in_the_order_of_the_gallery():
    row = np.random.default_rng(0).standard_normal((1, 8)).astype(np.float32)
    gallery = np.concatenate([np.zeros((1, 8), np.float32), np.repeat(row, 299, axis=0)])
    found = nearest(row, gallery, 20)  # more copies than candidates
    assert found.indices[0].tolist() == list(range(1, 21))
    assert (found.distances == 0).all()


def test_no_query_is_searched_twice_where_distances_differ(monkeypatch):
    rng = np.random.default_rng(1)
    query, gallery = (rng.standard_normal((count, 32)).astype(np.float32) for count in (50, 1000))
    calls = []
    again = utils.metrics.nearest._by_definition
    monkeypatch.setattr(utils.metrics.nearest, "_by_definition", lambda *args: calls.append(args) or again(*args))
    nearest(query, gallery, 10)
    assert calls == []


def test_features_that_cannot_be_searched():
    query, gallery = np.ones((2, 4), np.float32), np.ones((3, 4), np.float32)
    for k in (0, 4, 1.0, True):
        with pytest.raises(UserError, match="expected a whole number from 1 to 3, the size of the gallery"):
            nearest(query, gallery, k)
    with pytest.raises(UserError, match=r"query features \(2, 4\), gallery features \(3, 3\)"):
        nearest(query, gallery[:, :3], 1)
    with pytest.raises(UserError, match="metric 'manhattan': expected one of euclidean, cosine"):
        nearest(query, gallery, 1, metric="manhattan")
    gallery[2, 1] = np.nan
    with pytest.raises(UserError, match="the feature of gallery 2 is not finite"):
        nearest(query, gallery, 1)


def test_no_query():
    found = nearest(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32), 2)
    assert found.indices.shape == found.distances.shape == (0, 2)


def test_equal_features_keep_the_order_of_the_gallery():
    gallery = np.ones((100, 8), np.float32)
    assert nearest(gallery[:1], gallery, 10).indices.tolist() == [list(range(10))]
