"""Bootstrap intervals against plain loops, and their coverage."""

import numpy as np
import pytest

from utils.errors import UserError
from utils.metrics.bootstrap import paired_bootstrap


def make_differences(num_seeds=3, num_queries=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0.02, 0.2, (num_seeds, num_queries)) + rng.normal(0, 0.05, (num_seeds, 1))


@pytest.mark.parametrize("over_seeds", [False, True])
def test_equals_a_plain_loop(over_seeds):
    differences, samples = make_differences(), 200
    num_seeds, num_queries = differences.shape
    rng = np.random.default_rng(7)
    means = np.zeros(samples)
    for position in range(num_seeds):
        chosen = rng.integers(num_seeds, size=samples) if over_seeds else [position] * samples
        for sample in range(samples):
            total = 0.0
            for query in rng.integers(num_queries, size=num_queries):
                total += differences[chosen[sample], query]
            means[sample] += total / num_queries / num_seeds
    found = paired_bootstrap(differences, over_seeds=over_seeds, samples=samples, seed=7)
    assert found.mean == pytest.approx(differences.mean())
    means.sort()
    assert found.low == pytest.approx(np.percentile(means, 2.5))
    assert found.high == pytest.approx(np.percentile(means, 97.5))


def test_the_interval_of_queries_has_the_width_of_the_standard_error():
    differences = make_differences(num_queries=400)
    found = paired_bootstrap(differences, samples=4000)
    standard_error = np.sqrt((differences.var(axis=1) / differences.shape[1]).sum()) / len(differences)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * standard_error, rel=0.06)


def test_seeds_that_differ_widen_the_interval():
    differences = make_differences(num_seeds=6, num_queries=300)
    within, over = (paired_bootstrap(differences, over_seeds=kind, samples=2000) for kind in (False, True))
    assert over.high - over.low > 1.5 * (within.high - within.low)
    assert within.mean == over.mean


def test_chunks_change_nothing(monkeypatch):
    differences = make_differences(num_seeds=1)
    whole = paired_bootstrap(differences, samples=300)
    monkeypatch.setattr("utils.metrics.bootstrap.BLOCK", 400)
    assert paired_bootstrap(differences, samples=300) == whole


@pytest.mark.parametrize("differences", [np.zeros((0, 3)), np.zeros((2, 0)), np.zeros(3), np.array([[np.nan, 1.0]])])
def test_what_cannot_be_bootstrapped_is_an_error(differences):
    with pytest.raises(UserError, match="expected finite numbers"):
        paired_bootstrap(differences)
