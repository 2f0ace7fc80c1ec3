"""SOLVER.EVAL_ON and TEST.SPLIT: which sets evaluations use, the best checkpoint of each, and results that say it."""

import csv
import dataclasses
import json

import pytest

from corruption import PROTOCOLS
from processor import do_dry_run, do_inference, do_test, do_train
from processor.comparisons import read_comparable
from processor.evaluate import make_evaluation
from processor.train import StageTrainer
from tests.processor.small_run import CPU, MeanColour, build, make_cfg, make_data
from utils.checkpoints import load_checkpoint
from utils.structures import ImageRecord

VALIDATION = ("DATASETS.VALIDATION_SHARE", "0.5", "SOLVER.EVAL_ON", "validation")
TESTED = (PROTOCOLS["clean"], PROTOCOLS["corrupted"])


def make_held_back_data():
    """The rendered data set with identities 10 to 13 held back."""
    data, _ = make_data()
    other, requests = make_data()

    def held(cameras):
        return tuple(
            ImageRecord(f"held_{pid}_{camera}.jpg", pid, camera) for pid in range(10, 14) for camera in cameras
        )

    splits = dataclasses.replace(other.splits, train=(), query=held((0,)), gallery=held((1, 2)), is_validation=True)
    loader = type(data.train)
    validation = dataclasses.replace(
        other,
        splits=splits,
        train=None,
        test_loader=lambda split, condition, repeat: (
            requests.append(split) or loader(getattr(splits, split), condition, repeat)
        ),
    )
    whole = dataclasses.replace(data.splits, validation=(splits,))
    return dataclasses.replace(data, splits=whole, validation=(validation,)), requests


def train(cfg, data):
    return do_train(cfg, data, *build(cfg, data), device=CPU, protocols=TESTED)


def test_evaluations_are_those_of_the_validation_set(tmp_path, caplog):
    caplog.set_level("INFO")
    cfg = make_cfg(tmp_path, *VALIDATION, "SOLVER.EVAL_PERIOD", "1", "SOLVER.MAX_EPOCHS", "1")
    data, _ = make_held_back_data()
    trainer = StageTrainer(cfg, data, *build(cfg, data), device=CPU, protocols=TESTED)
    state = trainer.run()
    evaluation = make_evaluation(cfg, plain=True)
    expected = do_inference(trainer.tested, data.validation[0], TESTED, device=CPU, repeats=1, evaluation=evaluation)
    (found,) = state.evaluations
    assert found == {"epoch": 1, **{f"validation/{name}": metrics.mAP for name, metrics in expected.items()}}
    assert state.best == expected["corrupted"].mAP
    assert "stage clean: the best epoch is chosen on rendered validation (SOLVER.EVAL_ON)" in caplog.text
    assert "stage clean epoch 1, validation, corrupted: mAP" in caplog.text
    meta = load_checkpoint(tmp_path / "checkpoints" / "clean_best.pth")["meta"]
    assert meta["selected_on"] == ["rendered validation"]
    assert (meta["validation"]["share"], list(meta["validation"]["sha256"])) == (0.5, ["rendered"])
    assert "selected_on" not in load_checkpoint(tmp_path / "checkpoints" / "clean.pth")["meta"]


def test_by_default_the_test_sets_are_used(tmp_path):
    cfg = make_cfg(tmp_path, "SOLVER.EVAL_PERIOD", "1", "SOLVER.MAX_EPOCHS", "1")
    data, requests = make_held_back_data()
    state = train(cfg, data)
    assert requests == []
    assert list(state.evaluations[0]) == ["epoch", "clean", "corrupted"]
    meta = load_checkpoint(tmp_path / "checkpoints" / "clean_best.pth")["meta"]
    assert meta["selected_on"] == ["rendered"]
    assert "validation" not in meta


def test_what_evaluations_use_changes_no_weight_and_best_epochs_do_not_mix(tmp_path, caplog):
    caplog.set_level("INFO")
    data, _ = make_held_back_data()
    share, period = VALIDATION[:2], ("SOLVER.EVAL_PERIOD", "1")
    states = {}
    for name, opts in (("test", share), ("validation", VALIDATION)):
        train(make_cfg(tmp_path / name, *opts, *period), data)
        states[name] = load_checkpoint(tmp_path / name / "checkpoints" / "clean.pth")["model"]
    assert all((value == states["test"][name]).all() for name, value in states["validation"].items())

    place = tmp_path / "resumed"
    cfg = make_cfg(place, *share, *period)
    trainer = StageTrainer(cfg, data, *build(cfg, data), device=CPU, protocols=TESTED)
    trainer.state.epoch, trainer.state.history, trainer.state.best = 1, [{}], 0.99
    trainer._save_model(place / "checkpoints" / "clean_best.pth")
    trainer._save_state()
    caplog.clear()
    state = train(make_cfg(place, *VALIDATION, *period, "SOLVER.RESUME", "auto"), data)
    assert "best epoch so far was that on rendered; from here on it is the best on rendered validation" in caplog.text
    assert state.best == max(row["validation/corrupted"] for row in state.evaluations)
    assert state.test_sets == ["rendered validation"]
    assert {path.name for path in (place / "checkpoints").iterdir()} == {
        *("clean.pth", "clean_best.pth", "clean_best.1.pth")
    }


def test_results_say_what_was_tested(tmp_path, caplog):
    data, requests = make_held_back_data()
    cfg = make_cfg(tmp_path, *VALIDATION[:2], "TEST.SPLIT", "validation", "SOLVER.EVAL_PERIOD", "1")
    options = {"device": CPU, "weight": "best.pth"}
    chosen = ["rendered"]
    content = do_test(cfg, data.on("validation"), MeanColour(), TESTED, **options, selected_on=chosen)
    assert json.loads((tmp_path / "results.json").read_text()) == content
    assert (content["dataset"], content["split"], content["selected_on"]) == ("rendered", "validation", chosen)
    with (tmp_path / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert {row["evaluation"] for row in rows} == {"euclidean, AP step, CMC standard, on validation identities"}
    assert set(requests) == {"query", "gallery"}
    plain = do_test(make_cfg(tmp_path / "test"), data, MeanColour(), TESTED, **options)
    assert {"split", "selected_on"} & plain.keys() == set()
    read_comparable([str(tmp_path)], tested=[data.splits], evaluation=plain["evaluation"])
    assert "best.pth was tested on rendered validation, not on rendered: do not compare" in caplog.text
    caplog.clear()
    read_comparable([str(tmp_path)], tested=[data.validation[0].splits], evaluation=plain["evaluation"])
    assert "do not compare" not in caplog.text


@pytest.mark.parametrize(
    ("split", "expected"), [("test", []), ("validation", ["query", "query", "gallery", "gallery"])]
)
def test_a_dry_run_loads_what_will_be_tested(tmp_path, split, expected):
    data, requests = make_held_back_data()
    cfg = make_cfg(tmp_path, *VALIDATION[:2], "TEST.SPLIT", split)
    do_dry_run(cfg, data, *build(cfg, data), device=CPU)
    assert requests == expected
