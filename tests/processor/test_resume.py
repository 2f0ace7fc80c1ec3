"""What a run goes on from, and with which settings; killed processes are in tests/test_resume.py."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from config import load_cfg, stage_cfg
from processor import do_train, find_finished
from processor.resume import Generators, check_same_settings, load_state, save_state
from tests.processor.test_processor import CPU, build, make_cfg, make_data
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.structures import TrainState


def staged(stage, *opts):
    return stage_cfg(load_cfg(opts=["CFAT.CLEAN.MAX_EPOCHS", "3", *opts]), stage)


@pytest.mark.parametrize(
    ("stage", "opts"),
    [
        ("clean", ["DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", "elsewhere", "TEST.REPEATS", "1"]),
        ("clean", ["CFAT.STAGES", "['clean']"]),
        ("clean", ["CFAT.ALIGN.MAX_EPOCHS", "7", "CFAT.COARSE.WEIGHT", "0.5"]),
        ("align", ["CFAT.CLEAN.MAX_EPOCHS", "9"]),
    ],
)
def test_settings_that_change_no_weight_of_the_stage(stage, opts):
    check_same_settings(Path("a.pth"), {"stage": stage, "config": staged(stage).dump()}, staged(stage, *opts).dump())


@pytest.mark.parametrize(
    ("stage", "opts", "told"),
    [
        ("clean", ["CFAT.CLEAN.MAX_EPOCHS", "4"], "SOLVER.MAX_EPOCHS 3 there, 4 here"),
        ("clean", ["SEED", "2", "INPUT.PADDING", "3"], "INPUT.PADDING 10 there, 3 here; SEED 1234 there, 2 here"),
        ("align", ["CFAT.COARSE.WEIGHT", "0.5"], "CFAT.COARSE.WEIGHT 1.0 there, 0.5 here"),
        ("clean", ["DATASETS.SPLIT.SEED", "1"], "DATASETS.SPLIT.SEED 0 there, 1 here"),
    ],
)
def test_settings_that_do(stage, opts, told):
    meta = {"stage": stage, "config": staged(stage).dump()}
    with pytest.raises(UserError, match=rf"a\.pth was trained with other settings: {told}\. Give the same ones"):
        check_same_settings(Path("a.pth"), meta, staged(stage, *opts).dump())


def test_a_run_that_begins_anew_keeps_the_state_of_one_that_did_not_end(tmp_path, caplog):
    cfg = make_cfg(tmp_path)
    data, _ = make_data()
    last = tmp_path / "checkpoints" / "clean_last.pth"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"the only copy of a week")
    do_train(cfg, data, *build(cfg, data), device=CPU)
    assert "begins anew; an earlier run that did not end left" in caplog.text
    assert (last.parent / "clean_last.1.pth").read_bytes() == b"the only copy of a week"
    assert sorted(path.name for path in last.parent.iterdir()) == ["clean.pth", "clean_last.1.pth"]


def test_a_stage_that_is_done_is_not_trained_again(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path, "SOLVER.RESUME", "auto")
    assert not find_finished(cfg)
    do_train(cfg, data, *build(cfg, data), device=CPU)
    assert find_finished(cfg)
    assert not find_finished(make_cfg(tmp_path))
    with pytest.raises(UserError, match=r"clean\.pth was trained with other settings: SEED"):
        find_finished(make_cfg(tmp_path, "SOLVER.RESUME", "auto", "SEED", "9"))


def test_what_a_checkpoint_says(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path)
    do_train(cfg, data, *build(cfg, data), device=CPU)
    meta = load_checkpoint(tmp_path / "checkpoints" / "clean.pth", check=True)["meta"]
    assert (meta["stage"], meta["epoch"], meta["num_classes"], meta["dataset"]) == ("clean", 3, 4, "drawn")
    assert {"python", "torch", "timm", "numpy", "imagecorruptions"} <= set(meta["versions"])


def test_other_data_are_refused_and_other_versions_told(tmp_path, caplog):
    meta = {"config": load_cfg().dump(), "versions": {"torch": "2.11.0"}, "dataset": "folder", "dataset_version": "",
            "num_pictures": 36, "num_classes": 4, "num_cameras": 1, "num_views": 1}  # fmt: skip
    save_state(tmp_path / "a_last.pth", {}, TrainState("clean", epoch=2), {}, meta)
    state = TrainState("clean")
    load_state(tmp_path / "a_last.pth", {}, state, meta={**meta, "versions": {"torch": "2.12.0"}})
    assert state.epoch == 2
    assert "torch 2.11.0 there, 2.12.0 here; weights may differ" in caplog.text
    with pytest.raises(UserError, match="was trained with other data: num_pictures 36 there, 37 here. Give the same"):
        load_state(tmp_path / "a_last.pth", {}, state, meta={**meta, "num_pictures": 37})


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def test_generators_go_on_where_they_were(name):
    def draw():
        numbers = torch.rand(3).tolist(), torch.rand(3, device=name).tolist()
        return *numbers, np.random.rand(3).tolist(), random.random(), np.random.standard_normal()

    draw()
    generators = Generators(torch.device(name))
    states = generators.state_dict()
    expected = draw()
    draw()
    generators.load_state_dict(states)
    assert draw() == expected
