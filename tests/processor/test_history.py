"""history.json: stage by stage, what a damaged file leaves, and values that are not finite."""

import json

import numpy as np
import pytest

from processor.history import FILE, SCHEDULE_POINTS, begin_history, read_history, write_history
from utils.structures import TrainState


def test_every_stage_is_kept_and_one_that_is_trained_again_is_replaced(tmp_path):
    clean = TrainState("clean", history=[{"lr": 0.1, "loss": 2.0}], evaluations=[{"epoch": 1, "clean": 0.5}])
    write_history(tmp_path, clean, ([0, 0.5], [0.2, 0.1]))
    write_history(tmp_path, TrainState("align", history=[{"lr": 1.0}]))
    assert read_history(tmp_path) == {
        "clean": {
            "epochs": [{"epoch": 1, "lr": 0.1, "loss": 2.0}],
            "evaluations": [{"epoch": 1, "clean": 0.5}],
            "schedule": {"epoch": [0.0, 0.5], "lr": [0.2, 0.1]},
        },
        "align": {"epochs": [{"epoch": 1, "lr": 1.0}], "evaluations": [], "schedule": {"epoch": [], "lr": []}},
    }
    write_history(tmp_path, TrainState("clean"))
    assert read_history(tmp_path)["clean"]["epochs"] == []
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # no backups


def test_a_stage_that_starts_over_leaves_a_backup(tmp_path):
    write_history(tmp_path, TrainState("clean", history=[{"loss": 2.0}]))
    before = (tmp_path / FILE).read_text()
    begin_history(tmp_path, "align")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    begin_history(tmp_path, "clean")
    write_history(tmp_path, TrainState("clean", history=[{"loss": 1.0}]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.1.json", FILE]
    assert (tmp_path / "history.1.json").read_text() == before
    assert read_history(tmp_path)["clean"]["epochs"] == [{"epoch": 1, "loss": 1.0}]


def test_a_value_that_is_not_finite_is_null(tmp_path):
    write_history(tmp_path, TrainState("clean", history=[{"grad_norm": float("inf"), "loss": 1.0}]))
    assert "Infinity" not in (tmp_path / FILE).read_text()
    assert read_history(tmp_path)["clean"]["epochs"] == [{"epoch": 1, "grad_norm": None, "loss": 1.0}]


def test_a_long_schedule_is_thinned(tmp_path):
    epochs = np.arange(0, 120, 0.05)
    write_history(tmp_path, TrainState("clean"), (epochs, epochs * 2))
    schedule = read_history(tmp_path)["clean"]["schedule"]
    assert SCHEDULE_POINTS / 2 < len(schedule["epoch"]) <= SCHEDULE_POINTS
    assert schedule["lr"] == [2 * epoch for epoch in schedule["epoch"]]


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"clean": {"epochs": [{"epoch": "one"}], "evaluations": []}}'])
def test_a_damaged_file_does_not_stop_training(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    assert read_history(tmp_path) == {}
    write_history(tmp_path, TrainState("clean", history=[{"loss": 1.0}]))
    assert json.loads((tmp_path / FILE).read_text())["clean"]["epochs"] == [{"epoch": 1, "loss": 1.0}]
