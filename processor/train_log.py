"""What a person sees of training: a progress line, a line of the log after every epoch, TensorBoard."""

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from utils import distributed
from utils.files import make_output_dir
from utils.structures import RetrievalMetrics, TrainState

logger = logging.getLogger(__name__)


class Progress:
    """Shows one stage; use it in a `with`. Of several processes the first shows.

    Args:
        cfg: configuration of the stage.
        state: where it stands.
        steps: of an epoch, about.
        optimizer: its first group's rate is shown.
        device: whose memory is shown.
    """

    def __init__(self, cfg, state: TrainState, steps: int, optimizer: torch.optim.Optimizer, device: torch.device):
        self.epochs, self.optimizer, self.device = cfg.SOLVER.MAX_EPOCHS, optimizer, device
        done = state.updates
        self.writer = None
        if distributed.is_main():
            # purge_step: what comes after it, of an earlier run or one that was killed, is not mixed in
            directory = make_output_dir(Path(cfg.OUTPUT_DIR) / "tensorboard" / state.stage)
            self.writer = SummaryWriter(str(directory), purge_step=done)
        hidden = None if distributed.is_main() else True  # None: hidden where there is no terminal
        self.bar = tqdm(total=self.epochs * steps, initial=done, desc=state.stage, leave=False, disable=hidden)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()
        if self.writer is not None:
            self.writer.close()

    @contextlib.contextmanager
    def epoch(self, state: TrainState, steps: int) -> Iterator["EpochProgress"]:
        yield EpochProgress(self, state, steps)

    def scalars(self, values: dict[str, float], step: int) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def evaluation(self, state: TrainState, results: dict[str, RetrievalMetrics]) -> None:
        """Of one epoch, by test setting."""
        for name, metrics in results.items():
            figures = {"mAP": metrics.mAP, "mINP": metrics.mINP, "rank1": metrics.rank(1)}
            self.scalars({f"test/{figure}_{name}": value for figure, value in figures.items()}, state.epoch)
            logger.info("stage %s epoch %d, %s: mAP %.4f, mINP %.4f, Rank-1 %.4f", state.stage, state.epoch, name,
                        *figures.values())  # fmt: skip


class EpochProgress:
    """Shows one epoch of `steps`, or what is left of it; `state` is read, not changed."""

    def __init__(self, stage: Progress, state: TrainState, steps: int) -> None:
        self.stage, self.state, self.steps = stage, state, steps
        self.first, self.pictures, self.waited, self.start = state.step, 0, 0.0, time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around waiting for data."""
        start = time.perf_counter()
        yield
        self.waited += time.perf_counter() - start

    def step(self, batch: dict, values: dict[str, torch.Tensor] | None) -> None:
        """After a step; with its values where they are to be shown, for which the device is waited for."""
        stage, state = self.stage, self.state
        self.pictures += len(batch["pids"]) * distributed.world_size()
        stage.bar.update()
        if values is None:
            return
        rate = stage.optimizer.param_groups[0]["lr"]
        shown = {name: value.item() for name, value in values.items()}
        speed = self.pictures / (time.perf_counter() - self.start)
        stage.bar.set_postfix_str(
            ", ".join(f"{name} {value:.3f}" for name, value in shown.items())
            + f", rate {rate:.1e}, {speed:.0f} images/s"
        )
        if stage.device.type == "cuda":
            shown["gpu_memory_gib"] = torch.cuda.max_memory_allocated(stage.device) / 2**30
        shown |= {"learning_rate": rate, "images_per_second": speed}
        number = state.updates - 1
        stage.scalars({f"train/{name}": value for name, value in shown.items()}, number)

    def end(self, means: dict[str, float], *, overflows: int) -> None:
        """The log's line about the epoch, with the means of its values."""
        stage, state, seconds = self.stage, self.state, time.perf_counter() - self.start
        left = seconds / (self.steps - self.first) * self.steps * (stage.epochs - state.epoch - 1)
        logger.info(
            "stage %s epoch %d/%d: %s, rate %.2e, %.0f images/s, %.0f %% of the time waiting for data, %s left%s",
            state.stage, state.epoch + 1, stage.epochs,
            ", ".join(f"{name} {value:.3f}" for name, value in means.items()),
            stage.optimizer.param_groups[0]["lr"], self.pictures / seconds, 100 * self.waited / seconds,
            tqdm.format_interval(left), f", {overflows} steps left out for overflow" if overflows else "",
        )  # fmt: skip
