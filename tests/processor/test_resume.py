"""Which files a run resumes from, and with which settings; killed processes are in tests/test_resume.py."""

import dataclasses
import random
import shutil
import subprocess

import numpy as np
import pytest
import torch

from config import load_cfg, stage_cfg
from processor import RunPlan, do_train
from processor.resume import can_resume, library_versions
from processor.train_state import GlobalRNGs, load_state, save_state
from tests.processor.small_run import CPU, build, make_cfg, make_data
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.stage_identity import make_identity
from utils.structures import TrainState


def staged(stage, *opts):
    return stage_cfg(load_cfg(opts=["CFAT.CLEAN.MAX_EPOCHS", "3", "SOLVER.RESUME", "auto", *opts]), stage)


FACTS = {"images": 36, "identities": 4, "cameras": 3, "views": 1, "sha256": "a" * 64}
EARLIER = {"num_pictures": 36, "num_classes": 4, "num_cameras": 3, "num_views": 1}


def identity_of(cfg, *, facts=FACTS, initial=None):
    return dataclasses.replace(make_identity(cfg, {}, facts), initial=initial or {})


@pytest.fixture(params=["with an identity", "of an earlier version"])
def write_checkpoint(request, tmp_path):
    """A function that writes the checkpoint of a stage with what it says about where it came from."""

    def write(cfg, **options):
        meta = {"stage": cfg.CFAT.STAGE, "config": cfg.dump(), **EARLIER}
        if request.param == "with an identity":
            meta["identity"] = identity_of(cfg, **options).describe()
        save_checkpoint(tmp_path / "a.pth", {"model": {}}, meta)
        return tmp_path / "a.pth"

    return write


@pytest.mark.parametrize(
    ("stage", "opts"),
    [
        ("clean", ["DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", "elsewhere", "TEST.REPEATS", "1"]),
        ("clean", ["DATASETS.ROOT_DIR", "elsewhere", "CFAT.STAGES", "['clean']"]),
        ("clean", ["CFAT.ALIGN.MAX_EPOCHS", "7", "CFAT.COARSE.WEIGHT", "0.5"]),
        ("clean", ["CORRUPTION.TRAIN", "['noise']", "CORRUPTION.SEVERITIES", "[1]", "CORRUPTION.TEST", "['fog']"]),
        ("corrupted", ["CORRUPTION.TEST", "['fog']", "SOLVER.STEPS", "[3]"]),
        ("bridge", ["CFAT.COARSE.WEIGHT", "0.5", "INPUT.SELF_ID", "True", "MODEL.PRETRAIN_PATH", "other.pth"]),
        ("align", ["CFAT.CLEAN.MAX_EPOCHS", "9", "CFAT.FINE.PRIOR_WEIGHT", "7.0", "CORRUPTION.TEST", "['fog']"]),
    ],
)
def test_settings_that_change_no_weight_of_the_stage(write_checkpoint, stage, opts):
    path, cfg = write_checkpoint(staged(stage)), staged(stage, *opts)
    assert can_resume(cfg, path, identity_of(cfg))


@pytest.mark.parametrize(
    ("stage", "opts", "message"),
    [
        ("clean", ["CFAT.CLEAN.MAX_EPOCHS", "4"], "CFAT.CLEAN.MAX_EPOCHS 3 there, 4 here"),
        ("corrupted", ["SOLVER.MAX_EPOCHS", "7"], "SOLVER.MAX_EPOCHS 120 there, 7 here"),
        ("align", ["CFAT.ALIGN.BASE_LR", "0.5"], "CFAT.ALIGN.BASE_LR 0.05 there, 0.5 here"),
        ("clean", ["SEED", "2", "INPUT.PADDING", "3"], "INPUT.PADDING 10 there, 3 here; SEED 1234 there, 2 here"),
        ("align", ["CFAT.COARSE.WEIGHT", "0.5"], "CFAT.COARSE.WEIGHT 1.0 there, 0.5 here"),
        ("corrupted", ["CORRUPTION.TRAIN", "['fog']"], r"CORRUPTION.TRAIN \['all'\] there, \['fog'\] here"),
        ("bridge", ["CFAT.FINE.PRIOR_WEIGHT", "0.5"], "CFAT.FINE.PRIOR_WEIGHT 0.001 there, 0.5 here"),
    ],
)
def test_settings_that_do(write_checkpoint, stage, opts, message):
    path, cfg = write_checkpoint(staged(stage)), staged(stage, *opts)
    with pytest.raises(UserError, match=rf"a\.pth was trained with other settings: {message}\. Give the same ones"):
        can_resume(cfg, path, identity_of(cfg))


@pytest.mark.parametrize(
    ("facts", "message"), [({"images": 37}, "images 36 there, 37 here"), ({"cameras": 6}, "cameras 3 there, 6 here")]
)
def test_another_training_set(write_checkpoint, facts, message):
    cfg = staged("clean")
    path = write_checkpoint(cfg)
    with pytest.raises(UserError, match=f"was trained with other training set: {message}. Give the same"):
        can_resume(cfg, path, identity_of(cfg, facts=FACTS | facts))


def test_images_of_other_content_under_the_same_names(write_checkpoint, request):
    cfg = staged("clean")
    path = write_checkpoint(cfg)
    other = identity_of(cfg, facts=FACTS | {"sha256": "b" * 64})
    if "earlier version" in request.node.name:  # which knows the counts alone
        assert can_resume(cfg, path, other)
        return
    with pytest.raises(UserError, match="other training set: sha256 aaaaaaaaaaaa... there, bbbbbbbbbbbb... here"):
        can_resume(cfg, path, other)


def test_the_training_set_of_an_earlier_version_is_compared_by_its_keys(tmp_path, caplog):
    caplog.set_level("INFO")
    cfg, other = staged("clean"), staged("clean", "DATASETS.SPLIT.SEED", "1")
    save_checkpoint(tmp_path / "a.pth", {}, {"config": cfg.dump(), **EARLIER})
    assert can_resume(cfg, tmp_path / "a.pth", identity_of(cfg))
    assert "a.pth is of an earlier version, which kept settings and counts" in caplog.text
    with pytest.raises(UserError, match="other settings: DATASETS.SPLIT.SEED 0 there, 1 here"):
        can_resume(other, tmp_path / "a.pth", identity_of(other))


def test_a_file_given_as_weights_and_an_earlier_stage_trained_again(tmp_path, caplog):
    there, here = ({"CFAT.CLEAN.WEIGHT": digit * 64} for digit in "ab")
    given = staged("align", "OUTPUT_DIR", str(tmp_path), "CFAT.CLEAN.WEIGHT", str(tmp_path / "given.pth"))
    own = staged("align", "OUTPUT_DIR", str(tmp_path))
    save_checkpoint(tmp_path / "a.pth", {}, {"identity": identity_of(given, initial=there).describe()})
    assert can_resume(given, tmp_path / "a.pth", identity_of(given, initial=there))
    with pytest.raises(UserError, match="other initial weights: CFAT.CLEAN.WEIGHT aaaaaaaaaaaa... there, bbbb"):
        can_resume(given, tmp_path / "a.pth", identity_of(given, initial=here))
    assert not can_resume(own, tmp_path / "a.pth", identity_of(own, initial=here))
    assert "stage align is trained again" in caplog.text
    assert "CFAT.CLEAN.WEIGHT aaaaaaaaaaaa... there, bbbbbbbbbbbb... here" in caplog.text


def test_a_run_that_starts_over_backs_up_an_earlier_state(tmp_path, caplog):
    cfg = make_cfg(tmp_path)
    data, _ = make_data()
    last = tmp_path / "checkpoints" / "clean_last.pth"
    last.parent.mkdir(parents=True)
    last.write_bytes(b"the only copy of a week")
    do_train(cfg, data, *build(cfg, data), device=CPU)
    assert "starts over; an earlier run that did not end left" in caplog.text
    assert (last.parent / "clean_last.1.pth").read_bytes() == b"the only copy of a week"
    assert sorted(path.name for path in last.parent.iterdir()) == ["clean.pth", "clean_last.1.pth"]


def test_a_finished_stage_is_not_trained_again(tmp_path):
    data, _ = make_data()
    training_set = {**FACTS, "images": 12}
    cfg = make_cfg(tmp_path, "SOLVER.RESUME", "auto")
    plan = RunPlan([cfg], training_set, lambda cfg: {})
    assert not plan.finished(cfg)
    do_train(cfg, data, *build(cfg, data), device=CPU, identity=plan.identity(cfg))
    assert plan.finished(cfg)
    assert not plan.finished(make_cfg(tmp_path))
    with pytest.raises(UserError, match=r"clean\.pth was trained with other settings: SEED"):
        RunPlan([make_cfg(tmp_path, "SOLVER.RESUME", "auto", "SEED", "9")], training_set, lambda cfg: {})


def test_what_a_checkpoint_says(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path)
    do_train(cfg, data, *build(cfg, data), device=CPU)
    meta = load_checkpoint(tmp_path / "checkpoints" / "clean.pth")["meta"]
    assert (meta["stage"], meta["epoch"], meta["num_classes"], meta["dataset"]) == ("clean", 3, 4, "rendered")
    assert {"python", "torch", "timm", "numpy", "imagecorruptions"} <= set(meta["versions"])


def test_other_versions_of_libraries_are_logged(tmp_path, caplog):
    cfg = staged("clean")
    meta = {"identity": identity_of(cfg).describe(), "versions": library_versions() | {"torch": "2.0.0"}}
    save_state(tmp_path / "a_last.pth", {}, TrainState("clean", epoch=2, history=[{}, {}]), {}, meta)
    assert can_resume(cfg, tmp_path / "a_last.pth", identity_of(cfg))
    assert f"torch 2.0.0 there, {torch.__version__.split('+')[0]}" in caplog.text
    assert "weights may differ" in caplog.text
    load_state(tmp_path / "a_last.pth", {}, state := TrainState("clean"), epochs=3)
    assert state.epoch == 2


def test_a_full_disk_is_reported_with_the_space_needed_and_free(tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir()
    save_checkpoint(tmp_path / "small.pth", {"model": {"a": torch.zeros(3)}}, {})
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mount)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted")
    try:
        shutil.copy(tmp_path / "small.pth", mount / "a.pth")
        with pytest.raises(UserError) as raised:
            save_checkpoint(mount / "a.pth", {"model": {"a": torch.rand(2**18)}}, {}, replace=True)
        assert (mount / "a.pth").read_bytes() == (tmp_path / "small.pth").read_bytes()
        assert [path.name for path in mount.iterdir()] == ["a.pth"]
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    text = str(raised.value)
    assert text.startswith(f"{mount / 'a.pth'}: could not be written")
    assert "the disk is full: the file takes about 1.0 MiB, 0.2 MiB are free in" in text
    assert "unexpected pos" not in text


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize("name", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])])
def test_rngs_are_resumed(name):
    def sample():
        numbers = torch.rand(3).tolist(), torch.rand(3, device=name).tolist()
        return *numbers, np.random.rand(3).tolist(), random.random(), np.random.standard_normal()

    sample()
    rngs = GlobalRNGs(torch.device(name))
    states = rngs.state_dict()
    expected = sample()
    sample()
    rngs.load_state_dict(states)
    assert sample() == expected
