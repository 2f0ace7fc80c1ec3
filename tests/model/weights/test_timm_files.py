"""Weights of timm models: pretrained files by several names, checkpoints of this project, and bare ones."""

import logging
import math
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import tests.tiny_timm  # noqa: F401
from config import load_cfg
from model import load_initial_weights, load_model, make_model
from model.weights.pretrained import load_pretrained
from tests.helpers import GOLDEN, golden_state
from tests.model.test_timm_backbone import COUNTS, make_base, make_cfg, rand
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

LINE = "parameters and buffers loaded"


@pytest.fixture(scope="module")
def golden():
    directory = os.environ.get("CFAT_GOLDEN")
    with np.load(Path(directory) / "pretrained_tiny.npz" if directory else GOLDEN / "dinov2_tiny.npz") as arrays:
        return {key: arrays[key] for key in arrays.files if key.startswith("dinov2")}


@pytest.mark.parametrize("size", [(56, 56), (112, 56)])
@pytest.mark.parametrize("case", ["dinov2", "dinov2_reg"])
@torch.no_grad()
def test_dinov2_computes_what_its_own_code_computes(case, size, golden, tmp_path, caplog):
    ending = "" if size == (56, 56) else "_112x56"
    if f"{case}/input{ending}" not in golden:
        pytest.skip("the small set of arrays has no such case; set CFAT_GOLDEN to the directory of the large one")
    torch.save(golden_state(golden, f"{case}/state/"), tmp_path / "dinov2.pth")
    base = make_base(f"tiny_{case}", size).eval()
    with caplog.at_level(logging.INFO):
        load_pretrained(base, str(tmp_path / "dinov2.pth"))
    embedding, tokens = base(torch.tensor(golden[f"{case}/input{ending}"]))
    np.testing.assert_allclose(embedding, golden[f"{case}/output{ending}"], atol=1e-5, rtol=0)
    if not ending:
        np.testing.assert_allclose(tokens.mean(dim=1), golden[f"{case}/output_patch_mean"], atol=1e-5, rtol=0)
    (line,) = [record.getMessage() for record in caplog.records if LINE in record.getMessage()]
    assert "left at their initial values: none; in the file and not used: " in line
    assert "register_tokens" not in line  # it is read, under another name


def cubic(distance):
    """Keys' cubic convolution with a = -0.75, as torch interpolates."""
    distance, a = abs(distance), -0.75
    if distance < 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0


def resize_by_hand(row, count):
    """A row of numbers resized by the factor (count + 0.1) / length, its ends repeated."""
    length, resized = len(row), []
    for place in range(count):
        source = (place + 0.5) * length / (count + 0.1) - 0.5
        taps = range(math.floor(source) - 1, math.floor(source) + 3)
        resized.append(sum(cubic(source - tap) * row[min(max(tap, 0), length - 1)] for tap in taps))
    return torch.stack(resized)


def test_positions_of_dinov2_are_resized_as_its_code_does(golden, tmp_path):
    state = golden_state(golden, "dinov2/state/")
    torch.save(state, tmp_path / "dinov2.pth")
    base = make_base("tiny_dinov2", (84, 28))
    load_pretrained(base, str(tmp_path / "dinov2.pth"))
    table = state["pos_embed"][0, 1:].reshape(4, 4, 24)
    expected = torch.stack([resize_by_hand(row, 2) for row in resize_by_hand(table, 6)])
    torch.testing.assert_close(base.pos_embed[0, 1:].reshape(6, 2, 24), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "size", "unused"),
    [
        ("tiny_dinov2_reg", (84, 28), "head.bias, head.weight"),
        ("tiny_swin", (64, 32), "head.fc.bias, head.fc.weight"),
        ("test_convnext", (64, 32), "head.fc.bias, head.fc.weight"),  # and its head.norm is read
        ("test_resnet", (64, 32), "fc.bias, fc.weight"),
    ],
)
def test_files_of_timm(name, size, unused, tmp_path, caplog):
    torch.manual_seed(1)
    source = timm.create_model(name, num_classes=5)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "timm.pth")
    base = make_base(name, size)
    with caplog.at_level(logging.INFO):
        load_pretrained(base, str(tmp_path / "timm.pth"))
    state, found = source.state_dict(), base.state_dict()
    same = [key for key, value in found.items() if value.shape == state[key].shape]
    assert all(torch.equal(found[key], state[key]) for key in same)
    assert {key.split(".")[0] for key in found.keys() - set(same)} <= {"pos_embed"}
    (line,) = [record.getMessage() for record in caplog.records if LINE in record.getMessage()]
    assert line.endswith(f"left at their initial values: none; in the file and not used: {unused}")


def test_a_position_table_of_several_grids_needs_the_image_size(tmp_path):
    def positions(img_size, **options):
        base = make_base("tiny_dinov2", (504, 252))
        load_pretrained(base, str(tmp_path / "other.pth"), img_size=img_size, **options)
        return base.pos_embed

    base = make_base("tiny_dinov2", (252, 112))  # 18 x 8 patches, as many as 12 x 12
    torch.save(base.state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match="positions of 144 patches.*set MODEL.PRETRAIN_SIZE"):
        load_pretrained(base, str(tmp_path / "other.pth"))
    assert not torch.equal(positions((252, 112)), positions((168, 168)))


def test_another_structure_is_one_error(tmp_path):
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "convnext.pth")
    with pytest.raises(UserError, match="holds another model; its names begin with stem"):
        load_pretrained(make_base("tiny_dinov2"), str(tmp_path / "convnext.pth"))
    torch.save({"pos_embed": torch.zeros(3), "patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "broken.pth")
    with pytest.raises(UserError, match="MODEL.PRETRAIN_PATH .*broken.pth: "):
        load_pretrained(make_base("tiny_dinov2"), str(tmp_path / "broken.pth"))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = make_model(make_cfg("tiny_dinov2_reg", "MODEL.STRIDE_SIZE", "[7, 7]"), **COUNTS).eval()
    torch.nn.init.normal_(model.base.sie_embed)
    return model


def extract(cfg, path, camids):
    model = load_model(cfg, str(path), num_cameras=3, num_views=1)
    return model.extract(rand(2, 3, 56, 28), camids)


@torch.no_grad()
def test_a_checkpoint_of_this_project_tells_its_model(trained, tmp_path):
    path, camids = tmp_path / "model.pth", torch.tensor([2, 0])
    cfg = make_cfg("tiny_dinov2_reg", "MODEL.STRIDE_SIZE", "[7, 7]")
    save_checkpoint(path, trained.export_state(), {"stage": "clean", "config": cfg.dump()})
    size = ["INPUT.SIZE_TRAIN", "[56, 28]", "INPUT.SIZE_TEST", "[56, 28]"]
    expected = trained.extract(rand(2, 3, 56, 28), camids)
    torch.testing.assert_close(extract(load_cfg(opts=size), path, camids), expected)  # MODEL.NAME transformer
    without = extract(load_cfg(opts=[*size, "MODEL.SIE_CAMERA", "False"]), path, camids)
    trained.base.sie_embed.data, table = (
        trained.base.sie_embed.mean(dim=0, keepdim=True).expand(3, -1, -1),
        (trained.base.sie_embed.data),
    )
    mean = trained.extract(rand(2, 3, 56, 28), camids)
    trained.base.sie_embed.data = table
    torch.testing.assert_close(without, mean)
    with pytest.raises(UserError, match=r"trained with INPUT.SIZE_TEST \[56, 28\], now \[256, 128\]|SIZE_TEST"):
        extract(load_cfg(), path, camids)


@torch.no_grad()
def test_a_bare_state_dict_is_what_the_configuration_says(trained, tmp_path):
    path, camids = tmp_path / "bare.pth", torch.tensor([2, 0])
    torch.save(trained.state_dict(), path)
    cfg = make_cfg("tiny_dinov2_reg", "MODEL.STRIDE_SIZE", "[7, 7]")
    torch.testing.assert_close(extract(cfg, path, camids), trained.extract(rand(2, 3, 56, 28), camids))
    with pytest.raises(UserError, match="does not fit the model"):
        extract(make_cfg("tiny_dinov2"), path, camids)
    convnext = make_model(make_cfg("test_convnext", "MODEL.SIE_CAMERA", "False"), **COUNTS)
    torch.save(convnext.state_dict(), path)
    with pytest.raises(UserError, match="no known model; .*MODEL.NAME timm"):
        extract(load_cfg(), path, camids)


def test_pixel_statistics_of_timm_that_are_not_the_configuration_s_are_logged(tmp_path, caplog):
    torch.save(timm.create_model("tiny_dinov2", num_classes=0).state_dict(), tmp_path / "timm.pth")
    for opts, expected in (([], 0), (["INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]"], 1)):
        caplog.clear()
        cfg = make_cfg("tiny_dinov2", "MODEL.PRETRAIN_PATH", str(tmp_path / "timm.pth"), *opts)
        with caplog.at_level(logging.INFO):
            load_initial_weights(cfg, make_model(cfg, **COUNTS))
        lines = [
            record.getMessage() for record in caplog.records if "timm's weights of tiny_dinov2" in record.getMessage()
        ]
        assert len(lines) == expected
