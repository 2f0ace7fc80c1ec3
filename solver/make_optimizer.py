"""Optimizers with the TransReID family's parameter groups."""

import torch
from torch import nn

OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def make_optimizer(cfg, model: nn.Module, loss_fn: nn.Module) -> torch.optim.Optimizer:
    """Optimizer over every parameter of model and loss that learns, one group per kind of parameter.

    Biases learn at SOLVER.BIAS_LR_FACTOR times the rate with WEIGHT_DECAY_BIAS; the identity classifier at twice the
    rate with SOLVER.LARGE_FC_LR.
    """
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *loss_fn.named_parameters()]:
        if not parameter.requires_grad:
            continue
        rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
        if name.endswith("bias"):
            rate, decay = rate * solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS
        if solver.LARGE_FC_LR and "classifier" in name:
            rate *= 2
        groups.setdefault((rate, decay), []).append(parameter)
    options = {"momentum": solver.MOMENTUM} if solver.OPTIMIZER_NAME == "SGD" else {}
    return OPTIMIZERS[solver.OPTIMIZER_NAME](
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()], **options
    )
