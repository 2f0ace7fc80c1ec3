"""Saving and loading checkpoints; files that cannot be loaded."""

import os

import pytest
import torch

from model.weights.state_dicts import find_model
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError


def test_checkpoint_round_trip_and_previous_run(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "clean.pth"
    for number, value in enumerate((1.0, 2.0, 2.0)):  # the third is the second again: nothing to keep
        monkeypatch.setattr(os, "getpid", lambda number=number: 1000 + number)  # runs are processes of their own
        save_checkpoint(path, {"model": {"weight": torch.full((2,), value)}}, {"stage": "clean", "epoch": 3})
    content = load_checkpoint(path)
    assert content["meta"] == {"stage": "clean", "epoch": 3}
    assert find_model(content, path)[0]["weight"].tolist() == [2.0, 2.0]
    earlier = load_checkpoint(path.with_name("clean.1.pth"))
    assert earlier["model"]["weight"].tolist() == [1.0, 1.0]
    assert sorted(file.name for file in path.parent.iterdir()) == ["clean.1.pth", "clean.pth"]


@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"state_dict": state}, lambda state: {"model": state}]
)
def test_released_wrappings(tmp_path, wrap):
    path = tmp_path / "released.pth"
    torch.save(wrap({"module.base.norm.weight": torch.ones(3)}), path)
    assert list(find_model(load_checkpoint(path), path)[0]) == ["base.norm.weight"]


class Arbitrary:
    pass


def test_unreadable_checkpoints(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_checkpoint(tmp_path / "missing.pth")
    torch.save({"model": Arbitrary()}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="arbitrary unpickling"):
        load_checkpoint(tmp_path / "code.pth")
    torch.save({"model": {"w": torch.zeros(1000)}}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cut\.pth"):
        load_checkpoint(tmp_path / "cut.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"text\.pth"):
        load_checkpoint(tmp_path / "text.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    with pytest.raises(UserError, match="holds a Tensor"):
        load_checkpoint(tmp_path / "tensor.pth")
