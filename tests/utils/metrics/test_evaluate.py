"""CMC, mAP and mINP against their definition, golden values and one another."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.helpers import REPOSITORY, load_golden
from utils.errors import UserError
from utils.metrics import distance_rows, evaluate_features, evaluate_rank, mean_metrics, query_metrics
from utils.metrics.checks import centred
from utils.metrics.reranking import ReRanking, re_ranking
from utils.metrics.verification import verify
from utils.structures import FeatureSet, RetrievalMetrics

CASES = ("basic", "unmatched_queries", "small_gallery", "distractors", "ties", "two_cameras")
GOLDEN = load_golden("evaluator.npz")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["numpy", "cython", "auto"])
def test_golden(case, backend):
    ids = [GOLDEN[f"{case}.{name}"] for name in ("q_pids", "g_pids", "q_camids", "g_camids")]
    found = evaluate_rank(GOLDEN[f"{case}.dist"], *ids, max_rank=int(GOLDEN[f"{case}.max_rank"]), backend=backend)
    np.testing.assert_allclose(found.cmc, GOLDEN[f"{case}.cmc"], rtol=0, atol=1e-9)
    assert found.mAP == pytest.approx(float(GOLDEN[f"{case}.mAP"]), abs=1e-9)
    assert found.mINP == pytest.approx(float(GOLDEN[f"{case}.mINP"]), abs=1e-9)
    assert found.num_valid_queries == GOLDEN[f"{case}.num_valid"]
    assert found.num_queries == len(ids[0])


def plain_metrics(dist, q_pids, g_pids, q_camids, g_camids, ap="step"):
    """CMC, mAP and mINP straight from their definitions."""
    aps, inps, first = [], [], []
    for row, pid, camid in zip(dist, q_pids, q_camids, strict=True):
        usable = [g for g in range(len(row)) if g_pids[g] != -1 and not (g_pids[g] == pid and g_camids[g] == camid)]
        ranking = sorted(usable, key=lambda g: (row[g], g))
        good = [g_pids[g] == pid for g in ranking]
        if not any(good):
            continue
        ranks = [rank for rank, hit in enumerate(good, start=1) if hit]
        if ap == "step":
            aps.append(sum((hit + 1) / rank for hit, rank in enumerate(ranks)) / len(ranks))
        else:  # Market-1501's script walks down the list and adds up trapezoids under precision over recall
            area, old_recall, old_precision, hits = 0.0, 0.0, 1.0, 0
            for seen, hit in enumerate(good, start=1):
                hits += hit
                recall, precision = hits / len(ranks), hits / seen
                area += (recall - old_recall) * (old_precision + precision) / 2
                old_recall, old_precision = recall, precision
            aps.append(area)
        inps.append(len(ranks) / ranks[-1])
        first.append(ranks[0])
    cmc = [np.mean([rank <= k for rank in first]) for k in range(1, dist.shape[1] + 1)]
    return cmc, np.mean(aps), np.mean(inps), len(aps)


def random_case(seed):
    """Distances and ids with ties, distractors, junk, queries without a match, one camera, tiny and large galleries."""
    rng = np.random.default_rng(seed)
    queries, gallery = int(rng.integers(1, 12)), int(rng.choice([2, 3, 10, 63, 64, 65, 300]))
    identities, cameras = int(rng.choice([1, 2, 6, 60])), int(rng.choice([1, 2, 5]))
    levels = int(rng.choice([1, 3, 50, 10**6]))
    dist = rng.integers(0, levels, (queries, gallery)).astype(rng.choice([np.float32, np.float64])) / levels
    if rng.random() < 0.1:
        dist[rng.random(dist.shape) < 0.2] = np.inf
    q_pids, g_pids = rng.integers(-1, identities + 1, queries), rng.integers(-1, identities + 1, gallery)
    q_camids, g_camids = rng.integers(0, cameras, queries), rng.integers(0, cameras, gallery)
    g_pids[0], q_pids[0], q_camids[0], g_camids[0] = 1, 1, 7, 0  # one query has a match
    return dist, q_pids, g_pids, q_camids, g_camids


@pytest.mark.parametrize("ap", ["step", "trapezoid"])
@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_plain_loop(seed, ap):
    case = random_case(seed)
    cmc, mean_ap, minp, valid = plain_metrics(*case, ap=ap)
    for backend in ("numpy", "cython"):
        found = evaluate_rank(*case, max_rank=case[0].shape[1], backend=backend, ap=ap)
        np.testing.assert_allclose(found.cmc, cmc, atol=1e-12)
        assert found.mAP == pytest.approx(mean_ap, abs=1e-12)
        assert found.mINP == pytest.approx(minp, abs=1e-12)
        assert (found.num_valid_queries, found.num_queries) == (valid, len(case[1]))


@pytest.mark.parametrize("ap", ["step", "trapezoid"])
@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_the_reference(seed, ap):
    distances, q_pids, g_pids, q_camids, g_camids = random_case(seed)
    queries = [
        query_metrics(row, pid, camid, g_pids, g_camids, ap=ap)
        for row, pid, camid in zip(distances, q_pids, q_camids, strict=True)
    ]
    valid = [query for query in queries if query is not None]
    length = len(g_pids)
    curves = [np.append(query.cmc, np.ones(length - len(query.cmc))) for query in valid]  # without what does not count
    for backend in ("numpy", "cython"):
        found = evaluate_rank(distances, q_pids, g_pids, q_camids, g_camids, max_rank=length, backend=backend, ap=ap)
        np.testing.assert_allclose(found.cmc, np.mean(curves, axis=0), atol=1e-12)
        assert found.mAP == pytest.approx(np.mean([query.ap for query in valid]), abs=1e-12)
        assert found.mINP == pytest.approx(np.mean([query.inp for query in valid]), abs=1e-12)
        assert (found.num_valid_queries, found.num_queries) == (len(valid), len(queries))


OFFSETS = [0.0, 1.0, -30.0, 1000.0, 1e5]


def offset_sets(offset, seed=0):
    """Features of 16 dimensions and spread 2 around a common offset, as float32, and their ids."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, 16))

    def make(count, camid):
        pids = rng.integers(0, 12, count)
        features = offset + 2 * (0.5 * centres[pids] + rng.standard_normal((count, 16)))
        return FeatureSet(features.astype(np.float32), pids, np.full(count, camid))

    return make(40, 0), make(300, 1)


@pytest.mark.parametrize("offset", OFFSETS)
def test_what_all_features_share_costs_no_digits(offset):
    query, gallery = offset_sets(offset)
    exact = np.linalg.norm(query.features.astype(np.float64)[:, None] - gallery.features.astype(np.float64), axis=2)
    expected = evaluate_rank(exact, query.pids, gallery.pids, query.camids, gallery.camids)
    for memory_limit in (1, 10**9):
        found = evaluate_features(query, gallery, memory_limit=memory_limit)
        assert found.mAP == pytest.approx(expected.mAP, abs=2e-5)  # a near tie may be one
        np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-12)
    rows = distance_rows(torch.from_numpy(query.features), torch.from_numpy(gallery.features))
    np.testing.assert_allclose(rows.numpy(), exact, rtol=1e-6)


def test_a_copy_of_the_features_only_where_it_spares_digits():
    gallery = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
    query = gallery[:10] + 0.1
    assert centred(query, gallery)[1] is gallery
    for offset, is_small in ((0.4, True), (0.6, False), (-50.0, False)):  # beside deviations of 1
        shifted = gallery + offset
        ours = centred(query + offset, shifted)
        assert (ours[1] is shifted) == is_small
        if not is_small:
            torch.testing.assert_close(ours[1], shifted - shifted.mean(dim=0), atol=0, rtol=0)
            torch.testing.assert_close(ours[0], query + offset - shifted.mean(dim=0), atol=0, rtol=0)


@pytest.mark.parametrize("offset", OFFSETS)
def test_re_ranking_and_thresholds_keep_their_digits_too(offset):
    def without_offset(features):
        return FeatureSet(features.features.astype(np.float64) - offset, features.pids, features.camids)

    sides = offset_sets(offset)
    exact = tuple(map(without_offset, sides))
    found, expected = (re_ranking(one.features, other.features, 20, 6, 0.3) for one, other in (sides, exact))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for ours, reference in zip(verify(*sides).points, verify(*exact).points, strict=True):
        assert ours.threshold == pytest.approx(reference.threshold, rel=1 / 2048)
        assert ours.true_accept_rate == pytest.approx(reference.true_accept_rate, abs=2e-3)


def assert_same(one, other):
    assert (one.mAP, one.mINP, one.num_queries, one.num_valid_queries) == (
        other.mAP,
        other.mINP,
        other.num_queries,
        other.num_valid_queries,
    )
    assert (one.cmc == other.cmc).all()


@pytest.mark.parametrize("start", range(0, 600, 100))
def test_both_backends_find_the_same_ranks(start):
    for seed in range(start, start + 100):
        case = random_case(1000 + seed)
        options = {"max_rank": 1 + seed % 60, "ap": ("step", "trapezoid")[seed % 2]}
        numpy, cython = (evaluate_rank(*case, **options, backend=backend) for backend in ("numpy", "cython"))
        assert_same(numpy, cython)


def test_many_matches_and_long_rows():
    """More matches than are compared one by one, and rows of several chunks."""
    rng = np.random.default_rng(0)
    for levels in (1, 5, 10**6):
        dist = rng.integers(0, levels, (6, 9001)).astype(np.float32)
        g_pids = rng.integers(-1, 3, 9001)
        ids = (np.array([0, 1, 2, 2, 1, 9]), g_pids, rng.integers(0, 3, 6), rng.integers(0, 3, 9001))
        numpy, cython = (evaluate_rank(dist, *ids, backend=backend) for backend in ("numpy", "cython"))
        assert_same(numpy, cython)
        g_pids[g_pids == 1] = np.where(rng.random((g_pids == 1).sum()) < 0.06, 1, 5)  # two hundred matches
        numpy, cython = (evaluate_rank(dist, *ids, backend=backend) for backend in ("numpy", "cython"))
        assert_same(numpy, cython)


def test_identities_of_any_size():
    dist, q_pids, g_pids, q_camids, g_camids = random_case(4)
    expected = evaluate_rank(dist, q_pids, g_pids, q_camids, g_camids)
    limits = np.iinfo(np.int64)
    for spread in (2**14, 2**40, limits.max // max(q_pids.max(), g_pids.max())):
        larger = (np.where(pids > 0, pids * spread, pids) for pids in (q_pids, g_pids))
        assert_same(evaluate_rank(dist, *larger, q_camids, g_camids), expected)
    g_pids[g_pids == 0] = limits.min  # distractors as well
    assert_same(evaluate_rank(dist, q_pids, g_pids, q_camids, g_camids), expected)


def test_other_layouts_and_types_of_input():
    dist, *ids = random_case(4)
    expected = evaluate_rank(dist.astype(np.float64), *ids)
    for same in (np.asfortranarray(dist), np.repeat(dist, 2, axis=1)[:, ::2]):
        assert_same(evaluate_rank(same, *ids), expected)
    whole = (dist * 100).astype(np.int32)
    assert_same(evaluate_rank(whole, *(values.astype(np.int32) for values in ids)), evaluate_rank(whole, *ids))


def single_shot_curve(dist, q_pids, g_pids, q_camids, g_camids, repeats, rng):
    """CUHK03's protocol in a plain loop."""
    hits = np.zeros(dist.shape[1])
    for row, pid, camid in zip(dist, q_pids, q_camids, strict=True):
        usable = [g for g in range(len(row)) if g_pids[g] != -1 and not (g_pids[g] == pid and g_camids[g] == camid)]
        for _ in range(repeats):
            chosen = [
                rng.choice([g for g in usable if g_pids[g] == identity]) for identity in {g_pids[g] for g in usable}
            ]
            ranking = sorted(chosen, key=lambda g: (row[g], g))
            hits[[g_pids[g] == pid for g in ranking].index(True) :] += 1
    return hits / repeats / len(dist)


def test_single_gallery_shot_in_distribution():
    rng = np.random.default_rng(0)
    dist = rng.random((30, 60))
    g_pids, g_camids = np.repeat(np.arange(1, 11), 6), np.tile([0, 0, 0, 1, 1, 1], 10)
    q_pids, q_camids = np.tile(np.arange(1, 11), 3), np.zeros(30, int)
    dist[g_pids[None] == q_pids[:, None]] *= 0.6
    ids = (q_pids, g_pids, q_camids, g_camids)
    expected = single_shot_curve(dist, *ids, repeats=300, rng=np.random.default_rng(1))
    found = evaluate_rank(dist, *ids, cmc="single_gallery_shot", max_rank=10)
    np.testing.assert_allclose(found.cmc, expected[:10], atol=0.02)
    assert found.cmc[9] == 1  # ten identities, one image each
    assert found.mAP == evaluate_rank(dist, *ids).mAP
    again, other = (evaluate_rank(dist, *ids, cmc="single_gallery_shot", max_rank=10, seed=seed) for seed in (0, 1))
    assert (again.cmc == found.cmc).all()
    assert (other.cmc != found.cmc).any()


def test_single_gallery_shot_exactly_where_there_is_one_image_for_each_identity():
    dist, q_pids = np.array([[0.5, 0.2, 0.3], [0.3, 0.1, 0.3]]), np.array([1, 3])
    found = evaluate_rank(
        dist, q_pids, np.array([1, 2, 3]), np.zeros(2, int), np.ones(3, int), cmc="single_gallery_shot"
    )
    assert found.cmc.tolist() == [0, 0, 1]  # both at rank 3, the second by a tie in gallery order


def make_features(rng, count, dimensions=8):
    features = torch.from_numpy(rng.standard_normal((count, dimensions)).astype(np.float32))
    return FeatureSet(features, rng.integers(0, 5, count), rng.integers(0, 3, count))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("memory_limit", [1, 2 * 4 * 50 * 7, 10**9])
def test_features_by_blocks_equal_the_matrix(metric, memory_limit):
    rng = np.random.default_rng(3)
    query, gallery = make_features(rng, 20), make_features(rng, 50)
    a, b = query.features.double(), gallery.features.double()
    if metric == "cosine":
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    dist = torch.cdist(a, b).numpy()
    expected = evaluate_rank(dist, query.pids, gallery.pids, query.camids, gallery.camids)
    for backend in ("numpy", "cython"):
        found = evaluate_features(query, gallery, metric=metric, memory_limit=memory_limit, backend=backend)
        np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-12)
        assert found.mAP == pytest.approx(expected.mAP, abs=1e-12)
        assert found.mINP == pytest.approx(expected.mINP, abs=1e-12)


def test_rank_beyond_a_short_curve_is_its_last_value():
    metrics = RetrievalMetrics(0.5, 0.5, np.array([0.25, 0.75]), 4, 4)
    assert (metrics.rank(1), metrics.rank(2), metrics.rank(10)) == (0.25, 0.75, 0.75)


def test_mean_keeps_its_repeats():
    parts = [RetrievalMetrics(value, value / 2, np.array([value]), 4, 3) for value in (0.2, 0.4)]
    mean = mean_metrics(parts)
    assert (mean.mAP, mean.mINP, mean.rank(1)) == pytest.approx((0.3, 0.15, 0.3))
    assert mean.repeats == tuple(parts)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_re_ranking_by_blocks_equals_the_matrix(metric):
    rng = np.random.default_rng(4)
    query, gallery = make_features(rng, 20), make_features(rng, 50)
    sides = [
        torch.nn.functional.normalize(s.features, dim=1) if metric == "cosine" else s.features for s in (query, gallery)
    ]
    expected = evaluate_rank(re_ranking(*sides, 5, 3, 0.3), query.pids, gallery.pids, query.camids, gallery.camids)
    for memory_limit in (1, 5000, 10**9):
        found = evaluate_features(
            query, gallery, metric=metric, re_ranking=ReRanking(5, 3, 0.3), memory_limit=memory_limit
        )
        assert found.mAP == pytest.approx(expected.mAP, abs=1e-12)
    assert expected.mAP != pytest.approx(evaluate_features(query, gallery, metric=metric).mAP, abs=1e-6)


def test_single_gallery_shot_by_blocks_equals_the_matrix():
    rng = np.random.default_rng(4)
    query, gallery = make_features(rng, 20), make_features(rng, 50)
    ids = (query.pids, gallery.pids, query.camids, gallery.camids)
    expected = evaluate_rank(torch.cdist(query.features, gallery.features), *ids, cmc="single_gallery_shot")
    found = evaluate_features(query, gallery, cmc="single_gallery_shot", memory_limit=2 * 4 * 50 * 3)
    np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-12)


def test_processes_that_share_the_queries_get_the_numbers_of_one(tmp_path):
    """Two gloo processes; every query is ranked by one of them, the result is that of one process to the last bit."""
    rng = np.random.default_rng(5)
    query, gallery = make_features(rng, 310, dimensions=64), make_features(rng, 900, dimensions=64)
    sets = {
        f"{name}_{key}": np.asarray(getattr(features, key))
        for name, features in (("q", query), ("g", gallery))
        for key in ("features", "pids", "camids")
    }
    np.savez(tmp_path / "sets.npz", **sets)
    script = """
import sys, numpy as np, torch
from utils.metrics.evaluate import evaluate_features
from utils.metrics.reranking import ReRanking
from utils.structures import FeatureSet
folder, rank = sys.argv[1], int(sys.argv[2])
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
sets = np.load(folder + "/sets.npz")
query, gallery = (FeatureSet(*(sets[f"{name}_{key}"] for key in ("features", "pids", "camids"))) for name in "qg")
cases = {
    "plain": {},
    "re_ranked": {"re_ranking": ReRanking()},
    "single_shot": {"cmc": "single_gallery_shot"},
    "expanded": {"query_expansion": 3},
    "expanded_re_ranked": {"query_expansion": 3, "re_ranking": ReRanking()},
}
for name, options in cases.items():
    found = evaluate_features(query, gallery, distributed=True, memory_limit=200_000, **options)
    np.savez(f"{folder}/{name}{rank}.npz", mAP=found.mAP, mINP=found.mINP, cmc=found.cmc, valid=found.num_valid_queries)
torch.distributed.destroy_process_group()
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(rank)], cwd=REPOSITORY) for rank in (0, 1)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    cases = {
        "plain": {},
        "re_ranked": {"re_ranking": ReRanking()},
        "single_shot": {"cmc": "single_gallery_shot"},
        "expanded": {"query_expansion": 3},
        "expanded_re_ranked": {"query_expansion": 3, "re_ranking": ReRanking()},
    }
    for name, options in cases.items():
        expected = evaluate_features(query, gallery, memory_limit=200_000, **options)
        for rank in (0, 1):
            found = np.load(tmp_path / f"{name}{rank}.npz")
            assert (found["mAP"], found["mINP"], found["valid"]) == (
                expected.mAP,
                expected.mINP,
                expected.num_valid_queries,
            )
            assert (found["cmc"] == expected.cmc).all()


def test_memory_stays_below_the_limit():
    """A matrix of 640 MB that is never there: the process grows by little more than the limit of 32 MiB."""
    script = """
import resource, numpy as np, torch
from utils.metrics.evaluate import evaluate_features
from utils.structures import FeatureSet
torch.set_num_threads(2)
rng = np.random.default_rng(0)
def features(count):
    sampled = torch.from_numpy(rng.standard_normal((count, 16), dtype=np.float32))
    return FeatureSet(sampled, rng.integers(0, 700, count), rng.integers(0, 6, count))
query, gallery = features(8000), features(20000)
evaluate_features(features(50), features(60))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = evaluate_features(query, gallery, memory_limit=32 * 2**20)
print(found.num_queries, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    queries, grown = done.stdout.split()
    assert int(queries) == 8000
    assert float(grown) < 32 + 32, "MiB"


def test_without_the_extension_numpy_ranks_and_one_warning_says_so():
    script = """
import sys; sys.modules["utils.metrics.rank_cylib"] = None
import logging; logging.basicConfig()
import numpy as np
from utils.metrics.evaluate import evaluate_rank
ids = (np.array([1]), np.array([1, 2]), np.array([0]), np.array([1, 1]))
for _ in range(2):
    print(evaluate_rank(np.array([[0.7, 0.2]]), *ids).mAP)
try:
    evaluate_rank(np.array([[0.7, 0.2]]), *ids, backend="cython")
except ValueError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0.5\n0.5\n")
    assert "'cython': utils.metrics.rank_cylib is not built" in done.stdout
    assert done.stderr.count("python setup.py build_ext --inplace") == 1


class TestErrors:
    ids = (np.array([1]), np.array([1, 2]), np.array([0]), np.array([1, 1]))

    @pytest.mark.parametrize("backend", ["numpy", "cython"])
    @pytest.mark.parametrize("entry", ["match", "own_camera", "junk", "distractor", "far", "last"])
    def test_nan_names_the_query(self, backend, entry):
        """Wherever in the row it is, also of an entry that does not count."""
        g_pids, g_camids = np.full(3000, 2), np.arange(3000)
        places = {"match": 7, "own_camera": 70, "junk": 700, "distractor": 71, "far": 1000, "last": 2999}
        g_pids[[places["match"], places["own_camera"], 1500]] = 1
        g_pids[places["junk"]], g_pids[places["distractor"]] = -1, 0
        g_camids[places["own_camera"]] = 5000
        dist = np.random.default_rng(0).random((5, 3000))
        dist[3, places["far"]] = 9
        dist[3, places[entry]] = np.nan
        ids = (np.ones(5, int), g_pids, np.full(5, 5000), g_camids)
        with pytest.raises(UserError, match="query 3: its distances hold NaN"):
            evaluate_rank(dist, *ids, backend=backend)

    def test_ids(self):
        with pytest.raises(UserError, match=r"q_pids is float64 \(1,\); expected integers of one dimension"):
            evaluate_rank(np.zeros((1, 2)), np.array([1.0]), *self.ids[1:])
        with pytest.raises(UserError, match=r"q_pids is <U2 \(1,\); .*return_inverse=True\) numbers names"):
            evaluate_rank(np.zeros((1, 2)), ["p1"], *self.ids[1:])

    def test_conventions(self):
        for option, value in (("ap", "area"), ("cmc", "cuhk03"), ("max_rank", 0)):
            with pytest.raises(UserError, match=f"evaluation {option} {value!r}: expected"):
                evaluate_rank(np.zeros((1, 2)), *self.ids, **{option: value})

    def test_features_and_ids_that_do_not_fit(self):
        rng = np.random.default_rng(0)
        one, other = make_features(rng, 2), make_features(rng, 3)
        with pytest.raises(UserError, match=r"query features \(2, 8\), gallery features \(3, 9\); expected \(Q, D\)"):
            evaluate_features(one, make_features(rng, 3, dimensions=9))
        for wrong in ({"camids": other.camids[:1]}, {"pids": other.pids[:2]}):
            with pytest.raises(
                UserError, match="gallery has 3 features, . pids and . camids; expected as many of each"
            ):
                evaluate_features(one, dataclasses.replace(other, **wrong))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
    def test_features_that_are_not_finite(self, value):
        rng = np.random.default_rng(0)
        query, gallery = make_features(rng, 5), make_features(rng, 9)
        gallery.features[7, 2] = value
        for options in ({}, {"metric": "cosine"}, {"re_ranking": ReRanking()}):
            with pytest.raises(UserError, match="the feature of gallery 7 is not finite, or too large"):
                evaluate_features(query, gallery, **options)

    def test_single_and_double_precision_mix(self):
        rng = np.random.default_rng(0)
        query, gallery = make_features(rng, 5), make_features(rng, 40)
        double = dataclasses.replace(gallery, features=gallery.features.double().requires_grad_())
        assert evaluate_features(query, double).mAP == pytest.approx(evaluate_features(query, gallery).mAP)

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
