import numpy as np
import pytest
import torch

from tests.helpers import load_golden
from utils.errors import UserError
from utils.metrics import evaluate_features, evaluate_rank, mean_metrics
from utils.structures import FeatureSet, RetrievalMetrics

CASES = ("basic", "unmatched_queries", "small_gallery", "distractors", "ties", "two_cameras")
GOLDEN = load_golden("evaluator.npz")


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    ids = [GOLDEN[f"{case}.{name}"] for name in ("q_pids", "g_pids", "q_camids", "g_camids")]
    found = evaluate_rank(GOLDEN[f"{case}.dist"], *ids, max_rank=int(GOLDEN[f"{case}.max_rank"]))
    np.testing.assert_allclose(found.cmc, GOLDEN[f"{case}.cmc"], rtol=0, atol=1e-9)
    assert found.mAP == pytest.approx(float(GOLDEN[f"{case}.mAP"]), abs=1e-9)
    assert found.mINP == pytest.approx(float(GOLDEN[f"{case}.mINP"]), abs=1e-9)
    assert found.num_valid_queries == GOLDEN[f"{case}.num_valid"]
    assert found.num_queries == len(ids[0])


def plain_metrics(dist, q_pids, g_pids, q_camids, g_camids):
    """CMC, mAP and mINP straight from their definitions."""
    aps, inps, first = [], [], []
    for row, pid, camid in zip(dist, q_pids, q_camids, strict=True):
        usable = [g for g in range(len(row)) if g_pids[g] != -1 and not (g_pids[g] == pid and g_camids[g] == camid)]
        ranking = sorted(usable, key=lambda g: (row[g], g))
        ranks = [rank for rank, g in enumerate(ranking, start=1) if g_pids[g] == pid]
        if ranks:
            aps.append(sum((hit + 1) / rank for hit, rank in enumerate(ranks)) / len(ranks))
            inps.append(len(ranks) / ranks[-1])
            first.append(ranks[0])
    cmc = [np.mean([rank <= k for rank in first]) for k in range(1, dist.shape[1] + 1)]
    return cmc, np.mean(aps), np.mean(inps), len(aps)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_plain_loop(seed):
    rng = np.random.default_rng(seed)
    queries, gallery = int(rng.integers(2, 12)), int(rng.integers(3, 40))
    dist = rng.integers(0, 8, (queries, gallery)).astype(np.float32)  # many ties
    q_pids, g_pids = rng.integers(1, 6, queries), rng.integers(-1, 6, gallery)
    g_pids[0], q_pids[0] = 1, 1
    q_camids, g_camids = rng.integers(0, 3, queries), rng.integers(0, 3, gallery)
    q_camids[0], g_camids[0] = 0, 1
    cmc, mean_ap, minp, valid = plain_metrics(dist, q_pids, g_pids, q_camids, g_camids)
    found = evaluate_rank(dist, q_pids, g_pids, q_camids, g_camids, max_rank=gallery)
    np.testing.assert_allclose(found.cmc, cmc, atol=1e-12)
    assert (found.mAP, found.mINP, found.num_valid_queries) == (pytest.approx(mean_ap), pytest.approx(minp), valid)


def make_features(rng, count, dimensions=8):
    features = torch.from_numpy(rng.standard_normal((count, dimensions)).astype(np.float32))
    return FeatureSet(features, rng.integers(0, 5, count), rng.integers(0, 3, count))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block_bytes", [1, 4 * 50 * 7, 10**9])
def test_features_by_blocks_equal_the_matrix(metric, block_bytes):
    rng = np.random.default_rng(3)
    query, gallery = make_features(rng, 20), make_features(rng, 50)
    a, b = query.features.double(), gallery.features.double()
    if metric == "cosine":
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    dist = torch.cdist(a, b).numpy()
    expected = evaluate_rank(dist, query.pids, gallery.pids, query.camids, gallery.camids)
    found = evaluate_features(query, gallery, metric=metric, block_bytes=block_bytes)
    np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-12)
    assert (found.mAP, found.mINP) == (pytest.approx(expected.mAP, abs=1e-12), pytest.approx(expected.mINP, abs=1e-12))


def test_rank_beyond_a_short_curve_is_its_last_value():
    metrics = RetrievalMetrics(0.5, 0.5, np.array([0.25, 0.75]), 4, 4)
    assert (metrics.rank(1), metrics.rank(2), metrics.rank(10)) == (0.25, 0.75, 0.75)


def test_mean_keeps_its_repeats():
    parts = [RetrievalMetrics(value, value / 2, np.array([value]), 4, 3) for value in (0.2, 0.4)]
    mean = mean_metrics(parts)
    assert (mean.mAP, mean.mINP, mean.rank(1)) == pytest.approx((0.3, 0.15, 0.3))
    assert mean.repeats == tuple(parts)


class TestErrors:
    ids = (np.array([1]), np.array([1, 2]), np.array([0]), np.array([1, 1]))

    def test_nan_names_the_query(self):
        with pytest.raises(UserError, match="query 0: its distances hold NaN"):
            evaluate_rank(np.array([[np.nan, 1.0]]), *self.ids)

    def test_shapes(self):
        with pytest.raises(UserError, match=r"distmat \(2, 2\)"):
            evaluate_rank(np.zeros((2, 2)), *self.ids)

    def test_no_match(self):
        with pytest.raises(UserError, match="none of the 1 queries has a match"):
            evaluate_rank(np.zeros((1, 2)), np.array([7]), *self.ids[1:])

    def test_backend_and_metric(self):
        with pytest.raises(UserError, match="backend 'fast'"):
            evaluate_rank(np.zeros((1, 2)), *self.ids, backend="fast")
        rng = np.random.default_rng(0)
        with pytest.raises(UserError, match="metric 'l1'"):
            evaluate_features(make_features(rng, 2), make_features(rng, 2), metric="l1")
