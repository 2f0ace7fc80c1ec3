"""Learning rate schedules, timm's, in units of epochs; the processor steps them with fractional epochs."""

import logging

import torch
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler

# It warns that a curve of one epoch has no effect, which is true of whole epochs alone.
logging.getLogger("timm.scheduler.cosine_lr").setLevel(logging.ERROR)

COSINE_FLOOR = 0.002  # last rate over BASE_LR, as TransReID's solver sets it


class _ConstantRates(Scheduler):
    """timm's scheduler, but for groups marked `constant_lr`: these keep the rate that the optimizer gave them.

    timm's `lr_scale` could not do that: warm-up would start them, like all groups, from a multiple of BASE_LR.
    """

    def update_groups(self, values: float | list[float]) -> None:
        super().update_groups(values)
        for group in self.optimizer.param_groups:
            if group.get("constant_lr"):
                group["lr"] = group["initial_lr"]


class _Cosine(CosineLRScheduler, _ConstantRates):
    pass


class _MultiStep(MultiStepLRScheduler, _ConstantRates):
    pass


def make_scheduler(cfg, optimizer: torch.optim.Optimizer) -> Scheduler:
    """Linear warm-up from WARMUP_FACTOR * BASE_LR to each group's rate, then cosine to 0.002 * BASE_LR, or steps.

    Groups with an `lr_scale`, the layers under SOLVER.LAYER_DECAY, follow that curve times it. Groups marked
    `constant_lr`, the centers of the center loss, keep their rate. Call `.step(epoch)`, with a fractional
    epoch, before each update.
    """
    solver = cfg.SOLVER
    warmup = min(solver.WARMUP_EPOCHS, solver.MAX_EPOCHS)
    common = {"warmup_t": warmup, "warmup_lr_init": solver.WARMUP_FACTOR * solver.BASE_LR, "t_in_epochs": True}
    if solver.SCHEDULER == "multistep":
        # timm looks one epoch ahead, so + 1 lets epoch number STEPS[i], counted from 0, be the first at the lower rate
        decay_t = [epoch + 1 for epoch in solver.STEPS]
        return _MultiStep(optimizer, decay_t=decay_t, decay_rate=solver.GAMMA, warmup_prefix=False, **common)
    return _Cosine(optimizer, t_initial=solver.MAX_EPOCHS, lr_min=COSINE_FLOOR * solver.BASE_LR, **common)
