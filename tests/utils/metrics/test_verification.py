"""Verification thresholds and rates against single pairs."""

import numpy as np
import pytest
import torch

from utils.errors import UserError
from utils.metrics.verification import count_pairs, format_verification, verify
from utils.structures import FeatureSet


def make_sets(seed, queries=40, gallery=300, identities=12, dimensions=8):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((identities + 1, dimensions))

    def make(count, low):
        pids = rng.integers(low, identities + 1, count)
        features = centres[np.maximum(pids, 0)] + 0.7 * rng.standard_normal((count, dimensions))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return FeatureSet(torch.from_numpy(features.astype(np.float32)), pids, rng.integers(0, 3, count))

    return make(queries, 1), make(gallery, -1)


def plain_pairs(query, gallery, metric):
    """Distances of all genuine and all impostor pairs, one by one."""
    genuine, impostor = [], []
    for q, pid, camid in zip(query.features.double().numpy(), query.pids, query.camids, strict=True):
        for g, other, camera in zip(gallery.features.double().numpy(), gallery.pids, gallery.camids, strict=True):
            if other == -1 or (other == pid and camera == camid):
                continue
            distance = np.linalg.norm(q - g)
            if metric == "cosine":
                distance = 1 - q @ g / np.linalg.norm(q) / np.linalg.norm(g)
            (genuine if other == pid else impostor).append(distance)
    return np.array(genuine), np.array(impostor)


@pytest.mark.parametrize("memory_limit", [1, 10**8])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_rates_are_those_of_the_pairs(metric, memory_limit):
    query, gallery = make_sets(0)
    genuine, impostor = plain_pairs(query, gallery, metric)
    found = verify(query, gallery, metric=metric, memory_limit=memory_limit)
    assert (found.num_genuine, found.num_impostor) == (len(genuine), len(impostor))
    assert [point.name for point in found.points] == ["equal error rate", "FAR 0.01", "FAR 0.001", "FAR 0.0001"][:4]
    for point in found.points:
        # at the threshold, to the pairs that lie within a bin (one part in 4096) of it
        bin_width = point.threshold / 4096 + 1e-6
        for rate, distances in ((point.true_accept_rate, genuine), (point.false_accept_rate, impostor)):
            low, high = ((distances <= point.threshold + shift).mean() for shift in (-bin_width, bin_width))
            assert low <= rate <= high
    rates = {point.name: point.false_accept_rate for point in found.points}
    for name, limit in (("FAR 0.01", 0.01), ("FAR 0.001", 0.001), ("FAR 0.0001", 0.0001)):
        assert limit - 2 / len(impostor) <= rates[name] <= limit
    thresholds = np.sort(np.concatenate([genuine, impostor]))
    errors = [max((impostor <= t).mean(), 1 - (genuine <= t).mean()) for t in thresholds]
    assert found.equal_error_rate == pytest.approx(min(errors), abs=0.01)
    assert len(format_verification(found).splitlines()) == 4 + 4


def test_well_separated_identities():
    centres = torch.eye(4)
    query = FeatureSet(centres, np.arange(1, 5), np.zeros(4, int))
    gallery = FeatureSet(centres + 0.01, np.arange(1, 5), np.ones(4, int))
    found = verify(query, gallery)
    assert found.equal_error_rate == 0
    point = found.points[0]
    assert (point.true_accept_rate, point.false_accept_rate) == (1, 0)
    assert 0.02 <= point.threshold < 1.42


def test_one_feature_far_away_spoils_nothing():
    query, gallery = make_sets(1)
    expected = verify(query, gallery)
    gallery.features[5] *= 1e5
    assert verify(query, gallery).equal_error_rate == pytest.approx(expected.equal_error_rate, abs=0.01)


def test_errors():
    one = FeatureSet(torch.ones(1, 2), np.array([1]), np.array([0]))
    with pytest.raises(UserError, match="0 genuine and 0 impostor pairs"):
        verify(one, one)
    with pytest.raises(UserError, match="verify: metric 'cosin'"):
        verify(one, one, metric="cosin")
    with pytest.raises(UserError, match="verify: gallery has 1 features, 2 pids and 1 camids"):
        verify(one, FeatureSet(torch.ones(1, 2), np.array([1, 1]), np.array([0])))


def test_a_histogram_has_every_pair_once():
    rng = np.random.default_rng(0)
    query, gallery = (
        FeatureSet(torch.from_numpy(rng.normal(size=(count, 4))).float(), np.arange(count) % 3, np.full(count, camera))
        for count, camera in ((6, 0), (9, 1))
    )
    counts = count_pairs(query, gallery)
    edges, genuine, impostor = counts.histogram(10)
    distances = torch.cdist(query.features, gallery.features).numpy()
    same = query.pids[:, None] == gallery.pids
    assert edges[0] == pytest.approx(distances.min(), rel=1e-3)
    assert edges[-1] == pytest.approx(distances.max(), rel=1e-3)
    inner = edges * (1 + 1e-3)  # bins of count_pairs are up to one part in 4096 wide
    expected = [np.cumsum(np.histogram(distances[mask], inner)[0]) for mask in (same, ~same)]
    for found, cumulated in zip((genuine, impostor), expected, strict=True):
        assert np.abs(np.cumsum(found) - cumulated).max() <= 1
    assert (genuine.sum(), impostor.sum()) == (same.sum(), (~same).sum())
    assert counts.verification() == verify(query, gallery)


def test_a_histogram_of_equal_distances():
    query = FeatureSet(torch.zeros(2, 3), np.array([0, 1]), np.zeros(2, np.int64))
    gallery = FeatureSet(torch.ones(2, 3), np.array([0, 1]), np.ones(2, np.int64))
    edges, genuine, impostor = count_pairs(query, gallery, metric="cosine").histogram(4)
    assert edges[0] < edges[-1]
    assert (genuine.sum(), impostor.sum()) == (2, 2)
