"""Learning rate schedules, timm's, in units of epochs; the processor steps them with fractional epochs."""

import torch
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler
from timm.scheduler.scheduler import Scheduler

COSINE_FLOOR = 0.002  # last rate over BASE_LR, as TransReID's solver sets it


def make_scheduler(cfg, optimizer: torch.optim.Optimizer) -> Scheduler:
    """Linear warm-up from WARMUP_FACTOR * BASE_LR to each group's rate, then cosine to 0.002 * BASE_LR, or steps.

    Call `.step(epoch)`, with a fractional epoch, before each update.
    """
    solver = cfg.SOLVER
    warmup = min(solver.WARMUP_EPOCHS, solver.MAX_EPOCHS)
    common = {"warmup_t": warmup, "warmup_lr_init": solver.WARMUP_FACTOR * solver.BASE_LR, "t_in_epochs": True}
    if solver.SCHEDULER == "multistep":
        # timm looks one epoch ahead, so + 1 lets epoch number STEPS[i], counted from 0, be the first at the lower rate
        decay_t = [epoch + 1 for epoch in solver.STEPS]
        return MultiStepLRScheduler(optimizer, decay_t=decay_t, decay_rate=solver.GAMMA, **common)
    return CosineLRScheduler(optimizer, t_initial=solver.MAX_EPOCHS, lr_min=COSINE_FLOOR * solver.BASE_LR, **common)
