"""Learning rate schedules of timm, in units of epochs; the processor steps them with fractional epochs."""

import logging
from typing import Any

import torch
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler
from yacs.config import CfgNode

# timm warns that a curve of one epoch has no effect; with fractional epochs it has.
logging.getLogger("timm.scheduler.cosine_lr").setLevel(logging.ERROR)

COSINE_FLOOR = 0.002  # last lr over BASE_LR, as in TransReID's solver


class _ConstantGroups(Scheduler):
    """timm's scheduler, except that groups marked `constant_lr` keep the lr that the optimizer gave them.

    timm's `lr_scale` cannot do that: warm-up starts every group from a multiple of BASE_LR.
    """

    def update_groups(self, values: float | list[float]) -> None:
        super().update_groups(values)
        for group in self.optimizer.param_groups:
            if group.get("constant_lr"):
                group["lr"] = group["initial_lr"]


class _Cosine(CosineLRScheduler, _ConstantGroups):
    pass


class _MultiStep(MultiStepLRScheduler, _ConstantGroups):
    pass


class _OwnWarmupCosine(_Cosine):
    """As _Cosine, but every group warms up from `warmup_factor` times its own lr."""

    warmup_factor = 1.0

    def _get_lr(self, t: Any) -> list[float]:  # timm says int, and takes fractions
        if t >= self.warmup_t:
            return super()._get_lr(t)
        return [lr * _warmup_scale(t, self.warmup_t, self.warmup_factor) for lr in self.base_values]


class _OwnWarmupMultiStep(_MultiStep):
    """WarmupMultiStepLR of BoT, https://github.com/michuanhaohao/reid-strong-baseline.

    Every group warms up from `warmup_factor` times its own lr, and steps count in warm-up too.
    """

    warmup_factor = 1.0

    def _get_lr(self, t: float) -> list[float]:
        scale = _warmup_scale(t, self.warmup_t, self.warmup_factor)
        return [lr * scale * self.decay_rate ** self.get_curr_decay_steps(t) for lr in self.base_values]


def _warmup_scale(t: float, warmup_t: float, factor: float) -> float:
    """Linear from `factor` at 0 to 1 at `warmup_t`."""
    share = t / warmup_t if t < warmup_t else 1.0
    return factor * (1 - share) + share


def make_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Scheduler:
    """Makes a linear warm-up to each group's lr, then cosine to 0.002 * BASE_LR, or steps.

    Warm-up starts from WARMUP_FACTOR * BASE_LR, or, with WARMUP_FROM group_lr, from WARMUP_FACTOR times each group's
    lr. Groups with an `lr_scale`, the layers under SOLVER.LAYER_DECAY, follow that curve times it. Groups marked
    `constant_lr`, the centers of the center loss, keep their lr. Call `.step(epoch)`, with a fractional epoch, before
    each update.
    """
    solver, multistep = cfg.SOLVER, cfg.SOLVER.SCHEDULER == "multistep"
    common = {"warmup_lr_init": solver.WARMUP_FACTOR * solver.BASE_LR, "t_in_epochs": True}
    if multistep:
        # timm looks one epoch ahead: with + 1, epoch STEPS[i], counted from 0, is the first at the lower lr
        common |= {"decay_t": [epoch + 1 for epoch in solver.STEPS], "decay_rate": solver.GAMMA, "warmup_prefix": False}
    else:
        common |= {"t_initial": solver.MAX_EPOCHS, "lr_min": COSINE_FLOOR * solver.BASE_LR}
    if solver.WARMUP_FROM == "base_lr":
        kind = _MultiStep if multistep else _Cosine
        return kind(optimizer, warmup_t=min(solver.WARMUP_EPOCHS, solver.MAX_EPOCHS), **common)
    own = (_OwnWarmupMultiStep if multistep else _OwnWarmupCosine)(optimizer, warmup_t=solver.WARMUP_EPOCHS, **common)
    own.warmup_factor = solver.WARMUP_FACTOR
    return own
