"""TEST.FLIP, QUERY_EXPANSION and FEATURE_DTYPE in a whole test: numbers, results.json, results.csv, comparisons."""

import csv
import json

import numpy as np
import pytest

from corruption import PROTOCOLS
from processor import do_test
from processor.evaluate import extract_features
from processor.results import format_evaluation
from tests.processor.test_evaluate import CPU, MeanColour, make_data
from tests.processor.test_test import make_cfg
from utils.metrics.evaluate import Evaluation, evaluate_features
from utils.metrics.reranking import ReRanking
from utils.structures import Condition

CLEAN, GALLERY = PROTOCOLS["clean"], PROTOCOLS["corrupted_gallery"]


def test_query_expansion_reaches_the_numbers_and_the_record(tmp_path, caplog):
    data, _ = make_data()
    loaders = (data.test_loader("query", Condition(), 0), data.test_loader("gallery", Condition("random"), 0))
    sets = [extract_features(MeanColour(), loader, device=CPU) for loader in loaders]
    cfg = make_cfg(tmp_path / "expanded", "TEST.QUERY_EXPANSION", "3", "TEST.RE_RANKING", "True")
    content = do_test(cfg, data, MeanColour(), (GALLERY,), device=CPU, weight="a.pth")
    expected = evaluate_features(*sets, query_expansion=3, re_ranking=ReRanking())
    rows = list(csv.DictReader((tmp_path / "expanded" / "results.csv").open()))
    assert float(rows[0]["mAP"]) == expected.mAP
    assert content["evaluation"]["query_expansion"] == 3
    assert "flip" not in content["evaluation"]
    assert "CMC standard, query expansion 3, re-ranked k1 20" in rows[0]["evaluation"]
    plain = make_cfg(tmp_path / "plain", "TEST.COMPARE", str(tmp_path / "expanded"))
    content = do_test(plain, data, MeanColour(), (CLEAN,), device=CPU, weight="a.pth")
    assert content["evaluation"].keys() == {"metric", "ap", "cmc", "re_ranking"}  # as earlier versions wrote it
    assert "a.pth was evaluated differently" in caplog.text
    assert "'query_expansion': 3" in caplog.text


@pytest.mark.parametrize("beyond", [0, 1])
def test_query_expansion_beyond_the_gallery(tmp_path, caplog, beyond):
    data, _ = make_data()
    images = len(data.splits.gallery)
    cfg = make_cfg(tmp_path, "TEST.QUERY_EXPANSION", str(images + beyond))
    do_test(cfg, data, MeanColour(), (CLEAN, GALLERY), device=CPU, weight="a.pth")
    message = f"TEST.QUERY_EXPANSION {images + 1}: the gallery of {data.splits.title} has {images} images; all of them"
    assert caplog.text.count(message) == beyond
    assert caplog.text.count("the gallery of") == beyond


def test_flip_is_recorded(tmp_path, caplog):
    data, _ = make_data()
    flipped = make_cfg(tmp_path / "flipped", "TEST.FLIP", "True")
    do_test(flipped, data, MeanColour(), (CLEAN,), device=CPU, weight="a.pth")
    assert json.loads((tmp_path / "flipped" / "results.json").read_text())["evaluation"]["flip"] is True
    assert "CMC standard, flip" in (tmp_path / "flipped" / "results.csv").read_text()
    both = make_cfg(tmp_path / "both", "TEST.FLIP", "True", "TEST.COMPARE", str(tmp_path / "flipped"))
    do_test(both, data, MeanColour(), (CLEAN,), device=CPU, weight="a.pth")
    assert "evaluated differently" not in caplog.text
    plain = make_cfg(tmp_path / "plain", "TEST.COMPARE", str(tmp_path / "flipped"))
    do_test(plain, data, MeanColour(), (CLEAN,), device=CPU, weight="a.pth")
    assert "a.pth was evaluated differently" in caplog.text


def test_conventions_in_words():
    described = Evaluation(query_expansion=2).describe() | {"flip": True}
    assert format_evaluation(described) == "euclidean, AP step, CMC standard, flip, query expansion 2"
    assert format_evaluation(Evaluation().describe()) == "euclidean, AP step, CMC standard"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_precision_of_saved_features(tmp_path, dtype):
    data, _ = make_data()
    cfg = make_cfg(tmp_path, "TEST.SAVE_FEATURES", "True", "TEST.FEATURE_DTYPE", dtype)
    content = do_test(cfg, data, MeanColour(), (CLEAN,), device=CPU, weight="a.pth")
    full = extract_features(MeanColour(), data.test_loader("query", Condition(), 0), device=CPU).features.numpy()
    with np.load(tmp_path / "features" / "query_clean.npz") as arrays:
        assert arrays["features"].dtype == dtype
        assert (arrays["features"] == full.astype(dtype)).all()
    assert content["protocols"]["clean"]["mAP"]["mean"] == 1
