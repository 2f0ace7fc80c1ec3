"""CLIP-ReID's image encoder: reference outputs, published names, camera vectors, training."""

import pytest
import torch

from config import load_cfg
from model import load_initial_weights, load_model, make_model
from model.clip_sizes import CLIP_SIZES, ClipSize
from model.vit_sizes import ViTSize
from tests.model import relatives

CASES, ARRAYS = relatives.load_cases("clip_reid")
FULL_SIZE = relatives.load_full_size(("clip_reid", "openai"))
COUNTS = {"num_cameras": 4, "num_views": 1}
TINY = "ViT-T-16"


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch):
    monkeypatch.setitem(CLIP_SIZES, TINY, ClipSize(ViTSize(24, 3, 3), 16))


def configure(monkeypatch, settings, *opts):
    vit = ViTSize(settings["embed_dim"], settings["depth"], settings["heads"])
    monkeypatch.setitem(CLIP_SIZES, "clip_of_case", ClipSize(vit, settings["proj_dim"]))
    given, rows_columns = settings["settings"], settings["settings"]["STRIDE_SIZE"]
    return load_cfg(
        opts=relatives.options_of(
            settings,
            *("MODEL.TRANSFORMER_TYPE", "clip_of_case", "MODEL.STRIDE_SIZE", str(rows_columns)),
            *("MODEL.SIE_COE", str(given["SIE_COE"]), *opts),
        )
    )


@torch.no_grad()
def features_of(model, case, images="input"):
    cameras, views = (relatives.case_tensor(CASES, ARRAYS, case, name) for name in ("cam", "view"))
    return model.eval().extract(relatives.case_tensor(CASES, ARRAYS, case, images), cameras, views)


class TestReferenceModels:
    @pytest.mark.parametrize("case", CASES)
    def test_output(self, case, monkeypatch, tmp_path):
        torch.save(relatives.case_state(CASES, ARRAYS, case), tmp_path / "a.pth")
        settings = CASES[case]
        counts = {"num_cameras": settings["camera_num"], "num_views": settings["view_num"]}
        model = load_model(configure(monkeypatch, settings), str(tmp_path / "a.pth"), **counts)
        assert (features_of(model, case) - relatives.tensor(ARRAYS, case, "output")).abs().max() < 1e-5

    @pytest.mark.parametrize("case", [case for case in CASES if "pretrain" in CASES[case]])
    def test_pretrained(self, case, monkeypatch, tmp_path):
        settings = CASES[case]
        torch.save(relatives.state_below(ARRAYS, f"{case}/pretrain/"), tmp_path / "clip.pt")
        settings = {**settings, "size": settings["pretrain"]["model_size"]}
        cfg = configure(monkeypatch, settings, "MODEL.PRETRAIN_PATH", str(tmp_path / "clip.pt"))
        model = make_model(cfg, num_classes=3, **COUNTS)
        load_initial_weights(cfg, model)
        found = features_of(model, case, "pretrain_input")
        assert (found - relatives.tensor(ARRAYS, case, "pretrain_output")).abs().max() < 1e-5
