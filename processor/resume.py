"""The whole state of a stage in training on disk, to go on with it as if it had never stopped."""

import logging
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.stages import current_stage, stage_checkpoint
from utils.structures import TrainState

logger = logging.getLogger(__name__)

# Keys that change no weight: a run may go on with other values of them.
FREE_KEYS = (
    "OUTPUT_DIR", "MODEL.DEVICE", "DATASETS.ROOT_DIR", "DATASETS.CHECK_PICTURES", "DATALOADER.NUM_WORKERS",
    "DATALOADER.CACHE", "SOLVER.RESUME", "SOLVER.LOG_PERIOD", "SOLVER.EVAL_PERIOD", "SOLVER.CHECKPOINT_PERIOD", "TEST",
    "CFAT.STAGES",
)  # fmt: skip
_OF_STAGES = re.compile(r"CFAT\.(CLEAN|CORRUPTED|BRIDGE|ALIGN)\.(MAX_EPOCHS|BASE_LR|WEIGHT)")
# What of a checkpoint's meta tells the training data apart.
DATA_KEYS = ("dataset", "dataset_version", "num_pictures", "num_classes", "num_cameras", "num_views")
# Keys of the alignment, which stages clean and corrupted know nothing of.
ALIGNMENT_KEYS = ("CFAT.COARSE", "CFAT.FINE", "CFAT.COSINE", "CFAT.STUDENT_INIT", "CFAT.STUDENT_VIEWS")


def last_checkpoint(stage_file: str | Path) -> Path:
    """Where the state of an unfinished stage lies, beside what the stage will leave: clean_last.pth for clean.pth."""
    path = Path(stage_file)
    return path.with_name(f"{path.stem}_last{path.suffix}")


class Generators:
    """The global generators as a part with a state: torch's on the CPU and on the device trained on, NumPy's, Python's.

    Of several processes the first one's state is every one's: they draw alike, each on a GPU of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        kind, keys, position, has_gauss, cached = np.random.get_state()
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
    """Writes everything that a stage needs to go on, beside `path` and renamed.

    Args:
        path: file.
        parts: what has a state_dict: model, loss, optimizer, scheduler, scaler, generators, and ema where there is one.
        state: epoch and step; the sampler's state is these two.
        sums: of the running epoch's logged values.
        meta: plain values, with the text of the stage's configuration as "config".
        replace: an earlier state in the file is one of this run, out of date; otherwise it is kept under a number.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    progress = {
        "epoch": state.epoch, "step": state.step, "updates": state.updates,
        "history": state.history, "evaluations": state.evaluations,
        "best": state.best, "sums": sums,
    }  # fmt: skip
    save_checkpoint(path, {"training": {**states, "progress": progress}}, meta, replace=replace)


def load_state(path: Path, parts: dict[str, Any], state: TrainState, *, meta: dict) -> dict[str, torch.Tensor]:
    """Puts `parts` and `state` back to what `save_state` kept; returns the running epoch's sums.

    Args:
        path, parts, state: as of `save_state`.
        meta: what save_state would write now.

    Raises:
        UserError: no such file, damaged, not a state of these parts, or of a run with other settings or data.
    """
    content = load_checkpoint(path)
    before = content.get("meta", {})
    check_same_settings(path, before, meta["config"])
    different = [
        f"{key} {before.get(key)} there, {meta[key]} here" for key in DATA_KEYS if before.get(key) != meta[key]
    ]
    if different:
        raise UserError(
            f"SOLVER.RESUME auto: {path} was trained with other data: {'; '.join(different)}. Give the same ones, or "
            "choose another OUTPUT_DIR"
        )
    versions = [
        f"{name} {version} there, {meta['versions'].get(name)} here"
        for name, version in before.get("versions", {}).items()
        if version != meta["versions"].get(name)
    ]
    if versions:
        logger.warning("%s: %s; weights may differ from those of a run in one go", path, "; ".join(versions))
    try:
        training = content["training"]
        for name, part in parts.items():
            part.load_state_dict(training[name])
        progress = training["progress"]
        for name in ("epoch", "step", "updates", "history", "evaluations", "best"):
            setattr(state, name, progress[name])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: not the state of this stage ({error}); delete it to train the stage anew, or set SOLVER.RESUME ''"
        ) from error
    return progress["sums"]


def check_same_settings(path: Path, meta: dict, config: str) -> None:
    """Refuses to go on with a checkpoint that was trained with other settings than `config`, a configuration's text.

    Raises:
        UserError: names the keys that differ.
    """
    free = FREE_KEYS + (ALIGNMENT_KEYS if meta.get("stage") in ("clean", "corrupted") else ())
    there, here = (_flat(yaml.safe_load(text)) for text in (meta.get("config", "{}"), config))
    different = [
        f"{key} {there.get(key)} there, {here.get(key)} here"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key) and not any(f"{key}.".startswith(f"{other}.") for other in free)
    ]
    if different:
        raise UserError(
            f"SOLVER.RESUME auto: {path} was trained with other settings: {'; '.join(different)}. Give the same ones, "
            "choose another OUTPUT_DIR, or set SOLVER.RESUME '' to begin anew (the files are kept under a number)"
        )


def find_finished(cfg) -> str:
    """The checkpoint of the stage of `cfg` where SOLVER.RESUME auto finds it done, by a run with the same settings.

    Where it is not, "".

    Raises:
        UserError: done with other settings, or the file is damaged.
    """
    path = Path(stage_checkpoint(cfg))
    if cfg.SOLVER.RESUME != "auto" or not path.exists() or last_checkpoint(path).exists():
        return ""
    check_same_settings(path, load_checkpoint(path).get("meta", {}), cfg.dump())
    logger.info("stage %s: done by an earlier run, %s", current_stage(cfg), path)
    return str(path)


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    # a stage's own epochs and rate stand below SOLVER in its configuration; its weights may have moved with OUTPUT_DIR
    return {key: value for key, value in flat.items() if not _OF_STAGES.fullmatch(key)}


def remove_leftovers(directory: Path) -> None:
    """Removes what killed processes left half written."""
    for path in directory.glob(".*.partial"):
        process = path.name.split(".")[-2]
        if process.isdigit() and not os.path.exists(f"/proc/{process}"):
            path.unlink(missing_ok=True)
            logger.info("removed %s, which a killed run left half written", path)
