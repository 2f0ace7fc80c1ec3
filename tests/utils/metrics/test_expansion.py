"""Average query expansion against a loop that follows its definition."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.helpers import REPOSITORY
from utils.metrics import evaluate_features
from utils.metrics.expansion import expand_queries
from utils.metrics.reranking import ReRanking
from utils.structures import FeatureSet


def make_sets(unit=True):
    """40 queries and 90 gallery images of 12 identities, seen by 3 cameras."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((12, 16))
    sides = []
    for count in (40, 90):
        pids = rng.integers(0, 12, count)
        features = centres[pids] + rng.standard_normal((count, 16)) + 2
        if unit:
            features /= np.linalg.norm(features, axis=1, keepdims=True)
        sides.append(FeatureSet(torch.tensor(features, dtype=torch.float32), pids, rng.integers(0, 3, count)))
    return sides


def expanded_by_loop(query, gallery, k):
    rows = []
    for feature in query:
        nearest = sorted(range(len(gallery)), key=lambda index: np.linalg.norm(feature - gallery[index]))[:k]
        mean = np.mean([feature, *gallery[nearest]], axis=0)
        rows.append(mean / np.linalg.norm(mean) * np.linalg.norm(feature))
    return np.array(rows)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("k", [1, 5, 90, 200])
def test_against_the_definition(k, unit):
    query, gallery = (side.features for side in make_sets(unit))
    expected = expanded_by_loop(query.double().numpy(), gallery.double().numpy(), k)
    for rows in (7, 40):
        blocks = [range(start, min(start + rows, 40)) for start in range(0, 40, rows)]
        found = expand_queries(query, gallery, k, blocks=blocks)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        torch.testing.assert_close(found.norm(dim=1), query.norm(dim=1))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("re_ranking", [None, ReRanking(8, 3)])
def test_it_comes_before_the_ranking_and_the_re_ranking(metric, re_ranking):
    query, gallery = make_sets(unit=False)
    sides = [side.features.double() for side in (query, gallery)]
    if metric == "cosine":
        sides = [torch.nn.functional.normalize(side, dim=1) for side in sides]
    expanded = torch.tensor(expanded_by_loop(*(side.numpy() for side in sides), 4))
    by_hand = [
        FeatureSet(features.float(), side.pids, side.camids)
        for features, side in zip((expanded, sides[1]), (query, gallery), strict=True)
    ]
    options = {"metric": metric, "re_ranking": re_ranking}
    expected = evaluate_features(*by_hand, **options)
    found = evaluate_features(query, gallery, query_expansion=4, **options)
    assert (found.mAP, found.mINP) == (pytest.approx(expected.mAP, abs=1e-6), pytest.approx(expected.mINP, abs=1e-6))
    assert found.mAP != evaluate_features(query, gallery, **options).mAP
    small = evaluate_features(query, gallery, query_expansion=4, memory_limit=3000, **options)
    assert small.mAP == pytest.approx(found.mAP, abs=1e-6)
    half = [FeatureSet(side.features.half(), side.pids, side.camids) for side in (query, gallery)]
    assert evaluate_features(*half, query_expansion=4, **options).mAP == pytest.approx(found.mAP, abs=0.02)


def test_memory_stays_below_the_limit():
    """A matrix of 240 MB that is never there: with k 500 too, neighbours are not copied."""
    script = """
import resource, numpy as np, torch
from utils.metrics.evaluate import evaluate_features
from utils.structures import FeatureSet
torch.set_num_threads(2)
rng = np.random.default_rng(0)
def features(count):
    sampled = torch.from_numpy(rng.standard_normal((count, 16), dtype=np.float32))
    return FeatureSet(sampled, rng.integers(0, 700, count), rng.integers(0, 6, count))
query, gallery = features(3000), features(20000)
small = FeatureSet(query.features[:300], query.pids[:300], query.camids[:300])
evaluate_features(small, gallery, memory_limit=2**25, query_expansion=500)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
evaluate_features(query, gallery, memory_limit=2**25, query_expansion=500)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 * 1024  # KiB
