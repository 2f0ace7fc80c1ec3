"""The training loop of every stage."""

import logging
import math
import platform
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from processor.batches import to_device
from processor.inference import do_inference, make_evaluation
from utils.checkpoints import save_checkpoint
from utils.errors import UserError
from utils.files import make_output_dir
from utils.stages import current_stage, stage_checkpoint
from utils.structures import DataBundle, Protocol, TrainState

logger = logging.getLogger(__name__)


def train_step(
    model: nn.Module, loss_fn: nn.Module, optimizer: torch.optim.Optimizer, batch: dict
) -> dict[str, torch.Tensor]:
    """One update on a batch that is on the model's device.

    Returns:
        The loss terms, detached, and the identity classifier's `accuracy` on the batch where there is one.
    """
    output = model(batch)
    losses = loss_fn(output, batch)
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    optimizer.step()
    values = {name: value.detach() for name, value in losses.items()}
    if output.logits is not None:
        labels = batch["pids"].repeat(len(output.logits) // len(batch["pids"]))
        values["accuracy"] = (output.logits.detach().argmax(dim=1) == labels).float().mean()
    return values


def do_train(
    cfg,
    data: DataBundle,
    model: nn.Module,
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler,
    *,
    device: torch.device,
    protocols: tuple[Protocol, ...] = (),
) -> TrainState:
    """Trains one stage: cfg.SOLVER.MAX_EPOCHS epochs, then its checkpoint, OUTPUT_DIR/checkpoints/<stage>.pth.

    Args:
        cfg: configuration of the stage.
        data, model, loss_fn, optimizer, scheduler: as the make_* functions build them.
        device: where to train.
        protocols: test settings evaluated, one draw each, every cfg.SOLVER.EVAL_PERIOD epochs.

    Raises:
        UserError: a loss that is not finite, with the value of every term, or an OUTPUT_DIR that cannot be written.
    """
    stage = current_stage(cfg)
    epochs = cfg.SOLVER.MAX_EPOCHS
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    checkpoint_dir = make_output_dir(output_dir / "checkpoints")
    state = TrainState(stage=stage)
    model.to(device)
    loss_fn.to(device)
    learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    logger.info("stage %s: %d epochs, %.2f million learning parameters, on %s", stage, epochs, learning / 1e6, device)
    # purge_step: what an earlier run drew in the same place is not mixed in
    with SummaryWriter(str(output_dir / "tensorboard" / stage), purge_step=0) as writer:
        for epoch in range(epochs):
            means = _train_epoch(cfg, data, model, loss_fn, optimizer, scheduler, device, epoch, writer)
            state.epoch = epoch + 1
            state.history.append(means)
            due = cfg.SOLVER.EVAL_PERIOD and state.epoch % cfg.SOLVER.EVAL_PERIOD == 0
            if due and protocols:
                results = do_inference(
                    model, data, protocols, device=device, repeats=1, evaluation=make_evaluation(cfg, re_ranking=False)
                )
                for name, metrics in results.items():
                    logger.info("stage %s epoch %d, %s: mAP %.4f, Rank-1 %.4f", stage, state.epoch, name, metrics.mAP,
                                metrics.rank(1))  # fmt: skip
                    writer.add_scalar(f"test/mAP_{name}", metrics.mAP, state.epoch)
                state.evaluations.append({"epoch": state.epoch, **{name: m.mAP for name, m in results.items()}})
            if cfg.SOLVER.CHECKPOINT_PERIOD and state.epoch % cfg.SOLVER.CHECKPOINT_PERIOD == 0:
                _save(checkpoint_dir / f"{stage}_{state.epoch}.pth", cfg, data, model, state)
    _save(Path(stage_checkpoint(cfg)), cfg, data, model, state)
    logger.info("stage %s: done, %s", stage, state.checkpoint)
    return state


def _train_epoch(cfg, data, model, loss_fn, optimizer, scheduler, device, epoch, writer) -> dict[str, float]:
    """One epoch; returns the mean of every logged value."""
    stage = current_stage(cfg)
    model.train()
    data.train.batch_sampler.set_epoch(epoch)
    steps = len(data.train)
    sums: dict[str, torch.Tensor] = {}
    pictures, start = 0, time.perf_counter()
    progress = tqdm(data.train, desc=f"{stage} {epoch + 1}/{cfg.SOLVER.MAX_EPOCHS}", leave=False, disable=None)
    for step, batch in enumerate(progress):
        scheduler.step(epoch + step / steps)
        values = train_step(model, loss_fn, optimizer, to_device(batch, device))
        sums = {name: sums.get(name, 0) + value for name, value in values.items()}
        pictures += len(batch["pids"])
        if (step + 1) % cfg.SOLVER.LOG_PERIOD == 0 or step + 1 == steps:
            shown = {name: value.item() for name, value in values.items()}
            _check_finite(shown, stage, epoch + 1, step + 1)
            progress.set_postfix({name: f"{value:.3f}" for name, value in shown.items()})
            for name, value in shown.items():
                writer.add_scalar(f"train/{name}", value, epoch * steps + step)
            writer.add_scalar("train/learning_rate", optimizer.param_groups[0]["lr"], epoch * steps + step)
    means = {name: (value / steps).item() for name, value in sums.items()}
    _check_finite(means, stage, epoch + 1, steps)
    logger.info(
        "stage %s epoch %d/%d: %s, rate %.2e, %.0f images/s", stage, epoch + 1, cfg.SOLVER.MAX_EPOCHS,
        ", ".join(f"{name} {value:.3f}" for name, value in means.items()),
        optimizer.param_groups[0]["lr"], pictures / (time.perf_counter() - start),
    )  # fmt: skip
    return means


def _check_finite(values: dict[str, float], stage: str, epoch: int, step: int) -> None:
    if all(math.isfinite(value) for value in values.values()):
        return
    terms = ", ".join(f"{name} {value}" for name, value in values.items())
    raise UserError(
        f"stage {stage}, epoch {epoch}, step {step}: the loss is not finite ({terms}); this epoch is not saved. "
        "Lower the stage's BASE_LR or raise SOLVER.WARMUP_EPOCHS"
    )


def _save(path: Path, cfg, data: DataBundle, model: nn.Module, state: TrainState) -> None:
    meta = {
        "stage": state.stage,
        "epoch": state.epoch,
        "dataset": data.splits.name,
        "seed": cfg.SEED,
        "num_classes": data.num_classes,
        "num_cameras": data.num_cameras,
        "num_views": data.num_views,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__},
        "config": cfg.dump(),
    }
    save_checkpoint(path, model.export_state(), meta)
    state.checkpoint = str(path)
