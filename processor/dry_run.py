"""A dry run (`train.py --dry-run`): the plan of a stage, and two batches of training and testing."""

import itertools
import logging
import re
import time
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from processor.batches import to_device
from processor.evaluate import extract_features
from processor.step import TrainStep, resolve_amp
from utils.logging import format_seconds
from utils.stages import current_stage
from utils.structures import SPLIT_NAMES, Condition, DataBundle

logger = logging.getLogger(__name__)

BATCHES = 2
_ESTIMATE = re.compile(r"stage (\w+): at [0-9.]+ s per step, (?:(\d+) h )?(\d+) min(?: (\d+) s)?")


def do_dry_run(
    cfg: CfgNode,
    data: DataBundle,
    model: nn.Module,
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    *,
    device: torch.device,
) -> None:
    """Logs the plan of a stage, its memory and time, and runs BATCHES batches of training and testing; writes nothing.

    Raises:
        UserError: whatever would end the run early.
    """
    loader: Any = data.train
    name, steps = f"stage {current_stage(cfg).name}", len(loader)
    model.to(device)
    loss_fn.to(device)
    weights = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    plan = f"{cfg.SOLVER.MAX_EPOCHS} epochs of {steps} steps of {cfg.SOLVER.IMS_PER_BATCH} images"
    logger.info("%s: %s, %.1f million parameters, %.1f million trainable", name, plan, weights / 1e6, trained / 1e6)
    amp = resolve_amp(cfg.SOLVER.AMP, device)
    step = TrainStep(model, loss_fn, optimizer, device=device, amp=amp, grad_clip=cfg.SOLVER.GRAD_CLIP)
    saved, seconds = _SavedBytes(), 0.0
    model.train()
    for number, batch in enumerate(itertools.islice(loader, BATCHES)):
        start = time.perf_counter()
        scheduler.step(number / steps)
        with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
            values = step(to_device(batch, device))
        terms = ", ".join(f"{term} {value.item():.3f}" for term, value in values.items())
        seconds = time.perf_counter() - start  # of the last batch: the first warms up
        logger.info("%s: training batch %d of %d images: %s", name, number + 1, len(batch["pids"]), terms)
        if number == 0:
            activations = saved.total
    memory = {"weights": 4 * weights, "gradients": 4 * trained, "optimizer": _state_bytes(optimizer)}
    memory["activations"] = activations
    shares = ", ".join(f"{part} {count / 2**30:.2f}" for part, count in memory.items())
    total, duration = sum(memory.values()) / 2**30, format_seconds(seconds * steps * cfg.SOLVER.MAX_EPOCHS)
    logger.info("%s: about %.2f GiB of memory (%s)", name, total, shares)
    logger.info("%s: at %.2f s per step, %s", name, seconds, duration)
    conditions = (Condition(), Condition("random"))
    test_sets = data.on(cfg.TEST.SPLIT).test_sets
    for tested, split, condition in itertools.product(test_sets, SPLIT_NAMES[1:], conditions):
        batches = itertools.islice(tested.test_loader(split, condition, 0), BATCHES)
        features = extract_features(model, batches, device=device, title=split, sides=tested.sides).features
        where = f"{tested.splits.title}, {split}" if len(test_sets) > 1 else split
        logger.info("%s: testing %s, %s: features %s", name, where, condition.corruption, tuple(features.shape))


class _SavedBytes:
    """Counts the bytes that the forward pass saves for backward: the memory of activations on any device."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}  # by address: a tensor saved twice is in memory once

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    values = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def read_estimates(log: str) -> dict[str, float]:
    """Seconds of training by stage, from what a dry run printed."""
    found = _ESTIMATE.findall(log)
    return {stage: 3600 * int(h or 0) + 60 * int(m) + int(s or 0) for stage, h, m, s in found}
