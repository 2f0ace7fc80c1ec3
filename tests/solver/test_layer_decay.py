"""Layer-wise decay: the lr of every parameter of tiny models, by a rule that is written out here."""

import pytest
import torch
from torch import nn

from config import load_cfg
from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.jigsaw import JigsawReID, JigsawSettings
from model.reid import TransformerReID
from model.resnet import ResNetReID, ResNetTrunk
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize
from solver import check, make_optimizer, make_scheduler
from utils.errors import UserError

DECAY = 0.5
# Of three blocks: steps below the top.
STEPS = {
    "base.cls_token": 4,
    "base.pos_embed": 4,
    "base.sie_embed": 4,
    "base.patch_embed.": 4,
    "base.blocks.0.": 3,
    "base.blocks.1.": 2,
    "base.blocks.2.": 1,
    "base.norm.": 0,
    "bottleneck": 0,
    "classifier": 0,
    "b1.0.": 1,
    "b2.0.": 1,
    "b1.1.": 0,
    "b2.1.": 0,
}


def make_vit(kind=TransformerReID, **options):
    base = TransReIDViT((32, 32), ViTSize(12, 3, 2), num_cameras=2)
    if kind is JigsawReID:
        options["settings"] = JigsawSettings(parts=2)
    return kind(base, num_classes=3, **options)


def settings_by_name(model, *opts):
    """(lr, weight decay) that every learning parameter would have without a schedule."""
    cfg = load_cfg(
        opts=[
            "SOLVER.BASE_LR",
            "0.01",
            "SOLVER.BIAS_LR_FACTOR",
            "3",
            "SOLVER.WEIGHT_DECAY",
            "0.1",
            "SOLVER.WEIGHT_DECAY_BIAS",
            "0.2",
            "SOLVER.LAYER_DECAY",
            str(DECAY),
            *opts,
        ]
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [
        (names[parameter], (pytest.approx(group["lr"]), group["weight_decay"]))
        for group in make_optimizer(cfg, model, nn.Module()).param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found))  # each in one group
    return dict(found)


def expected_settings(model, *, prefix="", classifier=1):
    expected = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (steps,) = (steps for start, steps in STEPS.items() if name.startswith(start))
            lr, decay = (0.03, 0.2) if name.endswith("bias") else (0.01, 0.1)
            lr *= classifier if name.startswith("classifier") else 1
            expected[prefix + name] = (lr * DECAY**steps, decay)
    return expected


def test_of_a_vision_transformer():
    model = make_vit()
    found = settings_by_name(model)
    assert found == expected_settings(model)
    assert found["base.sie_embed"][0] == 0.01 / 16
    assert found["base.patch_embed.proj.bias"][0] == 0.03 / 16
    assert found["base.blocks.0.attn.qkv.weight"][0] == 0.01 / 8
    assert found["base.blocks.2.mlp.fc1.bias"][0] == 0.03 / 2
    assert found["base.norm.weight"][0] == found["classifier.weight"][0] == 0.01


def test_of_the_jigsaw_patch_module():
    model = make_vit(JigsawReID)
    found = settings_by_name(model, "SOLVER.LARGE_FC_LR", "True")
    assert found == expected_settings(model, classifier=2)
    assert found["b1.0.attn.qkv.weight"][0] == found["b2.0.attn.qkv.weight"][0] == 0.01 / 2
    assert found["b1.1.weight"][0] == 0.01
    assert found["base.blocks.1.attn.qkv.weight"][0] == 0.01 / 4  # the last of the trunk, below the branches
    assert found["classifier_2.weight"][0] == 0.02
    assert "base.blocks.2.attn.qkv.weight" not in found  # nothing uses it


@pytest.mark.parametrize("kind", [TransformerReID, JigsawReID])
def test_of_the_student(kind):
    student, bridge = make_vit(kind), BridgeVAE(12, hidden_dim=4, latent_dim=2)
    found = settings_by_name(CFAT(student, make_vit(kind), bridge))
    expected = expected_settings(student, prefix="student.")
    for name, _ in bridge.named_parameters():
        expected[f"bridge.{name}"] = (0.03, 0.2) if name.endswith("bias") else (0.01, 0.1)
    assert found == expected


def test_of_a_frozen_student_the_bridge_has_the_whole_lr():
    model = CFAT(make_vit(), make_vit(), BridgeVAE(12, hidden_dim=4, latent_dim=2), freeze_student=True)
    found = settings_by_name(model)
    assert {name.split(".")[0] for name in found} == {"bridge"}
    assert {lr.expected for lr, _ in found.values()} == {0.01, 0.03}


def test_twelve_blocks_span_the_published_range():
    base = TransReIDViT((32, 32), ViTSize(12, 12, 2))
    found = settings_by_name(TransformerReID(base, num_classes=0), "SOLVER.LAYER_DECAY", "0.75")
    lrs = [found[f"base.blocks.{block}.norm1.weight"][0].expected for block in range(12)]
    assert lrs == pytest.approx([0.01 * 0.75 ** (12 - block) for block in range(12)])
    assert found["base.cls_token"][0] == 0.01 * 0.75**13


def test_the_first_group_is_one_of_the_top_layer():
    cfg = load_cfg(opts=["SOLVER.LAYER_DECAY", "0.5", "SOLVER.BASE_LR", "0.01"])
    optimizer = make_optimizer(cfg, make_vit(), nn.Module())
    assert optimizer.param_groups[0]["lr"] == 0.01
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    assert scales == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]


def test_without_decay_groups_have_no_scale():
    cfg = load_cfg(opts=["SOLVER.LAYER_DECAY", "1.0", "SOLVER.BIAS_LR_FACTOR", "3", "MODEL.DEVICE", "cpu"])
    model = make_vit()
    weights, biases = make_optimizer(cfg, model, nn.Module()).param_groups
    learning = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert weights["params"] == [parameter for name, parameter in learning if not name.endswith("bias")]
    assert biases["params"] == [parameter for name, parameter in learning if name.endswith("bias")]
    plain = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1).param_groups[0]
    assert weights.keys() == biases.keys() == plain.keys()


def test_a_model_without_blocks_has_no_layers_to_decay():
    cfg = load_cfg(opts=["SOLVER.LAYER_DECAY", "0.9", "MODEL.NAME", "resnet50"])
    model = ResNetReID(ResNetTrunk(), num_classes=2)
    for call in (lambda: check(cfg), lambda: make_optimizer(cfg, model, nn.Module())):
        with pytest.raises(UserError, match="LAYER_DECAY 0.9: it goes by the blocks .* set it to 1.0, or MODEL"):
            call()


def test_the_schedule_starts_from_the_lrs_of_the_groups():
    cfg = load_cfg(opts=["SOLVER.LAYER_DECAY", "0.5", "SOLVER.WARMUP_EPOCHS", "0"])
    optimizer = make_optimizer(cfg, make_vit(), nn.Module())
    before = [group["lr"] for group in optimizer.param_groups]
    make_scheduler(cfg, optimizer).step(0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(before)
