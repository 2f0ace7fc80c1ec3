"""The learning rates of a stage before it is trained: what processor.plots.save_lr_preview draws."""

from dataclasses import dataclass

import numpy as np
import torch

POINTS_PER_EPOCH = 20  # at most: long stages have more steps than a picture has pixels


@dataclass(frozen=True)
class LRCurve:
    """One curve, of all parameter groups that follow it.

    Attributes:
        rates: at the epochs of `preview`.
        factor: peak rate over that of the optimizer's first group; None of groups that keep one rate (`constant_lr`).
        tensors, parameters: how many learn so.
    """

    rates: np.ndarray
    factor: float | None
    tensors: int
    parameters: int


def preview(
    optimizer: torch.optim.Optimizer, scheduler, epochs: int, steps_per_epoch: int
) -> tuple[np.ndarray, list[LRCurve]]:
    """The rates that training will use, at up to 20 steps of every epoch; optimizer and scheduler stay as they are.

    Args:
        optimizer: its groups are looked at, in order.
        scheduler: of timm, as make_scheduler builds it: stepped with fractional epochs.
        epochs, steps_per_epoch: of the stage.

    Returns:
        The fractional epochs (N,) of the steps, and one curve of N rates for every distinct one.
    """
    stride = -(-steps_per_epoch // POINTS_PER_EPOCH)
    at = [epoch + step / steps_per_epoch for epoch in range(epochs) for step in range(0, steps_per_epoch, stride)]
    groups, state = optimizer.param_groups, scheduler.state_dict()
    before, rates = [group["lr"] for group in groups], []
    try:
        for epoch in at:
            scheduler.step(epoch)
            rates.append([group["lr"] for group in groups])
    finally:
        scheduler.load_state_dict(state)
        for group, rate in zip(groups, before, strict=True):
            group["lr"] = rate
    alike: dict[tuple, list[dict]] = {}
    for group, curve in zip(groups, zip(*rates, strict=True), strict=True):
        alike.setdefault((_factor(group, groups[0]), curve), []).append(group)
    return np.array(at), [_curve(np.array(curve), factor, members) for (factor, curve), members in alike.items()]


def _factor(group: dict, first: dict) -> float | None:
    """Of a group's rate to the first one's, as timm's schedulers set them."""
    if group.get("constant_lr"):
        return None
    peak, unit = (each["initial_lr"] * each.get("lr_scale", 1.0) for each in (group, first))
    return peak / unit


def _curve(rates: np.ndarray, factor: float | None, groups: list[dict]) -> LRCurve:
    parameters = [parameter for group in groups for parameter in group["params"]]
    return LRCurve(rates, factor, len(parameters), sum(parameter.numel() for parameter in parameters))
