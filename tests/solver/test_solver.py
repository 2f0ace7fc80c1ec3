import math

import pytest
import torch
from torch import nn

from config import load_cfg
from solver import make_optimizer, make_scheduler


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
        "SOLVER.OPTIMIZER_NAME", name, "SOLVER.BASE_LR", "0.01", "SOLVER.BIAS_LR_FACTOR", "3",
        "SOLVER.WEIGHT_DECAY", "0.1",
        "SOLVER.WEIGHT_DECAY_BIAS", "0.2", "SOLVER.LARGE_FC_LR", "True", "SOLVER.WARMUP_EPOCHS", "0",
    )  # fmt: skip
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
    rates = []
    for epoch in epochs:
        scheduler.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


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
