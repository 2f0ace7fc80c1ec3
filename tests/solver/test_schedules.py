"""The lr of every group at whole and fractional epochs, against closed formulas."""

import math

import pytest
import torch

from config import load_cfg
from loss import make_loss
from solver import make_optimizer, make_scheduler
from tests.solver.test_layer_decay import make_vit

BASE, BIAS_FACTOR, DECAY, CENTER, EPOCHS = 0.08, 3.0, 0.5, 0.007, 60
# Around the end of warm-up and around the steps, and in between.
AT = [0, 0.125, 2.5, 4.999, 5, 5.001, 6.75, 19.999, 20, 20.001, 30, 33.3, 39.999, 40, 40.001, 59, 59.999]


def cosine(epoch, peak, warmup):
    if epoch < warmup:
        return 0.01 * BASE + (peak - 0.01 * BASE) * epoch / warmup
    return 0.002 * BASE + (peak - 0.002 * BASE) * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2


def multistep(epoch, peak, warmup):
    if epoch < warmup:
        return 0.01 * BASE + (peak - 0.01 * BASE) * epoch / warmup
    return peak * 0.1 ** sum(epoch >= step for step in (20, 40))


FORMULAS = {"cosine": cosine, "multistep": multistep}


def make(schedule, warmup, layer_decay):
    cfg = load_cfg(
        opts=[
            "SOLVER.SCHEDULER",
            schedule,
            "SOLVER.STEPS",
            "[20, 40]",
            "SOLVER.WARMUP_EPOCHS",
            str(warmup),
            "SOLVER.MAX_EPOCHS",
            str(EPOCHS),
            "SOLVER.BASE_LR",
            str(BASE),
            "SOLVER.BIAS_LR_FACTOR",
            str(BIAS_FACTOR),
            "SOLVER.LAYER_DECAY",
            str(layer_decay),
            "CFAT.STAGE",
            "clean",
            "MODEL.IF_WITH_CENTER",
            "True",
            "SOLVER.OPTIMIZER_NAME",
            "AdamW",
            "SOLVER.CENTER_LR",
            str(CENTER),
            "SOLVER.LARGE_FC_LR",
            "True",
        ]
    )
    model = make_vit()
    loss_fn = make_loss(cfg, num_classes=3, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    names = {parameter: name for name, parameter in model.named_parameters()}
    return optimizer, make_scheduler(cfg, optimizer), names


def peak_and_scale(name, layer_decay):
    peak = BASE * (BIAS_FACTOR if name.endswith("bias") else 1) * (2 if "classifier" in name else 1)
    steps = 0
    if name.startswith("base.blocks."):
        steps = 3 - int(name.split(".")[2])
    elif name.startswith("base.") and not name.startswith("base.norm"):
        steps = 4
    return peak, layer_decay**steps


@pytest.mark.parametrize("layer_decay", [1.0, DECAY])
@pytest.mark.parametrize("warmup", [0, 5, 25])  # 25: it ends after the first step
@pytest.mark.parametrize("schedule", FORMULAS)
def test_every_group_value_by_value(schedule, warmup, layer_decay):
    optimizer, scheduler, names = make(schedule, warmup, layer_decay)
    seen = set()
    for epoch in AT:
        scheduler.step(epoch)
        for group in optimizer.param_groups:
            if group.get("constant_lr"):
                assert group["lr"] == CENTER
                continue
            for parameter in group["params"]:
                peak, scale = peak_and_scale(names[parameter], layer_decay)
                expected = FORMULAS[schedule](epoch, peak, warmup) * scale
                assert group["lr"] == pytest.approx(expected, rel=1e-12), (epoch, names[parameter])
                seen.add(names[parameter])
    assert len(seen) == sum(parameter.requires_grad for parameter in names)
    assert optimizer.param_groups[-1]["constant_lr"]


@pytest.mark.parametrize("schedule", FORMULAS)
def test_low_layers_neither_start_nor_end_above_their_lr(schedule):
    optimizer, scheduler, _ = make(schedule, 5, 0.1)  # the embeddings have 1e-4 of the lr, less than the floor
    group = min(optimizer.param_groups, key=lambda group: group.get("lr_scale", 1))
    lrs = []
    for epoch in AT:
        scheduler.step(epoch)
        lrs.append(group["lr"])
    assert max(lrs) == pytest.approx(1e-4 * BASE, rel=0.02)
    assert lrs[:3] == sorted(lrs[:3])  # in warm-up
    assert lrs[5:] == sorted(lrs[5:], reverse=True)
    assert max(lrs[0], lrs[-1]) < 0.02 * max(lrs)


def test_a_warm_up_longer_than_the_stage_ends_with_it():
    optimizer, scheduler, _ = make("cosine", 100, 1.0)
    scheduler.step(30)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * BASE + 0.99 * BASE / 2)


def test_order_of_steps_does_not_matter():
    optimizer, scheduler, _ = make("cosine", 5, DECAY)
    scheduler.step(33.3)
    expected = [group["lr"] for group in optimizer.param_groups]
    for epoch in reversed(AT):
        scheduler.step(epoch)
    scheduler.step(33.3)
    assert [group["lr"] for group in optimizer.param_groups] == expected


@pytest.mark.parametrize("schedule", FORMULAS)
def test_a_resumed_run_has_the_same_lrs(schedule):
    torch.manual_seed(0)
    optimizer, scheduler, _ = make(schedule, 5, DECAY)
    scheduler.step(33.3)
    again, scheduler_again, _ = make(schedule, 5, DECAY)
    again.load_state_dict(optimizer.state_dict())
    scheduler_again.load_state_dict(scheduler.state_dict())
    for epoch in (33.4, 41):
        scheduler.step(epoch)
        scheduler_again.step(epoch)
        assert [group["lr"] for group in again.param_groups] == [group["lr"] for group in optimizer.param_groups]
