"""Which state dict of a file is read: entries, prefixes, averages beside trained weights."""

import logging

import pytest
import torch

from model.weights.model_file import read_model_file
from model.weights.state_dicts import find_model
from utils.errors import UserError


def reid(number: float) -> dict:
    return {"base.cls_token": torch.full((1,), number), "bottleneck.weight": torch.full((2,), number)}


def bare(number: float) -> dict:
    return {"cls_token": torch.full((1,), number), "norm.weight": torch.full((2,), number)}


def below(prefix: str, state: dict) -> dict:
    return {f"{prefix}.{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "content",
    [
        reid(1),
        {"model": reid(1), "meta": {}},
        {"state_dict": below("model", reid(1)), "epoch": 3},
        {"weights": reid(1)},  # an entry of any name
        {"ema": reid(1), "epoch": 3},
        {"state_dict_ema": below("module", reid(1)), "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}},
        below("module", below("_orig_mod", reid(1))),
        {"net": {"state_dict": below("_orig_mod", below("module", reid(1)))}},
        {**below("encoder_q", reid(1)), "queue": torch.zeros(9)},
        {"n_averaged": torch.tensor(3), **below("module", below("model", reid(1)))},
        {"model": reid(1), "bridge": {"encoder.mu.weight": torch.zeros(1)}},
        {"model": reid(1), "teacher": below("backbone", bare(9))},
    ],
)
def test_one_model_wherever_it_lies(content):
    state, _ = find_model(content, "a.pth")
    assert all(torch.equal(state[name], value) for name, value in reid(1).items())
    assert not any(name.startswith(("module", "model", "encoder_q", "queue")) for name in state)


@pytest.mark.parametrize("prefix", ["backbone", "model", "encoder_q", "module.encoder_q", "module.backbone", "student"])
def test_prefixes_of_backbones_are_removed_and_logged_once(prefix, tmp_path, caplog):
    torch.save({"state_dict": below(prefix, bare(1)) | {"head.weight": torch.zeros(1)}}, tmp_path / "a.pth")
    with caplog.at_level(logging.INFO):
        file = read_model_file(tmp_path / "a.pth")
    assert set(file.state) == set(bare(1))
    (line,) = [record.message for record in caplog.records]
    assert prefix.removeprefix("module.") in line


@pytest.mark.parametrize("make", [reid, bare])
@pytest.mark.parametrize(
    ("raw", "average"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "model_ema"),
        ("model", "ema"),
        ("net", "ema_state_dict"),
        ("model", "teacher"),
        ("state_dict", "swa_model"),
        ("model", "averaged_model"),
        ("encoder_q", "encoder_k"),
        ("model", "momentum_encoder"),
    ],
)
def test_averages_beside_raw_weights(make, raw, average):
    for content in ({raw: make(1), average: make(2)}, {average: below("module", make(2)), raw: make(1)}):
        state, note = find_model(content, "a.pth")
        assert next(iter(state.values())) == 1
        assert f"the weights of '{raw}' are read, not those of '{average}' (MODEL.CHECKPOINT_ENTRY chooses)" in note
        assert next(iter(find_model(content, "a.pth", entry=average)[0].values())) == 2
        assert next(iter(find_model(content, "a.pth", entry=raw)[0].values())) == 1
    with pytest.raises(UserError, match=f"holds 2 models, .*'{average}'.*MODEL.CHECKPOINT_ENTRY 'x' names none"):
        find_model(content, "a.pth", entry="x")


def test_averages_under_prefixes_of_one_state_dict():
    content = {"state_dict": below("model", reid(1)) | below("ema_model", reid(2))}
    assert find_model(content, "a.pth")[0]["base.cls_token"] == 1
    assert find_model(content, "a.pth", entry="ema_model")[0]["base.cls_token"] == 2


def test_student_and_teacher():
    """Self-distilled backbones are read from the teacher, as their code does; of re-identification models, neither."""
    content = {"student": below("module.backbone", bare(1)), "teacher": below("backbone", bare(2)), "epoch": 9}
    assert find_model(content, "a.pth")[0]["cls_token"] == 2
    assert find_model(content, "a.pth", entry="student")[0]["cls_token"] == 1
    content = below("student", reid(1)) | below("teacher", reid(2))
    with pytest.raises(UserError, match="holds 2 models, 'student', 'teacher'; set MODEL.CHECKPOINT_ENTRY"):
        find_model(content, "a.pth")
    assert find_model(content, "a.pth", entry="teacher")[0]["base.cls_token"] == 2


def test_an_average_that_cannot_be_read_is_noted():
    content = {"model": reid(1), "ema": {"shadow_params": [torch.zeros(1)], "decay": 0.9}}
    state, note = find_model(content, "a.pth")
    assert state["base.cls_token"] == 1
    assert "'ema' holds no names of a model and is not read" in note


@pytest.mark.parametrize("entry", [True, False])
@pytest.mark.parametrize("average", ["ema_net", "net_ema", "swa_model", "averaged_model", "model_ema"])
def test_averages_whose_prefix_is_any_name_for_one(entry, average):
    content = below("net", reid(1)) | below(average, reid(2))
    content = {"state_dict": content} if entry else content
    state, note = find_model(content, "a.pth")
    assert state["base.cls_token"] == 1
    label = f"state_dict.{average}" if entry else average
    assert f"not those of {label!r} (MODEL.CHECKPOINT_ENTRY chooses)" in note
    assert "holds no names" not in note
    assert find_model(content, "a.pth", entry=average)[0]["base.cls_token"] == 2


@pytest.mark.parametrize("content", [{"model": reid(1)}, reid(1), {"state_dict": below("net", reid(1))}])
def test_an_entry_that_the_only_model_is_not_is_told(content):
    state, note = find_model(content, "a.pth", entry="ema")
    assert state["base.cls_token"] == 1
    assert "its only model; none is MODEL.CHECKPOINT_ENTRY 'ema'" in note


def test_the_state_of_a_training_is_no_checkpoint():
    content = {"training": {"model": reid(1), "progress": {}}, "meta": {}}
    with pytest.raises(UserError, match="the state of an unfinished training run; continue it with SOLVER.RESUME auto"):
        find_model(content, "a.pth")


def test_names_twice():
    with pytest.raises(UserError, match="holds base.cls_token twice, with and without module"):
        find_model(reid(1) | below("module", reid(2)), "a.pth")


def test_prefixes_that_say_something_stay():
    state, _ = find_model({"state_dict": below("image_encoder", bare(1))}, "a.pth")
    assert "image_encoder.cls_token" in state
