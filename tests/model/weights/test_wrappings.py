"""Files as pre-training codes write them: each is a real file, from which one model is read and the rest is listed."""

import argparse
import collections
import logging
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model.vit import TransReIDViT
from model.weights.model_file import read_model_file
from model.weights.pretrained import load_pretrained
from model.weights.state_dicts import find_model
from tests.model.test_cfat import SMALL, make
from tests.model.weights.test_load_model import load
from tests.model.weights.test_pretrained import SIZE, make_base
from tests.model.weights.test_state_dicts import below
from utils.checkpoints import load_checkpoint
from utils.errors import UserError

ARGS = argparse.Namespace(arch="vit_small", lr=5e-4, local_crops_scale=(0.05, 0.4), output_dir="logs", seed=None)
MM_META = {"mmcv_version": "1.7.0", "time": "Mon", "config": "model = dict(\n    type='MoCo',\n    queue_len=65536)\n"}
DINO_HEAD = {f"mlp.{layer}.{kind}": torch.zeros(2, 2) for layer in (0, 2, 4) for kind in ("weight", "bias")}
DINO_HEAD |= {"last_layer.weight_g": torch.ones(2, 1), "last_layer.weight_v": torch.ones(2, 2)}
PASS_HEAD = {f"mlp_{part}.0.weight": torch.zeros(2, 2) for part in ("cls", "pt1", "pt2", "pt3")}
PASS_HEAD |= {f"last_layer_{part}.weight_g": torch.ones(2, 1) for part in ("cls", "pt1", "pt2", "pt3")}
DECODER = {
    "mask_token": torch.zeros(1, 1, 8),
    "decoder_pos_embed": torch.zeros(1, 5, 8),
    "decoder_embed.weight": torch.zeros(8, 24),
    "decoder_blocks.0.norm1.weight": torch.zeros(8),
}


def dino(teacher: dict, student: dict, *, prefix: str = "backbone", head: dict = DINO_HEAD, **more) -> dict:
    """As main_dino.py and main_ibot.py save: the student is always wrapped by DistributedDataParallel."""
    return {
        "student": below("module.backbone", student) | below("module.head", head),
        "teacher": below(prefix, teacher) | below(prefix.replace("backbone", "head"), head),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "epoch": 100,
        "args": ARGS,
        "fp16_scaler": {"scale": 65536.0, "growth_factor": 2.0},
        **(more or {"dino_loss": {"center": torch.zeros(1, 2)}}),
    }


def state_and_other() -> tuple[dict, dict]:
    """The state dict to be found, and another of the same names and shapes."""
    state = make_base().state_dict()
    return state, {name: value + 1 for name, value in state.items()}


STATE, OTHER = state_and_other()
# What is in a file, and the log line on what is read of it.
WRAPPINGS = {
    "dino": (
        dino(STATE, OTHER),
        "the weights of 'teacher.backbone' are read, not those of 'student.backbone' (MODEL.CHECKPOINT_ENTRY chooses); "
        "left out: head.* (8)",
    ),
    "dino_with_batch_norm": (
        dino(STATE, OTHER, prefix="module.backbone"),
        "the weights of 'teacher.backbone' are read, not those of 'student.backbone' (MODEL.CHECKPOINT_ENTRY chooses); "
        "left out: head.* (8)",
    ),
    "pass": (
        dino(STATE, OTHER, head=PASS_HEAD),
        "the weights of 'teacher.backbone' are read, not those of 'student.backbone' (MODEL.CHECKPOINT_ENTRY chooses); "
        "left out: head.* (8)",
    ),
    "ibot": (
        dino(STATE, {**OTHER, "masked_embed": torch.zeros(1, 24)}, ibot_loss={"center2": torch.zeros(1, 1, 2)}),
        "the weights of 'teacher.backbone' are read, not those of 'student.backbone' (MODEL.CHECKPOINT_ENTRY chooses); "
        "left out: head.* (8)",
    ),
    "dino_converted": (
        below("backbone", STATE) | below("head", DINO_HEAD),
        "the weights of 'backbone' are read; left out: head.* (8)",
    ),
    "dinov2_training": (
        {
            "model": below("student.backbone", {**OTHER, "mask_token": torch.zeros(1, 24)})
            | below("teacher.backbone", {**STATE, "mask_token": torch.zeros(1, 24)})
            | below("teacher.dino_head", DINO_HEAD),
            "iteration": 3,
        },
        "the weights of 'model.teacher.backbone' are read, not those of 'model.student.backbone' "
        "(MODEL.CHECKPOINT_ENTRY chooses); left out: teacher.* (8)",
    ),
    "msn": (
        {
            "encoder": below("module", OTHER | {"fc.fc1.weight": torch.zeros(2, 2)}),
            "target_encoder": below("module", STATE | {"fc.fc1.weight": torch.zeros(2, 2)}),
            "prototypes": torch.zeros(2, 2),
            "epoch": 3,
        },
        "the weights of 'target_encoder' are read, not those of 'encoder' (MODEL.CHECKPOINT_ENTRY chooses)",
    ),
    "mae": (
        {"model": STATE | DECODER, "optimizer": {}, "epoch": 799, "scaler": {"scale": 1.0}, "args": ARGS},
        "left out: decoder_* (3)",
    ),
    "mae_released": ({"model": STATE}, ""),
    "hap": (
        {"epoch": 300, "arch": "mae_vit_base", "model": below("mae", STATE | DECODER), "optimizer": {}, "scaler": {}},
        "the weights of 'model.mae' are read; left out: decoder_* (3)",
    ),
    "moco_v3": (
        {
            "arch": "vit_base",
            "state_dict": below("module.base_encoder", STATE | {"head.0.weight": torch.zeros(2, 2)})
            | below("module.momentum_encoder", OTHER)
            | below("module.predictor", {"0.weight": torch.zeros(2, 2), "1.bias": torch.zeros(2)}),
        },
        "the weights of 'state_dict.base_encoder' are read, not those of 'state_dict.momentum_encoder' "
        "(MODEL.CHECKPOINT_ENTRY chooses); left out: predictor.* (2)",
    ),
    "byol": (
        below("online_network", STATE) | below("target_network", OTHER) | {"projector.net.0.weight": torch.zeros(2)},
        "the weights of 'online_network' are read, not those of 'target_network' (MODEL.CHECKPOINT_ENTRY chooses); "
        "left out: projector.* (1)",
    ),
    "mmpretrain": (
        {
            "meta": MM_META,
            "state_dict": below("backbone", STATE)
            | {"head.layers.head.weight": torch.zeros(2, 24), "data_preprocessor.mean": torch.zeros(3)},
        },
        "the weights of 'state_dict.backbone' are read; left out: head.* (1), data_preprocessor.* (1)",
    ),
    "lightning": (
        {
            "epoch": 3,
            "pytorch-lightning_version": "2.1.0",
            "state_dict": below("net.model", STATE) | {"criterion.weight": torch.zeros(2)},
            "hyper_parameters": {"lr": 0.1, "names": ["a"]},
            "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
            "loops": {"fit_loop": {"state_dict": {}}},
        },
        "the weights of 'state_dict.net.model' are read; left out: criterion.* (1)",
    ),
    "ignite": (
        {"model": below("module", STATE), "optimizer": {"state": {}}, "trainer": {"epoch_length": 9, "iteration": 90}},
        "",
    ),
    "sequential": (below("0", STATE) | {"1.weight": torch.zeros(2)}, "the weights of '0' are read; left out: 1.* (1)"),
}


def lines_of(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.name.endswith("model_file")]


@pytest.mark.parametrize("name", WRAPPINGS)
def test_pretrained_files(name, tmp_path, caplog):
    content, note = WRAPPINGS[name]
    path = tmp_path / f"{name}.pth"
    torch.save(content, path)
    torch.manual_seed(1)
    base = TransReIDViT((32, 32), SIZE)
    with caplog.at_level(logging.INFO):
        load_pretrained(base, str(path))
    for parameter, value in base.state_dict().items():
        assert torch.equal(value, STATE[parameter]), parameter
    assert lines_of(caplog) == ([f"checkpoint {path}: {note}"] if note else [])
    if "mask_token" in str(content):
        assert "in the file and not used: mask_token" in caplog.text


@pytest.mark.parametrize(
    ("name", "entry"), [("dino", "student"), ("ibot", "student"), ("msn", "encoder"), ("moco_v3", "momentum_encoder")]
)
def test_the_entry_chooses(name, entry, tmp_path):
    torch.save(WRAPPINGS[name][0], tmp_path / "a.pth")
    base = TransReIDViT((32, 32), SIZE)
    load_pretrained(base, str(tmp_path / "a.pth"), entry=entry)
    assert torch.equal(base.norm.weight, OTHER["norm.weight"])


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.encoder_q."])
def test_safetensors(prefix, tmp_path):
    save_file({f"{prefix}{name}": value for name, value in (STATE | DECODER).items()}, tmp_path / "a.safetensors")
    base = TransReIDViT((32, 32), SIZE)
    load_pretrained(base, str(tmp_path / "a.safetensors"))
    assert torch.equal(base.pos_embed, STATE["pos_embed"])


@pytest.mark.parametrize("legacy", [True, False])
def test_a_namespace_beside_a_model_to_test(legacy, tmp_path):
    model = make("clean")
    content = {"state_dict": below("module.model", model.state_dict()), "args": ARGS, "hparams": [ARGS]}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    loaded = load(tmp_path / "a.pth", *SMALL, num_cameras=3)
    assert torch.equal(loaded.base.norm.weight, model.base.norm.weight)


@pytest.mark.parametrize("prefix", ["module.encoder_q", "module.base_encoder", "backbone", "model", "module.0"])
def test_residual_networks_of_moco_and_lup(prefix, tmp_path, caplog):
    state = {"conv1.weight": torch.ones(2), "layer1.0.conv1.weight": torch.ones(3), "fc.0.weight": torch.ones(4)}
    average = below("module.encoder_k", {name: value * 2 for name, value in state.items()})
    queue = {"module.queue": torch.zeros(2, 4), "module.queue_ptr": torch.zeros(1)}
    torch.save({"epoch": 199, "arch": "resnet50", "state_dict": below(prefix, state) | average | queue}, tmp_path / "a")
    with caplog.at_level(logging.INFO):
        file = read_model_file(tmp_path / "a")
    assert {name: value.sum() for name, value in file.state.items()} == {
        "conv1.weight": 2,
        "layer1.0.conv1.weight": 3,
        "fc.0.weight": 4,
    }
    (line,) = lines_of(caplog)
    label = f"state_dict.{prefix.removeprefix('module.')}"
    assert f"the weights of {label!r} are read, not those of 'state_dict.encoder_k'" in line
    assert line.endswith("left out: queue, queue_ptr")


@pytest.mark.parametrize(
    "first",
    [
        "patch_embed.projection.weight",  # SOLIDER's Swin, mmseg's and mmpretrain's ViT
        "patch_embed.proj.weight",  # timm's Swin and ViTs without class token
        "stem.0.weight",  # timm's ConvNeXt
        "downsample_layers.0.0.weight",  # the original ConvNeXt
        "conv_stem.weight",
    ],
)
def test_backbones_by_their_first_layers(first, tmp_path):
    torch.save(dino({first: torch.ones(1)}, {first: torch.zeros(1)}), tmp_path / "a.pth")
    assert read_model_file(tmp_path / "a.pth").state == {first: torch.ones(1)}
    torch.save({"state_dict": below("module", below("base", {first: torch.ones(1)}))}, tmp_path / "a.pth")
    assert read_model_file(tmp_path / "a.pth").state == {f"base.{first}": torch.ones(1)}


def test_models_that_nothing_ranks_are_an_error(tmp_path):
    for content in (
        {"student": below("base", STATE), "teacher": below("base", OTHER)},
        {"encoder": below("base", STATE), "target_encoder": below("base", OTHER)},
        {"first": STATE, "second": OTHER},
        {"state_dict": below("encoder", STATE) | below("backbone", OTHER)},
    ):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(UserError, match=r"holds 2 models, '.*'; set MODEL.CHECKPOINT_ENTRY to the one to read"):
            read_model_file(tmp_path / "a.pth")


class HistoryBuffer:
    """As of a training library, in a file that holds more than weights."""


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ({"message_hub": HistoryBuffer()}, r"test_wrappings.HistoryBuffer"),
        ({"best_mAP": np.float64(0.9)}, r"numpy.*scalar"),
        ({"args": argparse.Namespace(output_dir=pathlib.PurePosixPath("logs"))}, r"pathlib.PurePosixPath"),
        ({"args": argparse.Namespace(buffer=HistoryBuffer())}, r"test_wrappings.HistoryBuffer"),
        ({"hyper_parameters": collections.defaultdict(list)}, r"collections.defaultdict"),
    ],
)
def test_what_is_not_supported_is_named_in_one_line(entry, name, tmp_path):
    torch.save({"state_dict": STATE, **entry}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=rf"a.pth: holds more than tensors and plain values \(.*{name}\)") as caught:
        read_model_file(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


class ImageTower(nn.Module):
    """Names as of OpenAI's image encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.rand(4))
        self.conv1 = nn.Conv2d(3, 4, 2, bias=False)
        self.ln_pre = nn.LayerNorm(4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.ln_pre(self.conv1(images).mean(dim=(2, 3)) + self.class_embedding)


class Clip(nn.Module):
    """Names as of OpenAI's files: two towers, and numbers as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = ImageTower()
        self.transformer = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        self.token_embedding = nn.Embedding(5, 4)
        self.positional_embedding = nn.Parameter(torch.rand(3, 4))
        self.logit_scale = nn.Parameter(torch.ones([]))
        for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 5)):
            self.register_buffer(name, torch.tensor(value))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.transformer(self.visual(images)) * self.logit_scale


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("wrap", ["archive", "state_dict", "open_clip"])
def test_clip_is_read_as_its_image_tower(wrap, tmp_path):
    model, path = Clip().half().eval(), tmp_path / "ViT-B-16.pt"
    if wrap == "archive":
        torch.jit.save(torch.jit.script(model), path)
    else:
        state = model.state_dict()
        torch.save(state if wrap == "state_dict" else {"epoch": 32, "state_dict": below("module", state)}, path)
    state, note = find_model(load_checkpoint(path), path)
    expected = {name: value for name, value in model.state_dict().items() if name.startswith("visual.")}
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    assert state["visual.conv1.weight"].dtype == torch.float16
    listed = {"transformer.* (4)", "token_embedding.* (1)", "positional_embedding", "logit_scale"}
    listed |= {"input_resolution", "context_length", "vocab_size"}
    assert set(note.partition("left out: ")[2].split(", ")) == listed
    assert "cls_token" in read_model_file(path).state  # by the names of this project's models


def test_a_fine_tuned_clip_without_what_learned_its_prompts():
    kept = below(
        "image_encoder", {"class_embedding": torch.ones(2), "transformer.resblocks.0.ln_1.bias": torch.ones(2)}
    )
    kept |= {"classifier.weight": torch.ones(3, 2), "bottleneck.weight": torch.ones(2), "cv_embed": torch.ones(6, 2)}
    prompts = below("prompt_learner", {"cls_ctx": torch.ones(1), "token_prefix": torch.ones(1)})
    text = below("text_encoder", {"positional_embedding": torch.ones(1), "ln_final.bias": torch.ones(1)})
    state, note = find_model(below("module", kept | prompts | text), "a.pth")
    assert state.keys() == kept.keys()
    assert note == "left out: prompt_learner.* (2), text_encoder.* (2)"


@pytest.mark.parametrize("prefix", ["", "backbone", "net.model", "module.encoder_q"])
@pytest.mark.parametrize("own", ["features.0.weight", "encoder.patch_embed.proj.weight"])
def test_the_names_of_the_model_find_it_where_nothing_else_does(own, prefix):
    """encoder. is part of the names of some models, not a prefix."""
    names = {own, "norm.weight", "norm.bias"}
    state = {name: torch.ones(1) for name in names}
    content = {"state_dict": below(prefix, state) if prefix else dict(state), "norm.weight": torch.zeros(1)}
    content["state_dict"]["decoder_norm.bias"] = torch.ones(1)
    found, note = find_model(content, "a.pth", names=names)
    assert found == state
    assert note.endswith("left out: decoder_* (1)")


def test_what_the_model_has_is_not_left_out():
    names = {"cls_token", "predictor.weight"}
    state = {name: torch.ones(1) for name in names}
    assert find_model({"model": state}, "a.pth", names=names)[0] == state
    assert find_model({"model": state}, "a.pth")[0].keys() == {"cls_token"}
    other = {"cls_token": torch.ones(1), "blocks.0.norm.weight": torch.ones(1)}
    assert find_model({"model": other}, "a.pth", names={"patch_embed.weight", "norm.weight", "x"})[0] == other


def test_names_are_translated_only_where_that_fits_the_model(tmp_path):
    """timm's Swin has the names of Microsoft's, which are turned into SOLIDER's for the Swin of this project."""
    state = {"layers.0.blocks.0.attn.qkv.weight": torch.ones(1), "patch_embed.proj.weight": torch.ones(1)}
    torch.save(state, tmp_path / "swin.pth")
    assert read_model_file(tmp_path / "swin.pth", names=state.keys()).state == state
    solider = {"stages.0.blocks.0.attn.w_msa.qkv.weight", "patch_embed.projection.weight"}
    for names in (solider, ()):
        assert read_model_file(tmp_path / "swin.pth", names=names).state.keys() == solider
