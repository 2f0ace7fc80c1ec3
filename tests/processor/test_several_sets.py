"""Tests on several data sets: results by set, their tables and comparisons, evaluations during training."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from corruption import PROTOCOLS
from processor import do_dry_run, do_test, do_train
from processor.comparisons import read_comparable, read_results
from processor.results import join_results, results_by_set
from processor.tables import format_table
from processor.train import StageTrainer
from tests.processor.small_run import CPU, MeanColour, build, make_cfg, make_data
from utils.errors import UserError
from utils.structures import Sides


def make_sets(*names, sides=Sides()):  # noqa: B008 - frozen
    """A bundle whose test sets are all rendered alike, under these names."""
    data, _ = make_data()
    tests = [
        dataclasses.replace(data, splits=dataclasses.replace(data.splits, name=name), train=None, sides=sides)
        for name in names
    ]
    return dataclasses.replace(data, tests=tuple(tests))


class Sided(MeanColour):
    """Features are cameras and viewpoints as the model gets them."""

    def extract(self, images, camids, viewids):
        if camids is None:
            return torch.full((len(images), 2), -1.0)
        return torch.stack([camids, viewids], dim=1).float()


def test_results_by_set(tmp_path, caplog):
    caplog.set_level("INFO")
    opts = ["TEST.RANKED_QUERIES", "1", "TEST.SAVE_FEATURES", "True", "TEST.THRESHOLDS", "True"]
    cfg, protocols = make_cfg(tmp_path, *opts), tuple(PROTOCOLS.values())
    data = make_sets("cuhk03", "folder:a/b", "folder:a b")
    content = do_test(cfg, data, MeanColour(), protocols, device=CPU, weight="a.pth")
    assert json.loads((tmp_path / "results.json").read_text()) == content
    assert list(content["datasets"]) == ["cuhk03", "folder:a/b", "folder:a b"]
    alone, _ = make_data()
    one = do_test(make_cfg(tmp_path / "one"), alone, MeanColour(), protocols, device=CPU, weight="a.pth")
    for name, results in content["datasets"].items():
        assert results == {**one, "dataset": name}
    several, single = ((path / "results.csv").read_text().splitlines() for path in (tmp_path, tmp_path / "one"))
    assert several == [
        single[0],
        *(row.replace("rendered", name) for name in content["datasets"] for row in single[1:]),
    ]
    for name in ("cuhk03", "folder_a_b_2", "folder_a_b_3"):
        names = {path.name for path in (tmp_path / name).iterdir()}
        assert names == {"ranked_list.png", "features", "thresholds.csv", "per_query.npz"}
        assert f"  {tmp_path / name / 'ranked_list.png'}  queries and" in caplog.text
    assert "a.pth on 3 data sets, percent" in caplog.text


def test_one_test_set_that_is_no_training_set_has_the_results_of_one(tmp_path):
    cfg = make_cfg(tmp_path, "TEST.RANKED_QUERIES", "1")
    content = do_test(cfg, make_sets("cuhk03"), MeanColour(), (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    assert content["dataset"] == "cuhk03"
    assert (tmp_path / "ranked_list.png").exists()


@pytest.mark.parametrize(("sides", "expected"), [(Sides(5, 2), [[5, 2], [6, 2], [7, 2]]), (None, [[-1, -1]])])
def test_the_model_gets_cameras_as_it_numbers_them_and_files_keep_the_data_sets(tmp_path, sides, expected):
    cfg, data = make_cfg(tmp_path, "TEST.SAVE_FEATURES", "True"), make_sets("cuhk03", sides=sides)
    do_test(cfg, data, Sided(), (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    saved = [dict(np.load(tmp_path / "features" / f"{split}_clean.npz")) for split in ("query", "gallery")]
    features = np.concatenate([arrays["features"] for arrays in saved])
    assert np.unique(features, axis=0).tolist() == expected
    assert {camid for arrays in saved for camid in arrays["camids"].tolist()} == {0, 1, 2}


def test_comparisons_of_one_set_and_of_several(tmp_path, caplog):
    protocols, names = (PROTOCOLS["clean"],), ("cuhk03", "msmt17")
    for place, sets in (("one", names[1:]), ("two", names)):
        do_test(
            make_cfg(tmp_path / place), make_sets(*sets), MeanColour(), protocols, device=CPU, weight=f"{place}.pth"
        )
    assert list(results_by_set(read_results(tmp_path / "two"))) == list(names)
    splits = {one.splits.name: one.splits for one in make_sets(*names, "csv").tests}
    evaluation = read_results(tmp_path / "one")["evaluation"]
    directories = [str(tmp_path / "one"), str(tmp_path / "two")]

    def compare(*tested):
        caplog.clear()
        return read_comparable(directories, tested=[splits[name] for name in tested], evaluation=evaluation)

    compared = compare("msmt17")
    assert [list(results_by_set(content)) for content in compared.values()] == [["msmt17"], ["msmt17"]]
    assert caplog.text == ""
    compared = compare("cuhk03", "csv")
    assert [list(results_by_set(content)) for content in compared.values()] == [["msmt17"], ["cuhk03"]]
    assert "one.pth was tested on msmt17, not on cuhk03 or csv: do not compare" in caplog.text
    assert "two.pth was tested" not in caplog.text
    blocks = format_table(compared).split("\n\n")
    assert blocks[0] == "model 1: one.pth\nmodel 2: two.pth"
    assert blocks[1::2] == ["msmt17:", "cuhk03:"]
    cells = [block.splitlines()[2].split("|") for block in blocks[2::2]]
    assert [[cell.strip() for cell in row[1:3]] for row in cells] == [["1", "clean"], ["2", "clean"]]


@pytest.mark.parametrize("datasets", [{}, {"a": {"weight": "a.pth"}}, [], "a"])
def test_results_of_several_sets_that_are_damaged(tmp_path, datasets):
    (tmp_path / "results.json").write_text(json.dumps({"weight": "a.pth", "seed": 1, "datasets": datasets}))
    with pytest.raises(UserError, match=r"results\.json: datasets.*give the OUTPUT_DIR of a finished test"):
        read_results(tmp_path)


def test_join_results_keeps_what_each_set_has():
    results = [{"dataset": name, "weight": "a.pth", "seed": 3, "protocols": {}} for name in ("b", "a")]
    content = join_results(results)
    assert content == {"weight": "a.pth", "seed": 3, "datasets": dict(zip("ba", results, strict=True))}
    assert results_by_set(content) == content["datasets"]
    assert results_by_set(results[0]) == {"b": results[0]}


def test_evaluations_during_training_and_the_dry_run(tmp_path, caplog):
    caplog.set_level("INFO")
    cfg = make_cfg(tmp_path, "SOLVER.EVAL_PERIOD", "1", "SOLVER.MAX_EPOCHS", "1", "MODEL.SIE_CAMERA", "False")
    data = make_sets("cuhk03", "msmt17")
    protocols = (PROTOCOLS["clean"], PROTOCOLS["corrupted"])
    state = do_train(cfg, data, *build(cfg, data), device=CPU, protocols=protocols)
    (evaluation,) = state.evaluations
    assert list(evaluation) == [
        "epoch",
        *(f"{protocol}/{name}" for name in ("cuhk03", "msmt17") for protocol in ("clean", "corrupted")),
    ]
    assert state.best == pytest.approx((evaluation["corrupted/cuhk03"] + evaluation["corrupted/msmt17"]) / 2)
    assert (tmp_path / "checkpoints" / "clean_best.pth").exists()
    do_dry_run(cfg, data, *build(cfg, data), device=CPU)
    assert "testing msmt17, gallery, random: features" in caplog.text


@pytest.mark.parametrize(
    ("before", "now", "kept"),
    [(["cuhk03"], ["msmt17"], False), (["cuhk03", "msmt17"], ["msmt17", "cuhk03"], True), (None, ["rendered"], True)],
)
def test_the_best_epoch_after_a_resume_with_other_test_sets(tmp_path, caplog, before, now, kept):
    caplog.set_level("INFO")
    opts = ["SOLVER.EVAL_PERIOD", "1", "SOLVER.MAX_EPOCHS", "1", "MODEL.SIE_CAMERA", "False", "SOLVER.RESUME", "auto"]
    cfg, protocols = make_cfg(tmp_path, *opts), (PROTOCOLS["clean"],)
    data = make_sets(*(before or ["rendered"]))
    trainer = StageTrainer(cfg, data, *build(cfg, data), device=CPU, protocols=protocols)
    trainer.state.best = 1.0  # no epoch is better
    trainer._save_state()
    if before is None:  # as earlier versions wrote it
        content = torch.load(trainer.last, weights_only=True)
        del content["training"]["progress"]["test_sets"]
        torch.save(content, trainer.last)
    best = tmp_path / "checkpoints" / "clean_best.pth"
    best.write_bytes(b"earlier")
    data = make_sets(*now)
    state = do_train(cfg, data, *build(cfg, data), device=CPU, protocols=protocols)
    assert (state.best == 1, best.read_bytes() == b"earlier", best.with_name("clean_best.1.pth").exists()) == (
        *(kept, kept, not kept),
    )
    assert ("the best epoch so far was that on cuhk03; from here on it is the best on msmt17" in caplog.text) != kept
