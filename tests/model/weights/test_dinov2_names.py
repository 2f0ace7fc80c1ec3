"""DINOv2's files, also those of its training, in timm's models: names and shapes, and features of the original code."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

from model.weights.model_file import read_model_file
from model.weights.published_names import to_own_names
from tests.helpers import GOLDEN, golden_state

TINY = {"img_size": 56, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
TIMM = {"dinov2": "vit_small_patch14_dinov2", "dinov2_reg": "vit_small_patch14_reg4_dinov2"}


@pytest.fixture(scope="module")
def golden():
    """CFAT_GOLDEN: a directory with the same arrays of other seeds."""
    directory = os.environ.get("CFAT_GOLDEN")
    path = Path(directory) / "pretrained_tiny.npz" if directory else GOLDEN / "dinov2_tiny.npz"
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("dinov2")}


def in_chunks(state: dict, size: int) -> dict:
    """As DINOv2's training saves: blocks.CHUNK.N., where N counts through."""
    parts = {name: name.split(".") for name in state if name.startswith("blocks.")}
    chunked = {name: ".".join(["blocks", str(int(part[1]) // size), *part[1:]]) for name, part in parts.items()}
    return {chunked.get(name, name): value for name, value in state.items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", TIMM)
def test_features_of_the_original(case, training, golden, tmp_path):
    state = golden_state(golden, f"{case}/state/")
    content = state
    if training:
        content = {"teacher": {f"backbone.{name}": value for name, value in in_chunks(state, 1).items()}}
        assert "backbone.blocks.1.1.norm1.weight" in content["teacher"]
    torch.save(content, tmp_path / "dinov2.pth")
    model = timm.create_model(TIMM[case], **TINY).eval()
    model.load_state_dict(checkpoint_filter_fn(read_model_file(tmp_path / "dinov2.pth").state, model))
    with torch.no_grad():
        tokens = model.forward_features(torch.tensor(golden[f"{case}/input"]))
    patches = tokens[:, model.num_prefix_tokens :]
    np.testing.assert_allclose(tokens[:, 0], golden[f"{case}/output"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(patches.mean(dim=1), golden[f"{case}/output_patch_mean"], rtol=0, atol=1e-5)


def original_shapes(width: int, depth: int, *, registers: bool, swiglu: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of DINOv2's files, from its code."""
    block = {
        **{f"{norm}.{kind}": (width,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")},
        **{"attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,)},
        **{
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "ls1.gamma": (width,),
            "ls2.gamma": (width,),
        },
    }
    hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8 if swiglu else 4 * width
    first, second = ("mlp.w12", "mlp.w3") if swiglu else ("mlp.fc1", "mlp.fc2")
    rows = 2 * hidden if swiglu else hidden
    block |= {f"{first}.weight": (rows, width), f"{first}.bias": (rows,)}
    block |= {f"{second}.weight": (width, hidden), f"{second}.bias": (width,)}
    return {
        **{"cls_token": (1, 1, width), "pos_embed": (1, 1370, width), "mask_token": (1, width)},
        **({"register_tokens": (1, 4, width)} if registers else {}),
        **{"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)},
        **{f"blocks.{index}.{name}": shape for index in range(depth) for name, shape in block.items()},
        **{"norm.weight": (width,), "norm.bias": (width,)},
    }


@pytest.mark.parametrize("chunks", [0, 4])
@pytest.mark.parametrize("registers", [True, False])
@pytest.mark.parametrize(
    ("name", "width", "depth"), [("small", 384, 12), ("base", 768, 12), ("large", 1024, 24), ("giant", 1536, 40)]
)
def test_names_and_shapes_at_full_size(name, width, depth, registers, chunks):
    shapes = original_shapes(width, depth, registers=registers, swiglu=name == "giant")
    with torch.device("meta"):
        model = timm.create_model(f"vit_{name}_patch14_{'reg4_' if registers else ''}dinov2", num_classes=0)
        state = {key: torch.empty(shape) for key, shape in shapes.items()}
    state = in_chunks(state, depth // chunks) if chunks else state
    found = checkpoint_filter_fn(to_own_names(state)[0], model)
    assert {key: value.shape for key, value in found.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


@pytest.mark.skipif("CFAT_GOLDEN" not in os.environ, reason="needs the lists of the directory in CFAT_GOLDEN")
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("dinov2_vits14", "timm vit_small_patch14_dinov2"),
        ("dinov2_vits14_reg", "timm vit_small_patch14_reg4_dinov2"),
        ("timm vit_base_patch16_224.mae", "timm vit_base_patch16_224.mae"),
    ],
)
def test_listed_names_and_shapes(theirs, ours):
    text = (Path(os.environ["CFAT_GOLDEN"]) / "pretrained_tiny.json").read_text(encoding="utf-8")
    lists = json.loads(text)["full_size"]
    name = ours.removeprefix("timm ")
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in lists[theirs]}
        model = timm.create_model(name.removesuffix(".mae"), num_classes=0)
    found = checkpoint_filter_fn(to_own_names(state)[0], model)
    assert {name: list(value.shape) for name, value in found.items()} == dict(lists[ours])


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_resnet"])
def test_names_of_other_models_stay(name):
    """EfficientNet's blocks are numbered by stage and by place in it."""
    state = timm.create_model(name).state_dict()
    assert to_own_names(state) == (state, ())


def test_two_blocks_of_one_number_are_left_to_the_loader():
    state = {"cls_token": torch.ones(1), "blocks.0.1.norm1.bias": torch.ones(1), "blocks.1.1.norm1.bias": torch.ones(1)}
    assert to_own_names(state) == (state, ())
    state = {"cls_token": torch.ones(1), "blocks.0.1.norm1.bias": torch.ones(1), "blocks.1.norm1.bias": torch.ones(1)}
    assert to_own_names(state) == (state, ())
