"""Optimizers with the TransReID family's parameter groups."""

import logging

import torch
from torch import nn

logger = logging.getLogger(__name__)

LARGE_ADAM_RATE = 0.1  # of centers, whose coordinates start from N(0, 1)
OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def make_optimizer(cfg, model: nn.Module, loss_fn: nn.Module) -> torch.optim.Optimizer:
    """Optimizer over every parameter of model and loss that learns, one group per kind of parameter.

    Biases learn at SOLVER.BIAS_LR_FACTOR times the rate with WEIGHT_DECAY_BIAS; the identity classifiers at twice the
    rate with SOLVER.LARGE_FC_LR. The loss's parameters named `centers`, the center loss's, are the last group.
    """
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    centers = [parameter for name, parameter in loss_fn.named_parameters() if name.endswith("centers")]
    others = [(name, parameter) for name, parameter in loss_fn.named_parameters() if not name.endswith("centers")]
    for name, parameter in [*model.named_parameters(), *others]:
        if not parameter.requires_grad:
            continue
        rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
        if name.endswith("bias"):
            rate, decay = rate * solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS
        if solver.LARGE_FC_LR and "classifier" in name:
            rate *= 2
        groups.setdefault((rate, decay), []).append(parameter)
    settings = [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    if centers:
        settings.append({"params": centers, **_center_settings(cfg)})
    options = {"momentum": solver.MOMENTUM} if solver.OPTIMIZER_NAME == "SGD" else {}
    return OPTIMIZERS[solver.OPTIMIZER_NAME](settings, **options)


def _center_settings(cfg) -> dict:
    """The centers move at CENTER_LR whatever the weight of their loss, in every epoch alike.

    Adam's steps do not depend on the size of the gradient; SGD's do, so the weight is divided out of them. With SGD
    that is what BoT and TransReID do; they move the centers by SGD beside Adam, too.
    """
    solver = cfg.SOLVER
    if solver.OPTIMIZER_NAME != "SGD" and solver.CENTER_LR > LARGE_ADAM_RATE:
        logger.warning(
            "SOLVER.CENTER_LR %s: %s moves every coordinate of the centers by that much a step; 0.01 suits it",
            solver.CENTER_LR,
            solver.OPTIMIZER_NAME,
        )
    constant = {"weight_decay": 0.0, "constant_lr": True}  # read by make_scheduler
    if solver.OPTIMIZER_NAME == "SGD":
        return {"lr": solver.CENTER_LR / solver.CENTER_LOSS_WEIGHT, "momentum": 0.0, **constant}
    return {"lr": solver.CENTER_LR, **constant}
