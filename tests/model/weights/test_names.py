"""DINOv2's names as timm's: names and shapes at full size, and features of the original code."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.layers import SwiGLUPacked

from model.weights.model_file import read_model_file
from model.weights.names import timm_names
from tests.helpers import GOLDEN, golden_state
from utils.errors import UserError

TINY = {"img_size": 56, "patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
TIMM = {"dinov2": "vit_small_patch14_dinov2", "dinov2_reg": "vit_small_patch14_reg4_dinov2"}


@pytest.fixture(scope="module")
def golden():
    """CFAT_GOLDEN: a directory with the same arrays of other seeds."""
    directory = os.environ.get("CFAT_GOLDEN")
    path = Path(directory) / "pretrained_tiny.npz" if directory else GOLDEN / "dinov2_tiny.npz"
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files if name.startswith("dinov2")}


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("case", TIMM)
def test_features_of_the_original(case, wrapped, golden, tmp_path):
    state = golden_state(golden, f"{case}/state/")
    content = state
    if wrapped:  # as DINOv2's training saves: blocks in chunks, the last of which begins with nothing
        chunked = {
            name.replace("blocks.1.", "blocks.1.1.").replace("blocks.0.", "blocks.0.0."): state[name] for name in state
        }
        content = {"teacher": {f"backbone.{name}": value for name, value in chunked.items()}}
    torch.save(content, tmp_path / "dinov2.pth")
    model = timm.create_model(TIMM[case], **TINY).eval()
    model.load_state_dict(timm_names(read_model_file(tmp_path / "dinov2.pth").state))
    with torch.no_grad():
        tokens = model.forward_features(torch.tensor(golden[f"{case}/input"]))
    patches = tokens[:, model.num_prefix_tokens :]
    np.testing.assert_allclose(tokens[:, 0], golden[f"{case}/output"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(patches.mean(dim=1), golden[f"{case}/output_patch_mean"], rtol=0, atol=1e-5)


def test_positions_are_resized_by_timm(golden):
    model = timm.create_model(TIMM["dinov2_reg"], **{**TINY, "img_size": (112, 56)}).eval()
    state = timm_names(golden_state(golden, "dinov2_reg/state/"))
    state = timm.models.vision_transformer.checkpoint_filter_fn(state, model)
    model.load_state_dict(state)
    with torch.no_grad():
        tokens = model.forward_features(torch.tensor(golden["dinov2_reg/input_112x56"]))
    np.testing.assert_allclose(tokens[:, 0], golden["dinov2_reg/output_112x56"], rtol=0, atol=1e-5)


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
    if chunks:
        size = depth // chunks
        state = {_in_chunk(key, size): value for key, value in state.items()}
        assert "blocks.3." + str(3 * size) + ".norm1.weight" in state
    found = {key: value.shape for key, value in timm_names(state).items()}
    assert found == {key: value.shape for key, value in model.state_dict().items()}


def _in_chunk(name: str, size: int) -> str:
    parts = name.split(".")
    return ".".join(["blocks", str(int(parts[1]) // size), *parts[1:]]) if parts[0] == "blocks" else name


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
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in lists[theirs]}
    assert {name: list(value.shape) for name, value in timm_names(state).items()} == dict(lists[ours])


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_reg4_dinov2", "test_convnext", "test_resnet"])
def test_names_of_timm_stay(name):
    state = timm.create_model(name).state_dict()
    assert timm_names(state) == state


def test_the_file_is_not_changed(golden):
    state = golden_state(golden, "dinov2_reg/state/")
    names, token = list(state), state["cls_token"].clone()
    timm_names(state)
    assert list(state) == names
    assert torch.equal(state["cls_token"], token)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos_embed": None}, "register_tokens without cls_token"),
        ({"pos_embed": torch.zeros(17, 24)}, "register_tokens without cls_token"),
        ({"cls_token": torch.zeros(1, 1, 12)}, "register_tokens without cls_token"),
        ({"blocks.0.0.norm1.bias": torch.zeros(24)}, "holds blocks.0.norm1.bias twice"),
        ({"blocks.1.mlp.w3.bias": torch.zeros(24)}, "holds blocks.1.mlp.fc2.bias twice"),
    ],
)
def test_broken_files(change, message, golden):
    state = golden_state(golden, "dinov2_reg/state/") | change
    with pytest.raises(UserError, match=f"a.pth: {message}"):
        timm_names({name: value for name, value in state.items() if value is not None}, source="a.pth")


def test_the_giant_model_computes_as_the_original(golden):
    """Its feed-forward network: w3(silu(x1) * x2), where w12 gives x1 and x2."""
    torch.manual_seed(0)
    first, second, tokens = torch.nn.Linear(24, 32), torch.nn.Linear(16, 24), torch.rand(2, 3, 24)
    mlp = SwiGLUPacked(24, 32)
    named = {"mlp.w12.weight": first.weight, "mlp.w12.bias": first.bias}
    named |= {"mlp.w3.weight": second.weight, "mlp.w3.bias": second.bias}
    state = timm_names({f"blocks.0.{name}": value.detach() for name, value in named.items()})
    mlp.load_state_dict({name.removeprefix("blocks.0.mlp."): value for name, value in state.items()})
    left, right = first(tokens).chunk(2, dim=-1)
    torch.testing.assert_close(mlp(tokens), second(torch.nn.functional.silu(left) * right))
