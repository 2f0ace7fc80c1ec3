"""A rehearsal of a run (`train.py --dry-run`): its plan, and two batches of training and testing of every stage."""

import itertools
import logging
import time

import torch
from torch import nn

from processor.batches import to_device
from processor.evaluate import extract_features
from processor.step import TrainStep, resolve_amp
from utils.stages import current_stage
from utils.structures import SPLIT_NAMES, Condition, DataBundle, TrainState

logger = logging.getLogger(__name__)

BATCHES = 2


class _SavedBytes:
    """Counts what the forward pass keeps for the way back: the memory of activations, whatever the device."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}  # by address: a tensor kept twice is there once

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


def dry_run(
    cfg,
    data: DataBundle,
    model: nn.Module,
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler,
    *,
    device: torch.device,
) -> TrainState:
    """Logs the plan of a stage and takes BATCHES batches through training and testing; nothing is written.

    Returns:
        A state without a checkpoint.

    Raises:
        UserError: whatever would end the run early.
    """
    stage, epochs, steps = current_stage(cfg).name, cfg.SOLVER.MAX_EPOCHS, len(data.train)
    model.to(device)
    loss_fn.to(device)
    everything = sum(parameter.numel() for parameter in model.parameters())
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    logger.info(
        "stage %s: %d epochs of %d steps of %d pictures, %.1f million parameters, %.1f million learn", stage, epochs,
        steps, cfg.SOLVER.IMS_PER_BATCH, everything / 1e6, learning / 1e6,
    )  # fmt: skip
    amp = resolve_amp(cfg.SOLVER.AMP, device)
    step = TrainStep(model, loss_fn, optimizer, device=device, amp=amp, grad_clip=cfg.SOLVER.GRAD_CLIP)
    saved, seconds = _SavedBytes(), 0.0
    model.train()
    for number, batch in enumerate(itertools.islice(data.train, BATCHES)):
        start = time.perf_counter()
        scheduler.step(number / steps)
        with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor):
            values = step(to_device(batch, device))
        terms = ", ".join(f"{name} {value.item():.3f}" for name, value in values.items())
        seconds = time.perf_counter() - start  # of the last, the first warms up
        logger.info("stage %s: training batch %d of %d pictures: %s", stage, number + 1, len(batch["pids"]), terms)
        if number == 0:
            activations = saved.total
    state = sum(
        value.numel() * value.element_size()
        for kept in optimizer.state.values()
        for value in kept.values()
        if isinstance(value, torch.Tensor)
    )
    logger.info(
        "stage %s: about %.2f GiB of memory (weights %.2f, gradients %.2f, optimizer %.2f, activations %.2f) and, at "
        "%.2f s a step, %s for the stage",
        stage, (4 * everything + 4 * learning + state + activations) / 2**30, 4 * everything / 2**30,
        4 * learning / 2**30, state / 2**30, activations / 2**30, seconds, _duration(seconds * steps * epochs),
    )  # fmt: skip
    for split, condition in itertools.product(SPLIT_NAMES[1:], (Condition(), Condition("random"))):
        batches = itertools.islice(data.test_loader(split, condition, 0), BATCHES)
        features = extract_features(model, batches, device=device, title=split)
        logger.info(
            "stage %s: testing %s, %s: features %s", stage, split, condition.corruption, tuple(features.features.shape)
        )
    return TrainState(stage)


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
