"""Re-ranking against the paper's definition and golden values."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.helpers import REPOSITORY, load_golden
from utils.errors import UserError
from utils.metrics import smallest
from utils.metrics.reranking import ReRanking, re_ranking, re_ranking_blocks

GOLDEN = load_golden("reranking.npz")
CASES = ("market_defaults", "cfat_defaults", "k2_is_1", "jaccard_only", "original_only")


def golden(case):
    settings = int(GOLDEN[f"{case}.k1"]), int(GOLDEN[f"{case}.k2"]), float(GOLDEN[f"{case}.lambda_value"])
    return GOLDEN[f"{case}.query"], GOLDEN[f"{case}.gallery"], *settings


def plain_re_ranking(query, gallery, k1, k2, lambda_value, weight_type=np.float64):
    """The paper's definition on dense float64 matrices; the reference code keeps weights in float16."""
    features = np.concatenate([query, gallery]).astype(np.float64)
    distances = ((features[:, None] - features[None]) ** 2).sum(axis=-1)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    weights = np.zeros(distances.shape, weight_type)
    for i in range(len(features)):
        members = own = reciprocal(i, k1)
        for candidate in own:
            theirs = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(theirs & own) > 2 / 3 * len(theirs):
                members = members | theirs
        members = sorted(members)
        values = np.exp(-distances[i, members])
        weights[i, members] = values / values.sum()
    if k2 != 1:
        weights = np.stack([weights[order[i, :k2]].mean(axis=0) for i in range(len(features))]).astype(weight_type)
    result = np.empty((len(query), len(gallery)))
    for i in range(len(query)):
        overlap = np.zeros(len(gallery), weight_type)
        for column in np.minimum(weights[i], weights[len(query) :]).T:
            overlap = (overlap + column).astype(weight_type)
        result[i] = (1 - overlap / (2 - overlap)) * (1 - lambda_value) + distances[i, len(query) :] * lambda_value
    return result


@pytest.mark.parametrize("case", CASES)
def test_the_definition_in_float64(case):
    found = re_ranking(*golden(case))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_re_ranking(*golden(case)), rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
def test_golden(case):
    """The reference agrees as far as its float16 weights go, 2.2e-3 for the defaults and 6.4e-3 for K1 50, K2 15: the
    definition with float16 weights comes to within 6e-4 of it."""
    expected = GOLDEN[f"{case}.dist"]
    in_half_precision = plain_re_ranking(*golden(case), weight_type=np.float16)
    assert np.abs(in_half_precision - expected).max() < 6e-4
    rounding = np.abs(in_half_precision - plain_re_ranking(*golden(case))).max()
    assert np.abs(re_ranking(*golden(case)) - expected).max() < max(2e-3, rounding + 6e-4)


@pytest.mark.parametrize("seed", range(12))
def test_random_cases(seed):
    """Identities in clusters, few and many neighbours, more neighbours asked for than there are images."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((8, 6))
    query, gallery = (centres[rng.integers(8, size=count)] + 0.3 * rng.standard_normal((count, 6)) for count in (9, 40))
    k1, k2 = [(20, 6), (1, 1), (7, 3), (5, 12), (60, 4), (2, 80)][seed % 6]
    found = re_ranking(query.astype(np.float32), gallery.astype(np.float32), k1, k2, 0.3)
    expected = plain_re_ranking(query.astype(np.float32), gallery.astype(np.float32), k1, k2, 0.3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("memory_limit", [1, 20_000, 10**9])
def test_blocks_give_the_rows_of_the_whole(memory_limit):
    query, gallery, k1, k2, lambda_value = golden("market_defaults")
    whole = re_ranking(query, gallery, k1, k2, lambda_value)
    settings = ReRanking(k1, k2, lambda_value)
    for wanted in (None, [range(7, 19), range(30, 31)], []):
        blocks = list(
            re_ranking_blocks(torch.from_numpy(query), gallery, settings, blocks=wanted, memory_limit=memory_limit)
        )
        rows = [start + row for start, distances in blocks for row in range(len(distances))]
        assert rows == [row for part in ([range(len(query))] if wanted is None else wanted) for row in part]
        for start, distances in blocks:
            np.testing.assert_allclose(distances, whole[start : start + len(distances)], rtol=0, atol=1e-6)


def test_what_all_features_have_in_common_costs_no_digits():
    query, gallery, k1, k2, lambda_value = golden("market_defaults")
    shifted = re_ranking(query + np.float32(50), gallery + np.float32(50), k1, k2, lambda_value)
    expected = plain_re_ranking(query + np.float32(50), gallery + np.float32(50), k1, k2, lambda_value)
    np.testing.assert_allclose(shifted, expected, rtol=0, atol=1e-4)


def test_another_default_type_changes_nothing():
    expected = re_ranking(*golden("market_defaults"))
    torch.set_default_dtype(torch.float64)
    try:
        found = re_ranking(*golden("market_defaults"))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == np.float32
    assert (found == expected).all()


def test_images_that_are_all_equal():
    found = re_ranking(np.ones((2, 4), np.float32), np.ones((3, 4), np.float32), 20, 6, 0.3)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_duplicated_images(compiled, monkeypatch):
    """Equal distances are in the order of the images, whatever finds the nearest."""
    if not compiled:
        monkeypatch.setattr(smallest, "smallest_cylib", None)
    rng = np.random.default_rng(0)
    gallery = rng.integers(-3, 4, (60, 6)).astype(np.float32)  # whole numbers: products without rounding
    gallery = gallery[rng.integers(0, 60, 120)]
    query = gallery[rng.integers(0, 120, 15)]
    gallery[0] -= np.concatenate([query, gallery]).sum(axis=0)  # a mean of zero
    found = re_ranking(query, gallery, 9, 4, 0.3)
    np.testing.assert_allclose(found, plain_re_ranking(query, gallery, 9, 4, 0.3), rtol=0, atol=3e-6)


def test_without_the_extension_the_same_numbers_and_one_warning(tmp_path):
    script = """
import sys; sys.modules["utils.metrics.rerank_cylib"] = None
import logging; logging.basicConfig()
import numpy as np
from utils.metrics.reranking import re_ranking
case = np.load("tests/golden/reranking.npz")
query, gallery = case["market_defaults.query"], case["market_defaults.gallery"]
re_ranking(query, gallery, 20, 6, 0.3)
np.save(sys.argv[1], re_ranking(query, gallery, 20, 6, 0.3))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "found.npy")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = np.load(tmp_path / "found.npy")
    assert (found == re_ranking(*golden("market_defaults"))).all()
    assert done.stderr.count("python setup.py build_ext --inplace") == 1


class TestErrors:
    good = np.zeros((3, 4), np.float32)

    @pytest.mark.parametrize(
        "out", [torch.zeros(3, 4), torch.zeros(2, 3), torch.zeros(3, 3).double(), torch.zeros(3, 4)[:, :3]]
    )
    def test_out_that_does_not_fit(self, out):
        with pytest.raises(UserError, match=r"re-ranking: out is .*; expected a contiguous torch.float32 \(3, 3\)"):
            next(re_ranking_blocks(self.good, self.good, ReRanking(), out=out))

    def test_settings(self):
        for wrong, message in (
            ({"k1": 0}, "k1 is 0"),
            ({"k2": 0}, "k2 is 0"),
            ({"lambda_value": 1.5}, "lambda is 1.5"),
        ):
            with pytest.raises(UserError, match=f"re-ranking: {message}; expected"):
                ReRanking(**wrong)

    def test_shapes(self):
        with pytest.raises(UserError, match=r"query features \(3, 4\), gallery features \(3, 5\)"):
            re_ranking(self.good, np.zeros((3, 5), np.float32), 20, 6, 0.3)

    def test_not_finite(self):
        gallery = self.good.copy()
        gallery[2, 1] = np.nan
        with pytest.raises(UserError, match="feature of gallery 2 is not finite"):
            re_ranking(self.good, gallery, 20, 6, 0.3)
