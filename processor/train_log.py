"""What a user sees of training: a progress bar, one log line per epoch, TensorBoard."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from yacs.config import CfgNode

from utils import distributed
from utils.files import make_output_dir
from utils.logging import on_console
from utils.progress import ProgressBar, fit
from utils.structures import RetrievalMetrics, TrainState

logger = logging.getLogger(__name__)

# Terms in the line of a stage: the total and the first of ALIGNMENT that the stage has.
ALIGNMENT = {"coarse_loss": "coarse", "bridge_kl_loss": "bridge KL", "cosine_class_loss": "cosine"}
LINE = 80 - len("12:34:56 ")  # characters of an epoch's line where there is no terminal


class TrainLog:
    """Shows one stage; use it in a `with`. Of several processes the first shows.

    Args:
        cfg: configuration of the stage.
        state: where the stage stands; read, not changed.
        steps: of an epoch, about.
        optimizer: the lr of its first group is shown.
        device: its memory is shown.
    """

    def __init__(
        self, cfg: CfgNode, state: TrainState, steps: int, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> None:
        self.state, self.epochs, self.optimizer, self.device = state, cfg.SOLVER.MAX_EPOCHS, optimizer, device
        self.writer = None
        if distributed.is_main():
            # purge_step leaves out what an earlier or killed run wrote after this step
            directory = make_output_dir(Path(cfg.OUTPUT_DIR) / "tensorboard" / state.stage)
            self.writer = SummaryWriter(str(directory), purge_step=state.updates)
        done = state.epoch + state.step / steps
        self.bar = ProgressBar(self._title(state.epoch), self.epochs, initial=done, leave=True)

    def __enter__(self) -> "TrainLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()
        if self.writer is not None:
            self.writer.close()

    def begin_epoch(self, steps: int) -> None:
        """Starts the clock of an epoch of `steps`, or of what is left of it."""
        self.steps, self.first_step = steps, self.state.step
        self.images, self.waited, self.start = 0, 0.0, time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Measures the time spent waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    def step(self, batch: dict, values: Mapping[str, torch.Tensor] | None) -> None:
        """Counts a step; with its values, which waits for the device, also shows them."""
        self.images += len(batch["pids"]) * distributed.world_size()
        self.bar.title = self._title(self.state.epoch)
        self.bar.update(self.state.epoch + self.state.step / self.steps - self.bar.n)
        if values is None:
            return
        lr, speed = self._lr(), self.images / (time.perf_counter() - self.start)
        shown = {name: value.item() for name, value in values.items()}
        self.bar.show(*self._fields(shown, speed))
        if self.device.type == "cuda":
            shown["gpu_memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        shown |= {"learning_rate": lr, "images_per_second": speed}
        self._write({f"train/{name}": value for name, value in shown.items()}, self.state.updates - 1)

    def end_epoch(self, means: Mapping[str, float], *, overflows: int) -> None:
        """Logs the epoch with the means of its values and the steps that were skipped."""
        seconds = time.perf_counter() - self.start
        left = seconds / (self.steps - self.first_step) * self.steps * (self.epochs - self.state.epoch - 1)
        fields = self._fields(means, self.images / seconds)
        self.bar.show(*fields)
        title = f"{self._title(self.state.epoch)}: "
        line = title + fit([*fields, f"<{ProgressBar.format_interval(left)}"], LINE - len(title))
        logger.info(
            "stage %s epoch %d/%d: %s, lr %.2e, %.0f images/s, %.0f %% of the time waiting for data, %s left%s",
            self.state.stage,
            self.state.epoch + 1,
            self.epochs,
            ", ".join(f"{name} {value:.3f}" for name, value in means.items()),
            self._lr(),
            self.images / seconds,
            100 * self.waited / seconds,
            ProgressBar.format_interval(left),
            f", {overflows} steps skipped for overflow" if overflows else "",
            extra=on_console(None if self.bar.is_drawn else line),
        )

    def evaluation(self, results: Mapping[str, RetrievalMetrics], *, split: str = "test") -> None:
        """Logs the metrics of the last epoch on the test or the validation sets, by protocol."""
        where = "" if split == "test" else f"{split}, "
        for protocol, metrics in results.items():
            values = {"mAP": metrics.mAP, "mINP": metrics.mINP, "rank1": metrics.rank(1)}
            self._write({f"{split}/{name}_{protocol}": value for name, value in values.items()}, self.state.epoch)
            place = f"stage {self.state.stage} epoch {self.state.epoch}, {where}{protocol}"
            short = f"{self.state.stage} {self.state.epoch}/{self.epochs}, {where}{protocol}"
            extra = on_console(f"{short}: mAP {100 * metrics.mAP:.1f}, Rank-1 {100 * metrics.rank(1):.1f}")
            logger.info("%s: mAP %.4f, mINP %.4f, Rank-1 %.4f", place, *values.values(), extra=extra)

    def _title(self, epoch: int) -> str:
        """Stage and epoch; the last epoch stays at the end."""
        return f"{self.state.stage} {min(epoch + 1, self.epochs):>{len(str(self.epochs))}}/{self.epochs}"

    def _fields(self, values: Mapping[str, float], speed: float) -> list[str]:
        """What a line shows, the most important first."""
        alignment = next((name for name in ALIGNMENT if name in values), None)
        return [
            f"loss {values['loss']:.3f}",
            *([f"{ALIGNMENT[alignment]} {values[alignment]:.3f}"] if alignment else []),
            *([f"acc {100 * values['accuracy']:.0f}%"] if "accuracy" in values else []),
            f"lr {self._lr():.1e}".replace("e-0", "e-"),
            f"{speed:.0f} img/s",
        ]

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _write(self, values: Mapping[str, float], step: int) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)
