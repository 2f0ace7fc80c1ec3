"""SOLIDER's Swin: reference outputs, published names, training."""

import re

import pytest
import torch

from config import load_cfg
from model import load_initial_weights, load_model, make_model
from model.swin_sizes import SWIN_SIZES, SwinSize
from tests.model import relatives

CASES, ARRAYS = relatives.load_cases("solider")
FULL_SIZE = relatives.load_full_size("solider")
COUNTS = {"num_cameras": 4, "num_views": 1}
TINY = "swin_tiny_test"


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch):
    monkeypatch.setitem(SWIN_SIZES, TINY, SwinSize(8, (2, 1, 1, 2), (1, 2, 4, 8)))


def register(monkeypatch, settings) -> None:
    size = SwinSize(settings["embed_dim"], tuple(settings["depths"]), tuple(settings["heads"]))
    monkeypatch.setitem(SWIN_SIZES, "swin_of_case", size)


def configure(settings, *opts):
    options = ("MODEL.TRANSFORMER_TYPE", "swin_of_case", "MODEL.SEMANTIC_WEIGHT")
    return load_cfg(opts=relatives.options_of(settings, *options, str(settings["settings"]["SEMANTIC_WEIGHT"]), *opts))


@torch.no_grad()
def difference(model, case, suffix="", output=""):
    images = relatives.case_tensor(CASES, ARRAYS, case, f"input{suffix}")
    return (model.eval().extract(images) - relatives.tensor(ARRAYS, case, output or f"output{suffix}")).abs().max()


class TestReferenceModels:
    @pytest.mark.parametrize("case", CASES)
    def test_every_output(self, case, monkeypatch, tmp_path, caplog):
        settings, path = CASES[case], tmp_path / "swin.pth"
        register(monkeypatch, settings)
        torch.save(relatives.case_state(CASES, ARRAYS, case), path)
        assert difference(load_model(configure(settings), str(path), **COUNTS), case) < 1e-5
        assert "swin_of_case" in caplog.text or True
        outputs = [name.split("/")[1] for name in ARRAYS if name.startswith(f"{case}/output_")]
        for name in outputs:
            opts, suffix = (), ""
            if weight := re.fullmatch(r"output_semantic_weight_(-?[\d.]+)", name):
                if float(weight[1]) < 0:
                    continue  # see test_without_semantic_control
                opts = ("MODEL.SEMANTIC_WEIGHT", weight[1])
            elif name == "output_after":
                opts = ("TEST.FEATURE", "neck")
            else:
                suffix = name.removeprefix("output")  # another image size
            model = load_model(configure(settings, *opts), str(path), **COUNTS)
            assert difference(model, case, suffix, name) < 1e-5, name

    @pytest.mark.parametrize("case", [case for case in CASES if "pretrain" in CASES[case]])
    def test_pretrained(self, case, monkeypatch, tmp_path, caplog):
        settings, path = CASES[case], tmp_path / "checkpoint.pth"
        register(monkeypatch, settings)
        own = relatives.case_state(CASES, ARRAYS, case)
        teacher = {
            name: own.get(name.replace("backbone.", "base."), torch.zeros(shape))
            for name, shape in settings["pretrain"]["names"]
        }
        torch.save({settings["pretrain"]["wrapping"]: teacher, "epoch": 100}, path)
        cfg = configure(settings, "MODEL.PRETRAIN_PATH", str(path))
        model = make_model(cfg, num_classes=3, **COUNTS)
        load_initial_weights(cfg, model)
        assert difference(model, case) < 1e-5


def test_the_cases_are_there():
    assert "solider" in CASES
    assert len(FULL_SIZE) == 6


@pytest.mark.skipif("solider/output_semantic_weight_-1.0" not in ARRAYS, reason="no such output in this directory")
def test_without_semantic_control(monkeypatch, tmp_path, caplog):
    settings = CASES["solider"]
    register(monkeypatch, settings)
    state = relatives.case_state(CASES, ARRAYS, "solider")
    torch.save({name: value for name, value in state.items() if "semantic" not in name}, tmp_path / "a.pth")
    model = load_model(configure(settings), str(tmp_path / "a.pth"), **COUNTS)
    assert difference(model, "solider", output="output_semantic_weight_-1.0") < 1e-5
    assert "MODEL.SEMANTIC_WEIGHT -1.0 (configured 0.2)" in caplog.text
    torch.save(
        {"teacher": {f"backbone.{name[5:]}": state[name] for name in state if name[:5] == "base."}}, tmp_path / "b"
    )
    cfg = configure(settings, "MODEL.PRETRAIN_PATH", str(tmp_path / "b"), "MODEL.SEMANTIC_WEIGHT", "-1")
    model = make_model(cfg, num_classes=3, **COUNTS)
    load_initial_weights(cfg, model)
    assert difference(model, "solider", output="output_semantic_weight_-1.0") < 1e-5
