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
    table = [[0.0] * num_seeds for _ in range(samples)]
    for sample in range(samples):
        drawn = rng.integers(num_queries, size=num_queries)
        for position in range(num_seeds):
            for query in drawn:
                table[sample][position] += differences[position, query] / num_queries
    means = []
    for row in table:
        chosen = rng.integers(num_seeds, size=num_seeds) if over_seeds else range(num_seeds)
        means.append(sum(row[position] for position in chosen) / num_seeds)
    found = paired_bootstrap(differences, over_seeds=over_seeds, samples=samples, seed=7)
    assert found.mean == pytest.approx(differences.mean())
    means.sort()
    assert found.low == pytest.approx(np.percentile(means, 2.5))
    assert found.high == pytest.approx(np.percentile(means, 97.5))


def test_the_interval_of_queries_has_the_width_of_the_standard_error():
    differences = make_differences(num_queries=400)
    found = paired_bootstrap(differences, samples=4000)
    of_queries = differences.mean(axis=0)
    standard_error = of_queries.std() / np.sqrt(len(of_queries))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * standard_error, rel=0.06)


def test_seeds_that_agree_on_queries_do_not_narrow_the_interval():
    one = make_differences(num_seeds=1, num_queries=200)
    alone, repeated = paired_bootstrap(one, samples=2000), paired_bootstrap(np.repeat(one, 5, axis=0), samples=2000)
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low)


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
