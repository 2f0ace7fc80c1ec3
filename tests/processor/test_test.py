"""A whole test: result files, tables, figures, corruption matrix."""

import csv
import dataclasses
import json
import os

import numpy as np
import pytest
import torch

from corruption import PROTOCOLS, make_corruption_set, make_matrix, make_test_policy
from processor import check, do_test
from processor.evaluate import extract_features
from tests.processor.small_run import CPU, MeanColour, make_cfg, make_data
from utils.errors import UserError
from utils.metrics.evaluate import evaluate_features
from utils.metrics.reranking import ReRanking
from utils.structures import Condition, FeatureSet

MATRIX_OPTS = (
    "TEST.MATRIX",
    "corrupted_query",
    "TEST.MATRIX_REPEATS",
    "2",
    "TEST.REPEATS",
    "1",
    "CORRUPTION.TEST",
    "['fog', 'rain']",
    "CORRUPTION.SEVERITIES",
    "[1, 4]",
)


def test_a_matrix_is_tested_cell_by_cell(tmp_path, caplog):
    caplog.set_level("INFO")
    data, requests = make_data()
    cfg = make_cfg(tmp_path, *MATRIX_OPTS)
    corruptions = make_corruption_set(cfg, make_test_policy(cfg))
    data = dataclasses.replace(data, corruptions=corruptions)
    do_test(cfg, data, MeanColour(), (PROTOCOLS["corrupted"],), device=CPU, weight="a.pth", matrix=make_matrix(cfg))
    # clean is tested for the drop; the matrix corrupts the query side alone; every set is extracted once
    assert len(requests) == 2 + 2 + 2 * 2 * 2
    assert [r for r in requests if r[0] == "gallery"] == [("gallery", "clean", 0), ("gallery", "random", 0)]
    content = json.loads((tmp_path / "results.json").read_text())
    assert set(content["protocols"]) == {"clean", "corrupted"}
    assert content["matrix"]["mAP"].keys() == {"fog", "rain"}
    assert content["summary"]["clean"]["mAP"] == 1.0
    assert 0 < content["summary"]["matrix"]["drop"]["mAP"] < 1
    with (tmp_path / "results.csv").open() as handle:
        cells = [row for row in csv.DictReader(handle) if row["protocol"] == "corrupted_query"]
    assert [(row["corruption"], row["severity"], row["repeat"]) for row in cells] == [
        (name, severity, repeat) for name in ("fog", "rain") for severity in "14" for repeat in "01"
    ]
    assert (tmp_path / "corruption_matrix.png").stat().st_size > 1000
    assert "mean corrupted" in caplog.text
    assert not list(tmp_path.glob("results.*.*"))


def test_results_of_the_protocols_outlive_a_matrix_that_fails(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path, *MATRIX_OPTS)
    loader = data.test_loader

    def failing(split, condition, repeat):
        if condition.corruption == "rain":
            raise UserError("image x.jpg: cannot be read")
        return loader(split, condition, repeat)

    corruptions = make_corruption_set(cfg, make_test_policy(cfg))
    data = dataclasses.replace(data, corruptions=corruptions, test_loader=failing)
    with pytest.raises(UserError, match="cannot be read"):
        do_test(cfg, data, MeanColour(), tuple(PROTOCOLS.values()), device=CPU, weight="a.pth", matrix=make_matrix(cfg))
    content = json.loads((tmp_path / "results.json").read_text())
    assert set(content["protocols"]) == set(PROTOCOLS)
    assert "matrix" not in content


def test_results_ranked_list_and_comparison(tmp_path, caplog):
    caplog.set_level("INFO")
    data, _ = make_data()
    protocols = tuple(PROTOCOLS.values())
    first = make_cfg(tmp_path / "first", "TEST.RANKED_QUERIES", "2")
    do_test(first, data, MeanColour(), protocols, device=CPU, weight="first.pth")
    content = json.loads((tmp_path / "first" / "results.json").read_text())
    assert content["protocols"]["corrupted"]["repeats"] == 3
    assert len((tmp_path / "first" / "results.csv").read_text().splitlines()) == 1 + 1 + 4 * 3
    assert (tmp_path / "first" / "ranked_list.png").stat().st_size > 1000
    second = make_cfg(tmp_path / "second", "TEST.COMPARE", str(tmp_path / "first"))
    do_test(second, data, MeanColour(), protocols[:1], device=CPU, weight="second.pth")
    table = caplog.text.rsplit("second.pth on rendered", 1)[1]
    assert table.index("second.pth") < table.index("first.pth")


def test_a_comparison_that_broke_since_then_costs_no_results(tmp_path, caplog):
    data, _ = make_data()
    (tmp_path / "other").mkdir()
    os.mkfifo(tmp_path / "other" / "results.json")
    cfg = make_cfg(tmp_path / "run", "TEST.COMPARE", str(tmp_path / "other"))
    do_test(cfg, data, MeanColour(), (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    assert f"TEST.COMPARE: {tmp_path / 'other' / 'results.json'}: cannot be read (is no regular file" in caplog.text
    assert (tmp_path / "run" / "results.json").exists()


def test_conventions_and_re_ranking_reach_the_numbers_and_the_record(tmp_path, caplog):
    data, _ = make_data()
    gallery = data.test_loader("gallery", Condition("random"), 0)
    query = data.test_loader("query", Condition(), 0)
    sets = [extract_features(MeanColour(), loader, device=CPU) for loader in (query, gallery)]
    options = {
        "TEST.AP": "trapezoid",
        "TEST.RE_RANKING_K1": "3",
        "TEST.RE_RANKING_K2": "2",
        "TEST.RE_RANKING_LAMBDA": "0.4",
        "TEST.RE_RANKING": "True",
    }
    flat = [part for pair in options.items() for part in pair]
    content = do_test(
        make_cfg(tmp_path, *flat), data, MeanColour(), (PROTOCOLS["corrupted_gallery"],), device=CPU, weight="a.pth"
    )
    expected = evaluate_features(*sets, ap="trapezoid", re_ranking=ReRanking(3, 2, 0.4))
    with (tmp_path / "results.csv").open() as handle:
        assert float(next(csv.DictReader(handle))["mAP"]) == expected.mAP
    assert content["evaluation"] == {
        "metric": "euclidean",
        "ap": "trapezoid",
        "cmc": "standard",
        "re_ranking": {"k1": 3, "k2": 2, "lambda_value": 0.4},
    }
    assert evaluate_features(*sets, re_ranking=ReRanking(3, 2, 0.4)).mAP != expected.mAP
    cosine = do_test(
        make_cfg(tmp_path / "cosine", "TEST.METRIC", "cosine"),
        data,
        MeanColour(),
        (PROTOCOLS["corrupted_gallery"],),
        device=CPU,
        weight="a.pth",
    )
    assert cosine["protocols"]["corrupted_gallery"]["mAP"]["mean"] == 1  # darkening does not change directions
    assert cosine["evaluation"]["metric"] == "cosine"
    assert "cosine, AP step, CMC standard" in (tmp_path / "cosine" / "results.csv").read_text()
    again = make_cfg(tmp_path / "again", "TEST.COMPARE", str(tmp_path / "cosine"))
    do_test(again, data, MeanColour(), (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    assert "was evaluated differently" in caplog.text


def test_saved_features_and_thresholds(tmp_path, caplog):
    caplog.set_level("INFO")
    data, requests = make_data()
    cfg = make_cfg(tmp_path, "TEST.SAVE_FEATURES", "True", "TEST.THRESHOLDS", "True")
    content = do_test(cfg, data, MeanColour(), tuple(PROTOCOLS.values()), device=CPU, weight="a.pth")
    assert len(requests) == 2 + 2 * 2 * 3  # nothing is extracted twice
    saved = {path.stem: dict(np.load(path)) for path in (tmp_path / "features").iterdir()}
    assert set(saved) == {
        f"{split}_{name}" for split in ("query", "gallery") for name in ("clean", "corrupted", "unseen")
    }
    query, gallery = saved["query_clean"], saved["gallery_corrupted"]
    assert query["paths"].tolist() == [record.path for record in data.splits.query]
    sets = [
        FeatureSet(*(torch.from_numpy(part["features"]), part["pids"], part["camids"])) for part in (query, gallery)
    ]
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    first = next(row for row in rows if row["protocol"] == "corrupted_gallery")
    assert evaluate_features(*sets).mAP == float(first["mAP"])  # the file is enough to get the numbers again
    assert content["protocols"]["clean"]["mAP"]["mean"] == 1
    points = list(csv.DictReader((tmp_path / "thresholds.csv").open()))
    assert {row["protocol"] for row in points} == set(PROTOCOLS)
    clean = next(row for row in points if row["protocol"] == "clean")
    assert (clean["point"], float(clean["equal_error_rate"])) == ("equal error rate", 0)
    assert (int(clean["num_genuine"]), int(clean["num_impostor"])) == (4 * 2, 4 * 6)
    assert "euclidean distance that means the same identity" in caplog.text


def test_a_comparison_that_cannot_be_read_is_an_error_before_the_test(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.results\.json: cannot be read"):
        check(make_cfg(tmp_path, "TEST.COMPARE", "nowhere"))
