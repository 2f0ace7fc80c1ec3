"""The lr of every parameter group over a stage, before it is trained; processor.plots.save_lr_preview plots it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

POINTS_PER_EPOCH = 20  # at most: long stages have more steps than a figure has pixels


@dataclass(frozen=True)
class LRCurve:
    """The lr of all parameter groups that share a curve.

    Attributes:
        lrs: at the epochs of `preview`.
        factor: peak lr over that of the optimizer's first group; None for groups with a constant lr (`constant_lr`).
        tensors, parameters: how many have this lr.
    """

    lrs: np.ndarray
    factor: float | None
    tensors: int
    parameters: int


def preview(
    optimizer: torch.optim.Optimizer, scheduler: Any, epochs: int, steps_per_epoch: int
) -> tuple[np.ndarray, list[LRCurve]]:
    """The lrs that training will use, at up to 20 steps of every epoch; optimizer and scheduler are left unchanged.

    Args:
        optimizer: its parameter groups are read, in order.
        scheduler: a timm Scheduler, stepped with fractional epochs.
        epochs, steps_per_epoch: of the stage.

    Returns:
        The fractional epochs (N,) of the steps, and every distinct curve of N lrs.
    """
    stride = -(-steps_per_epoch // POINTS_PER_EPOCH)
    at = [epoch + step / steps_per_epoch for epoch in range(epochs) for step in range(0, steps_per_epoch, stride)]
    groups, state = optimizer.param_groups, scheduler.state_dict()
    before, lrs = [group["lr"] for group in groups], []
    try:
        for epoch in at:
            scheduler.step(epoch)
            lrs.append([group["lr"] for group in groups])
    finally:
        scheduler.load_state_dict(state)
        for group, lr in zip(groups, before, strict=True):
            group["lr"] = lr
    alike: dict[tuple, list[dict]] = {}
    for group, curve in zip(groups, zip(*lrs, strict=True), strict=True):
        alike.setdefault((_factor(group, groups[0]), curve), []).append(group)
    return np.array(at), [_curve(np.array(curve), factor, members) for (factor, curve), members in alike.items()]


def _factor(group: dict, first: dict) -> float | None:
    """A group's peak lr over the first group's, as timm's schedulers set them."""
    if group.get("constant_lr"):
        return None
    peak, unit = (each["initial_lr"] * each.get("lr_scale", 1.0) for each in (group, first))
    return peak / unit


def _curve(lrs: np.ndarray, factor: float | None, groups: list[dict]) -> LRCurve:
    parameters = [parameter for group in groups for parameter in group["params"]]
    return LRCurve(lrs, factor, len(parameters), sum(parameter.numel() for parameter in parameters))
