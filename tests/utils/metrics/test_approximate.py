"""Approximate search by faiss: recall against the exact one, exact distances, files."""

import numpy as np
import pytest

from utils.errors import UserError
from utils.metrics import approximate
from utils.metrics.approximate import ApproximateIndex, build_index, check_faiss, load_index, recall
from utils.metrics.nearest import nearest

with_faiss = pytest.mark.skipif(
    not approximate.importlib.util.find_spec("faiss"), reason="faiss-cpu is not installed: pip install faiss-cpu"
)


def clustered(count, seed, dimensions=4):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((40, dimensions))
    noise = 0.3 * rng.standard_normal((count, dimensions))
    return (centres[rng.integers(0, 40, count)] + noise).astype(np.float32)


@with_faiss
@pytest.mark.parametrize(
    ("kind", "metric", "least"),
    [
        ("ivf", "euclidean", 0.9),
        ("ivf", "cosine", 0.9),
        pytest.param("ivfpq", "euclidean", 0.8, marks=pytest.mark.slow),
    ],
)
def test_recall_and_distances(kind, metric, least, tmp_path):
    query, gallery = clustered(20, 1), clustered(10_000, 2).astype(np.float16)
    index = build_index(gallery, kind, metric=metric, seed=0)
    found = index.search(query, gallery, 10, nprobe=16)
    assert found.indices.shape == found.distances.shape == (20, 10)
    share = recall(found, query, gallery, 10, metric=metric)
    assert least <= share <= 1
    exact = nearest(query, gallery, 500, metric=metric)
    for row in range(20):
        expected = dict(zip(exact.indices[row].tolist(), exact.distances[row], strict=True))
        for place, distance in zip(found.indices[row].tolist(), found.distances[row], strict=True):
            assert distance == pytest.approx(expected[place], abs=1e-12)
    assert (np.diff(found.distances, axis=1) >= 0).all()
    index.save(tmp_path / "a.faiss")
    again = load_index(tmp_path / "a.faiss", metric=metric).search(query, gallery, 10, nprobe=16)
    assert (again.indices == found.indices).all()


@with_faiss
def test_all_lists_find_what_is_nearest():
    query, gallery = clustered(10, 1), clustered(2_000, 2)
    index = build_index(gallery, "ivf", metric="euclidean", seed=0)
    found = index.search(query, gallery, 5, nprobe=10**6)
    assert recall(found, query, gallery, 5, metric="euclidean") == 1


@with_faiss
def test_too_few_features():
    with pytest.raises(UserError, match="--index ivfpq: the gallery has 100 features, expected at least 9984"):
        build_index(clustered(100, 0), "ivfpq", metric="euclidean", seed=0)
    index = build_index(clustered(2_000, 0), "ivf", metric="euclidean", seed=0)
    with pytest.raises(UserError, match="1 lists that were searched hold fewer than 1500 features; raise --nprobe"):
        index.search(clustered(3, 1), clustered(2_000, 0), 1500, nprobe=1)


def test_without_faiss(monkeypatch):
    monkeypatch.setattr(approximate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package faiss-cpu, not installed here: pip install faiss-cpu"):
        check_faiss()


def test_recall_counts_the_exact_neighbours():
    gallery = np.arange(6, dtype=np.float32)[:, None] * [[1, 0]]
    found = approximate.Nearest(np.array([[0, 4], [5, 4]]), np.zeros((2, 2)))
    assert ApproximateIndex
    assert recall(found, gallery[[0, 5]], gallery, 2, metric="euclidean") == 0.75
