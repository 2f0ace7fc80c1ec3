"""Optimizers by name: torch's SGD, Adam and AdamW, and timm's."""

import logging
from typing import Any

import torch
from timm.optim import SGDP, SGDW, Lars, create_optimizer_v2, get_optimizer_info
from torch import nn
from yacs.config import CfgNode

from solver.check import check
from solver.groups import make_groups
from utils.devices import pick_device

logger = logging.getLogger(__name__)

TORCH_OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
FUSED_DEVICES = ("cpu", "cuda")  # torch's kernels that update a parameter in one pass
# Without weight decay, their steps are proportional to the gradient; those of the others hardly depend on its size.
PROPORTIONAL_TO_GRADIENT = (torch.optim.SGD, SGDW, SGDP, Lars)


def make_optimizer(cfg: CfgNode, model: nn.Module, loss_fn: nn.Module) -> torch.optim.Optimizer:
    """Makes SOLVER.OPTIMIZER_NAME, in upper or lower case, over the groups of `solver.groups.make_groups`.

    SGD, Adam and AdamW are torch's, fused where MODEL.DEVICE is a CPU or a GPU; any other is timm's, with MOMENTUM
    where it takes one.

    Raises:
        UserError: an unknown optimizer, one that cannot work here, or settings that do not go together.
    """
    check(cfg)
    solver, name = cfg.SOLVER, cfg.SOLVER.OPTIMIZER_NAME.lower()
    info = get_optimizer_info(name)
    if info.has_momentum and name != "sgd" and not solver.MOMENTUM:
        logger.warning("SOLVER.MOMENTUM %s: %s usually has one, e.g. 0.9", solver.MOMENTUM, solver.OPTIMIZER_NAME)
    kind: Any = TORCH_OPTIMIZERS.get(name, info.opt_class)
    groups = make_groups(cfg, model, loss_fn, proportional=issubclass(kind, PROPORTIONAL_TO_GRADIENT))
    if name not in TORCH_OPTIMIZERS:  # lr: some divide each group's lr by it to scale their weight decay
        return create_optimizer_v2(groups, name, lr=solver.BASE_LR, momentum=solver.MOMENTUM)
    options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV} if name == "sgd" else {}
    has_values = not any(parameter.is_meta for group in groups for parameter in group["params"])
    fused = True if has_values and pick_device(cfg.MODEL.DEVICE).type in FUSED_DEVICES else None
    optimizer = kind(groups, fused=fused, **options)
    optimizer.register_load_state_dict_pre_hook(_keep_fused)
    return optimizer


def _keep_fused(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    """Keeps this device's `fused` when a state from another kind of device is loaded."""
    fused = optimizer.defaults["fused"]
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}
