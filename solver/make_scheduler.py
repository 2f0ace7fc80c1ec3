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


def make_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Scheduler:
    """Makes a linear warm-up from WARMUP_FACTOR * BASE_LR to each group's lr, then cosine to 0.002 * BASE_LR, or steps.

    Groups with an `lr_scale`, the layers under SOLVER.LAYER_DECAY, follow that curve times it. Groups marked
    `constant_lr`, the centers of the center loss, keep their lr. Call `.step(epoch)`, with a fractional epoch, before
    each update.
    """
    solver = cfg.SOLVER
    warmup = min(solver.WARMUP_EPOCHS, solver.MAX_EPOCHS)
    common = {"warmup_t": warmup, "warmup_lr_init": solver.WARMUP_FACTOR * solver.BASE_LR, "t_in_epochs": True}
    if solver.SCHEDULER == "multistep":
        # timm looks one epoch ahead: with + 1, epoch STEPS[i], counted from 0, is the first at the lower lr
        decay_t = [epoch + 1 for epoch in solver.STEPS]
        return _MultiStep(optimizer, decay_t=decay_t, decay_rate=solver.GAMMA, warmup_prefix=False, **common)
    return _Cosine(optimizer, t_initial=solver.MAX_EPOCHS, lr_min=COSINE_FLOOR * solver.BASE_LR, **common)
