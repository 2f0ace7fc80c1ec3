"""Optimizers by name: torch's SGD, Adam and AdamW, and timm's."""

import difflib
import logging

import torch
from timm.optim import SGDP, SGDW, Lars, create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

from solver.groups import make_groups
from utils.devices import pick_device
from utils.errors import UserError

logger = logging.getLogger(__name__)

TORCH_OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
# Without weight decay their steps are as long as the gradient; those of the others hardly depend on its size.
FOLLOW_THE_GRADIENT = (torch.optim.SGD, SGDW, SGDP, Lars)


def make_optimizer(cfg, model: nn.Module, loss_fn: nn.Module) -> torch.optim.Optimizer:
    """Optimizer SOLVER.OPTIMIZER_NAME, upper or lower case, over the groups of `solver.groups.make_groups`.

    SGD, Adam and AdamW are torch's, fused where MODEL.DEVICE is a GPU; any other is timm's, with MOMENTUM where it
    takes one.

    Raises:
        UserError: an unknown optimizer, one that cannot work here, or settings that do not go together.
    """
    solver, name = cfg.SOLVER, cfg.SOLVER.OPTIMIZER_NAME.lower()
    kind = TORCH_OPTIMIZERS.get(name) or _timm_class(solver.OPTIMIZER_NAME)
    _check_momentum(solver, name)
    groups = make_groups(cfg, model, loss_fn, follows_gradient=issubclass(kind, FOLLOW_THE_GRADIENT))
    if name not in TORCH_OPTIMIZERS:  # BASE_LR: some scale their weight decay by the rate's share of its peak
        return create_optimizer_v2(groups, name, lr=solver.BASE_LR, momentum=solver.MOMENTUM)
    options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV} if name == "sgd" else {}
    fused = True if pick_device(cfg.MODEL.DEVICE).type == "cuda" else None
    optimizer = kind(groups, fused=fused, **options)
    optimizer.register_load_state_dict_pre_hook(_keep_fused)
    return optimizer


def _timm_class(name: str) -> type[torch.optim.Optimizer]:
    """timm's optimizer of that name.

    Raises:
        UserError: none, or none that the training loop can drive.
    """
    lower = name.lower()
    usable = [known for known in list_optimizers() if not _what_it_lacks(known)]
    if lower in usable:
        return get_optimizer_info(lower).opt_class
    if lower.startswith("lookahead_"):
        reason = "the training loop does not average at its end, as Lookahead must; SOLVER.EMA_DECAY averages weights"
    elif lower in list_optimizers():
        reason = _what_it_lacks(lower)
    else:
        reason = "there is no such optimizer"
    near = ", ".join(difflib.get_close_matches(lower.removeprefix("lookahead_"), usable, n=3))
    raise UserError(
        f"SOLVER.OPTIMIZER_NAME {name}: {reason}; {f'near it are {near}; ' if near else ''}take SGD, Adam, AdamW, or "
        "one of timm's, which python -c 'import timm.optim; print(timm.optim.list_optimizers())' lists"
    )


def _what_it_lacks(name: str) -> str:
    """Why one of timm's optimizers cannot work here; "" where it can."""
    info = get_optimizer_info(name)
    if isinstance(info.opt_class, str):
        package = info.opt_class.split(".")[0]
    elif name.startswith("kron"):
        package = "opt_einsum"  # timm only warns, and then asks for many GB
    else:
        return "it needs second derivatives, which the training loop does not compute" if info.second_order else ""
    return f"it needs {package}, which requirements.txt does not have"


def _check_momentum(solver, name: str) -> None:
    info = get_optimizer_info(name)
    built_in = name not in TORCH_OPTIMIZERS and info.has_momentum and (info.defaults or {}).get("nesterov")
    if solver.NESTEROV and name != "sgd":
        raise UserError(
            f"SOLVER.NESTEROV True: it is for SGD, not for {solver.OPTIMIZER_NAME}; set it to False (timm has "
            "optimizers that are Nesterov's by their name, e.g. nadamw, nlars)"
        )
    if (solver.NESTEROV or built_in) and not solver.MOMENTUM:
        raise UserError(
            f"SOLVER.MOMENTUM {solver.MOMENTUM}: Nesterov's way of {solver.OPTIMIZER_NAME} needs a momentum; set "
            f"SOLVER.MOMENTUM, e.g. to 0.9{', or SOLVER.NESTEROV to False' if solver.NESTEROV else ''}"
        )
    if info.has_momentum and name != "sgd" and not solver.MOMENTUM:
        logger.warning("SOLVER.MOMENTUM %s: %s usually has one, e.g. 0.9", solver.MOMENTUM, solver.OPTIMIZER_NAME)


def _keep_fused(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    """A state of another kind of device says nothing about how to compute on this one."""
    fused = optimizer.defaults["fused"]
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}
