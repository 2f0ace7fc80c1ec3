import math

import pytest
import torch
from torch import nn

from config import load_cfg
from loss import make_loss
from solver import make_optimizer, make_scheduler
from utils.structures import ModelOutput


def make_net():
    net = nn.Module()
    net.base = nn.Linear(3, 4)
    net.classifier = nn.Linear(4, 2, bias=False)
    net.frozen = nn.Linear(2, 2)
    net.frozen.requires_grad_(False)
    return net


def build(*opts):
    cfg, net = load_cfg(opts=opts), make_net()
    optimizer = make_optimizer(cfg, net, nn.Module())
    return optimizer, make_scheduler(cfg, optimizer), net


@pytest.mark.parametrize(
    ("name", "kind"), [("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW)]
)
def test_groups(name, kind):
    optimizer, _, net = build(
        "SOLVER.OPTIMIZER_NAME",
        name,
        "SOLVER.BASE_LR",
        "0.01",
        "SOLVER.BIAS_LR_FACTOR",
        "3",
        "SOLVER.WEIGHT_DECAY",
        "0.1",
        "SOLVER.WEIGHT_DECAY_BIAS",
        "0.2",
        "SOLVER.LARGE_FC_LR",
        "True",
        "SOLVER.WARMUP_EPOCHS",
        "0",
    )
    assert type(optimizer) is kind
    settings = {
        id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }
    assert settings == {
        id(net.base.weight): (pytest.approx(0.01), 0.1),
        id(net.base.bias): (pytest.approx(0.03), 0.2),
        id(net.classifier.weight): (pytest.approx(0.02), 0.1),
    }


def test_momentum_is_that_of_the_configuration():
    assert build()[0].param_groups[0]["momentum"] == 0.0
    assert build("SOLVER.MOMENTUM", "0.9")[0].param_groups[0]["momentum"] == 0.9


def curve(*opts, epochs):
    optimizer, scheduler, _ = build("SOLVER.BIAS_LR_FACTOR", "1", "SOLVER.BASE_LR", "1.0", *opts)
    lrs = []
    for epoch in epochs:
        scheduler.step(epoch)
        lrs.append(optimizer.param_groups[0]["lr"])
    return lrs


def test_cosine_with_warm_up_value_by_value():
    epochs = [0, 1, 2.5, 4.5, 5, 10.25, 60, 119.5]
    found = curve(epochs=epochs)
    warmup = [0.01 + epoch * 0.99 / 5 for epoch in epochs[:4]]
    cosine = [0.002 + 0.5 * 0.998 * (1 + math.cos(math.pi * epoch / 120)) for epoch in epochs[4:]]
    assert found == pytest.approx(warmup + cosine)


def test_multistep_value_by_value():
    epochs = [0, 39.9, 40, 69.9, 70, 119]
    found = curve("SOLVER.SCHEDULER", "multistep", "SOLVER.WARMUP_EPOCHS", "0", epochs=epochs)
    assert found == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])
    # steps are epochs of the run, warm-up or not
    found = curve("SOLVER.SCHEDULER", "multistep", "SOLVER.WARMUP_EPOCHS", "10", epochs=[10, *epochs[1:]])
    assert found == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_bots_warm_up_value_by_value():
    """Every group warms up from a multiple of its own lr, and steps count in warm-up too, as in BoT's code."""
    factor, warmup, steps = 0.1, 10, [4, 12]
    opts = ["SOLVER.SCHEDULER", "multistep", "SOLVER.STEPS", str(steps), "SOLVER.WARMUP_EPOCHS", str(warmup)]
    opts += ["SOLVER.WARMUP_FACTOR", str(factor), "SOLVER.WARMUP_FROM", "group_lr", "SOLVER.MAX_EPOCHS", "20"]
    optimizer, scheduler, _ = build("SOLVER.BIAS_LR_FACTOR", "2", "SOLVER.BASE_LR", "0.5", *opts)
    peaks = [group["initial_lr"] for group in optimizer.param_groups]
    assert sorted(peaks) == [0.5, 1.0]
    for epoch in range(20):
        scheduler.step(epoch)
        share = min(epoch / warmup, 1)
        scale = (factor * (1 - share) + share) * 0.1 ** sum(step <= epoch for step in steps)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([scale * peak for peak in peaks])


def test_a_cosine_may_warm_up_from_each_groups_lr_too():
    opts = ["SOLVER.WARMUP_FROM", "group_lr", "SOLVER.WARMUP_EPOCHS", "4", "SOLVER.BIAS_LR_FACTOR", "2"]
    optimizer, scheduler, _ = build("SOLVER.BASE_LR", "0.5", *opts)
    for epoch, scale in [(0, 0.01), (2, 0.505), (3, 0.7525)]:
        scheduler.step(epoch)
        assert sorted(group["lr"] for group in optimizer.param_groups) == pytest.approx([0.5 * scale, scale])


WITH_CENTER = ["CFAT.STAGE", "clean", "MODEL.IF_WITH_CENTER", "True", "SOLVER.CENTER_LR", "0.4"]


def build_with_center(*opts):
    cfg, net = load_cfg(opts=[*WITH_CENTER, *opts]), make_net()
    torch.manual_seed(0)
    loss_fn = make_loss(cfg, num_classes=3, feat_dim=4)
    optimizer = make_optimizer(cfg, net, loss_fn)
    return optimizer, make_scheduler(cfg, optimizer), loss_fn


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SGD", {"lr": 200.0, "weight_decay": 0.0, "momentum": 0.0}),  # 0.4 / 0.002
        ("Adam", {"lr": 0.4, "weight_decay": 0.0}),
        ("AdamW", {"lr": 0.4, "weight_decay": 0.0}),
    ],
)
def test_centers_have_a_group_of_their_own(name, expected):
    optimizer, _, loss_fn = build_with_center(
        "SOLVER.OPTIMIZER_NAME", name, "SOLVER.MOMENTUM", "0.9", "SOLVER.CENTER_LOSS_WEIGHT", "0.002"
    )
    *others, group = optimizer.param_groups
    ((_, centers),) = loss_fn.named_parameters()
    assert group["params"] == [centers]
    assert {key: group[key] for key in expected} == pytest.approx(expected)
    assert sum(len(other["params"]) for other in others) == 3
    assert all(other["weight_decay"] == 1e-3 for other in others)
    assert name != "SGD" or all(other["momentum"] == 0.9 for other in others)


def test_without_center_loss_there_is_no_such_group():
    assert all("constant_lr" not in group for group in build()[0].param_groups)


@pytest.mark.parametrize("schedule", ["cosine", "multistep"])
def test_lr_of_centers_stays_while_the_others_follow_the_schedule(schedule):
    optimizer, scheduler, _ = build_with_center("SOLVER.SCHEDULER", schedule, "SOLVER.CENTER_LOSS_WEIGHT", "0.002")
    *others, group = optimizer.param_groups
    assert group["lr"] == pytest.approx(200.0)  # before the first step too
    lrs = []
    for epoch in (0, 2.5, 5, 60, 119):
        scheduler.step(epoch)
        assert group["lr"] == pytest.approx(200.0)
        lrs.append(others[0]["lr"])
    assert lrs[0] < lrs[1] < lrs[2] > lrs[3] > lrs[4]


def test_lr_of_centers_stays_when_a_run_is_resumed():
    optimizer, scheduler, _ = build_with_center()
    scheduler.step(50)
    again, scheduler_again, _ = build_with_center()
    again.load_state_dict(optimizer.state_dict())
    scheduler_again.step(51)
    assert again.param_groups[-1]["lr"] == pytest.approx(0.4 / 5e-4)


def center_steps(*opts, steps=4):
    """Centers before and after some updates on fixed embeddings, and the embeddings with their labels."""
    optimizer, scheduler, loss_fn = build_with_center(
        "MODEL.ID_LOSS_WEIGHT", "0", "MODEL.TRIPLET_LOSS_WEIGHT", "0", "SOLVER.MOMENTUM", "0.9", *opts
    )
    ((_, centers),) = loss_fn.named_parameters()
    before = centers.detach().clone()
    embeddings, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 0, 0, 1, 1])
    for step in range(steps):
        scheduler.step(step / steps)
        loss = loss_fn(ModelOutput(embeddings, embeddings, None), {"pids": labels})["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return before, centers.detach(), embeddings, labels


@pytest.mark.parametrize("weight", ["0.0005", "0.1"])
def test_centers_move_at_their_lr_whatever_the_weight(weight):
    before, after, embeddings, labels = center_steps("SOLVER.CENTER_LOSS_WEIGHT", weight)
    expected = before.clone()
    for _ in range(4):
        moves = torch.zeros_like(expected)
        for row, label in zip(embeddings, labels, strict=True):
            moves[label] += 0.4 * 2 / 5 * (row - expected[label])
        expected += moves
    assert torch.allclose(after, expected, atol=1e-5)
    assert not torch.allclose(after[:2], before[:2], atol=0.1)
    assert torch.equal(after[2], before[2])  # nobody of that identity, and no weight decay


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_first_step_of_adam_moves_every_center_by_the_lr(name):
    before, after, embeddings, labels = center_steps("SOLVER.OPTIMIZER_NAME", name, "SOLVER.CENTER_LR", "0.01", steps=1)
    means = torch.stack([embeddings[labels == label].mean(dim=0) for label in (0, 1)])
    assert torch.allclose(after[:2], before[:2] + 0.01 * (means - before[:2]).sign(), atol=1e-4)
    assert torch.equal(after[2], before[2])
