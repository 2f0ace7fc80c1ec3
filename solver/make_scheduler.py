"""Learning rate schedules of timm, in units of epochs; the processor steps them with fractional epochs."""

import logging

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


class _OwnWarmup(Scheduler):
    """timm's scheduler, except that every group warms up from a multiple of its own lr.

    Attributes:
        warmup_factor: that multiple.
    """

    warmup_factor: float
    warmup_t: float

    def _get_lr(self, t: float) -> list[float]:
        if t >= self.warmup_t:
            return super()._get_lr(t)
        share = t / self.warmup_t
        factor = self.warmup_factor * (1 - share) + share
        return [factor * lr for lr in self.peaks(t)]

    def peaks(self, t: float) -> list[float]:
        """The lr of every group at that time without the warm-up."""
        return self.base_values


class _OwnWarmupCosine(_OwnWarmup, _Cosine):
    pass


class _OwnWarmupMultiStep(_OwnWarmup, _MultiStep):
    """WarmupMultiStepLR of BoT, https://github.com/michuanhaohao/reid-strong-baseline: steps count in warm-up too."""

    def peaks(self, t: float) -> list[float]:
        return [lr * self.decay_rate ** self.get_curr_decay_steps(t) for lr in self.base_values]


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
