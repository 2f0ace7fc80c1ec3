"""What a user sees of training: a progress bar, one log line per epoch, TensorBoard."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from yacs.config import CfgNode

from utils import distributed
from utils.files import make_output_dir
from utils.structures import RetrievalMetrics, TrainState

logger = logging.getLogger(__name__)


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
        hidden = None if distributed.is_main() else True  # None: hidden where there is no terminal
        self.bar = tqdm(total=self.epochs * steps, initial=state.updates, desc=state.stage, leave=False, disable=hidden)

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
        self.bar.update()
        if values is None:
            return
        lr, speed = self._lr(), self.images / (time.perf_counter() - self.start)
        shown = {name: value.item() for name, value in values.items()}
        terms = ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
        self.bar.set_postfix_str(f"{terms}, lr {lr:.1e}, {speed:.0f} images/s")
        if self.device.type == "cuda":
            shown["gpu_memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        shown |= {"learning_rate": lr, "images_per_second": speed}
        self._write({f"train/{name}": value for name, value in shown.items()}, self.state.updates - 1)

    def end_epoch(self, means: Mapping[str, float], *, overflows: int) -> None:
        """Logs the epoch with the means of its values and the steps that were skipped."""
        seconds = time.perf_counter() - self.start
        left = seconds / (self.steps - self.first_step) * self.steps * (self.epochs - self.state.epoch - 1)
        logger.info(
            "stage %s epoch %d/%d: %s, lr %.2e, %.0f images/s, %.0f %% of the time waiting for data, %s left%s",
            self.state.stage,
            self.state.epoch + 1,
            self.epochs,
            ", ".join(f"{name} {value:.3f}" for name, value in means.items()),
            self._lr(),
            self.images / seconds,
            100 * self.waited / seconds,
            tqdm.format_interval(left),
            f", {overflows} steps skipped for overflow" if overflows else "",
        )

    def evaluation(self, results: Mapping[str, RetrievalMetrics], *, split: str = "test") -> None:
        """Logs the metrics of the last epoch on the test or the validation sets, by protocol."""
        where = "" if split == "test" else f"{split}, "
        for protocol, metrics in results.items():
            values = {"mAP": metrics.mAP, "mINP": metrics.mINP, "rank1": metrics.rank(1)}
            self._write({f"{split}/{name}_{protocol}": value for name, value in values.items()}, self.state.epoch)
            place = f"stage {self.state.stage} epoch {self.state.epoch}, {where}{protocol}"
            logger.info("%s: mAP %.4f, mINP %.4f, Rank-1 %.4f", place, *values.values())

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def _write(self, values: Mapping[str, float], step: int) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)
