"""The whole state of a stage in training on disk, so that a resumed stage reaches the same weights."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from processor.state_checks import check_alike, check_optimizer_state, expect, expect_number, expect_rows
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.structures import TrainState

MAX_COUNT = 2**53  # of steps


def last_checkpoint(stage_file: str | Path) -> Path:
    """File with the state of an unfinished stage, beside the stage's checkpoint: clean_last.pth for clean.pth."""
    path = Path(stage_file)
    return path.with_name(f"{path.stem}_last{path.suffix}")


class GlobalRNGs:
    """State of the global RNGs: torch's on the CPU and on the training device, NumPy's and Python's.

    Several processes keep the state of the first: all sample alike, each on a GPU of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        numpy_state: Any = np.random.get_state()
        kind, keys, position, has_gauss, cached = numpy_state
        version, numbers, gauss = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
            "python": [version, list(numbers), gauss],
        }

    def load_state_dict(self, states: dict[str, Any]) -> None:
        torch.set_rng_state(states["torch"])
        if self.device.type == "cuda" and states["cuda"] is not None:
            torch.cuda.set_rng_state(states["cuda"], self.device)
        kind, keys, position, has_gauss, cached = states["numpy"]
        np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        version, numbers, gauss = states["python"]
        random.setstate((version, tuple(numbers), gauss))


def save_state(
    path: Path,
    parts: dict[str, Any],
    state: TrainState,
    sums: dict[str, torch.Tensor],
    meta: dict,
    *,
    replace: bool = True,
) -> None:
    """Writes everything that a stage needs to be resumed.

    Args:
        path: file.
        parts: objects with a state_dict: model, loss, optimizer, scheduler, scaler, generators, perhaps ema.
        state: epoch and step; they are the sampler's state too.
        sums: of the running epoch's logged values.
        meta: plain values, with the text of the stage's configuration as "config".
        replace: overwrite an earlier state of this run; otherwise an earlier file is backed up as NAME.1.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    names = ("epoch", "step", "updates", "history", "evaluations", "best", "seconds", "test_sets")
    progress = {**{name: getattr(state, name) for name in names}, "sums": sums}
    save_checkpoint(path, {"training": {**states, "progress": progress}}, meta, replace=replace)


def load_state(path: Path, parts: dict[str, Any], state: TrainState, *, epochs: int) -> dict[str, torch.Tensor]:
    """Loads what `save_state` wrote into `parts` and `state`.

    Args:
        path, parts, state: as in `save_state`; `can_resume` has accepted the file.
        epochs: of the whole stage.

    Returns:
        Sums of the running epoch's logged values.

    Raises:
        UserError: no such file, damaged, or not a state of these parts.
    """
    content = load_checkpoint(path)
    try:
        training = expect(content.get("training"), dict, "training")
        for name, part in parts.items():
            found = expect(training.get(name), dict, name)
            check_alike(found, part.state_dict(), name)
            part.load_state_dict(found)
        if "optimizer" in parts:
            check_optimizer_state(parts["optimizer"])
        sums = _load_progress(expect(training.get("progress"), dict, "progress"), state, epochs)
        if "test_sets" not in training["progress"]:  # earlier versions tested on the training set
            state.test_sets = [str(expect(content.get("meta"), dict, "meta").get("dataset"))]
        return sums
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not the state of this stage ({' '.join(str(error).split()):.300}); delete it to train the stage "
            "from its first epoch"
        ) from error


def _load_progress(progress: dict[str, Any], state: TrainState, epochs: int) -> dict[str, torch.Tensor]:
    state.epoch = expect_number(progress.get("epoch"), int, "epoch", epochs)
    state.step = expect_number(progress.get("step"), int, "step", MAX_COUNT)
    state.updates = expect_number(progress.get("updates"), int, "updates", MAX_COUNT)
    state.best = expect_number(progress.get("best"), float, "best", 1.0, low=-1.0)
    state.seconds = expect_number(progress.get("seconds", 0.0), float, "seconds", MAX_COUNT)
    state.history = expect_rows(progress.get("history"), "history", count=state.epoch)
    state.evaluations = expect_rows(progress.get("evaluations"), "evaluations")
    state.test_sets = [
        expect(name, str, "test_sets") for name in expect(progress.get("test_sets", []), list, "test_sets")
    ]
    sums = expect(progress.get("sums"), dict, "sums")
    for name, value in sums.items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor) and value.dim() == 0):
            raise ValueError(f"sums: {name!r:.60} is no 0-dim tensor")
    return sums
