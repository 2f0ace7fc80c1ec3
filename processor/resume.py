"""The whole state of a stage in training on disk, to go on with it as if it had never stopped."""

import logging
import platform
import random
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from processor.state_records import check_alike, check_optimizer_state, expect, expect_number, expect_rows, flat_config
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.stage_identity import ALL as STAGES
from utils.stage_identity import StageIdentity, make_identity
from utils.stages import current_stage, stage_checkpoint
from utils.structures import TrainState

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "timm", "numpy", "albumentations", "imagecorruptions")  # versions in checkpoints
MAX_COUNT = 2**53  # of steps

# What a meta without an identity, of an earlier version, says about the training set, by the names of today.
EARLIER_FACTS = {
    "images": "num_pictures", "identities": "num_classes", "cameras": "num_cameras", "views": "num_views",
}  # fmt: skip
# Keys that decide what is trained with, which an identity has by content.
EARLIER_SECTIONS = ("DATASETS.NAMES", "DATASETS.CUHK03.", "DATASETS.MSMT17.", "DATASETS.FOLDER.", "DATASETS.CSV.",
                    "DATASETS.SPLIT.")  # fmt: skip
ANEW = "choose another OUTPUT_DIR, or set SOLVER.RESUME '' to begin anew (earlier files are backed up as NAME.1)"


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
        replace: an earlier state in the file is one of this run, out of date; otherwise it is backed up as NAME.1.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    progress = {
        "epoch": state.epoch, "step": state.step, "updates": state.updates,
        "history": state.history, "evaluations": state.evaluations,
        "best": state.best, "sums": sums,
    }  # fmt: skip
    save_checkpoint(path, {"training": {**states, "progress": progress}}, meta, replace=replace)


def load_state(path: Path, parts: dict[str, Any], state: TrainState, *, epochs: int) -> dict[str, torch.Tensor]:
    """Puts `parts` and `state` back to what `save_state` kept; returns the running epoch's sums.

    Args:
        path, parts, state: as of `save_state`; `can_go_on` was asked before.
        epochs: of the whole stage.

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
        check_optimizer_state(parts.get("optimizer"))
        return _load_progress(expect(training.get("progress"), dict, "progress"), state, epochs)
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not the state of this stage ({' '.join(str(error).split()):.300}); delete it to train the stage "
            "anew, or set SOLVER.RESUME '' (it is then backed up as NAME.1)"
        ) from error


def _load_progress(progress: dict[str, Any], state: TrainState, epochs: int) -> dict[str, torch.Tensor]:
    state.epoch = expect_number(progress.get("epoch"), int, "epoch", epochs)
    state.step = expect_number(progress.get("step"), int, "step", MAX_COUNT)
    state.updates = expect_number(progress.get("updates"), int, "updates", MAX_COUNT)
    state.best = expect_number(progress.get("best"), float, "best", 1.0, low=-1.0)
    state.history = expect_rows(progress.get("history"), "history", count=state.epoch)
    state.evaluations = expect_rows(progress.get("evaluations"), "evaluations")
    sums = expect(progress.get("sums"), dict, "sums")
    for name, value in sums.items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor) and value.dim() == 0):
            raise ValueError(f"sums: {name!r:.60} is no scalar tensor")
    return sums


def can_go_on(cfg, path: Path, identity: StageIdentity, *, planned: bool = False) -> bool:
    """Whether a checkpoint or state of an earlier run is one of this stage: its weights are, or will be, the same.

    Args:
        cfg: configuration of the stage.
        path: the file.
        identity: of the stage in this run.
        planned: earlier stages are still to be trained: what they leave is not compared yet.

    Returns:
        False where an earlier stage of this OUTPUT_DIR was trained again since, which a warning says.

    Raises:
        UserError: other settings, another training set or other initial weights, by name; or the file is damaged.
    """
    different = _differences(cfg, path, identity)
    own = [f"CFAT.{name.upper()}.WEIGHT" for name in STAGES if _is_own(cfg, cfg.CFAT[name.upper()].WEIGHT)]
    retrained = [text for text in different.get("initial weights", []) if text.split()[0] in own]
    different["initial weights"] = [text for text in different.get("initial weights", []) if text not in retrained]
    told = "; ".join(f"other {kind}: {'; '.join(texts)}" for kind, texts in different.items() if texts)
    if told:
        raise UserError(f"SOLVER.RESUME auto: {path} was trained with {told}. Give the same ones, {ANEW}")
    if retrained and not planned:
        logger.warning(
            "stage %s is trained anew: %s started from other weights than an earlier stage has now (%s); it is backed "
            "up as NAME.1", identity.stage, path, "; ".join(retrained),
        )  # fmt: skip
    return not retrained


def _is_own(cfg, weight: str) -> bool:
    """Whether a file is what a stage of this OUTPUT_DIR leaves."""
    return bool(weight) and Path(weight).parent.resolve() == Path(stage_checkpoint(cfg)).parent.resolve()


def _differences(cfg, path: Path, identity: StageIdentity) -> dict[str, list[str]]:
    """Where the file says otherwise than `identity`, as of StageIdentity.differences. A file of an earlier version has
    no identity: its settings and counts are compared. Logs where libraries have other versions.

    Raises:
        UserError: the file is damaged, or its meta is not one.
    """
    content = load_checkpoint(path)
    try:
        meta = expect(content.get("meta", {}), dict, "meta")
        _warn_of_versions(path, expect(meta.get("versions", {}), dict, "versions"))
        if "identity" in meta:
            return identity.differences(meta["identity"])
        logger.info("%s is of an earlier version, which kept settings and counts; these are compared", path)
        there, here = (flat_config(text) for text in (expect(meta.get("config"), str, "config"), cfg.dump()))
        files = ["MODEL.PRETRAIN_PATH"] if "MODEL.PRETRAIN_PATH" in (identity.initial or {}) else []
        keys = [key for key in here if key in (*identity.settings, *files) or key.startswith(EARLIER_SECTIONS)]
        known = [key for key in keys if key in there]
        facts = {fact: meta[name] for fact, name in EARLIER_FACTS.items() if name in meta}
        before = replace(identity, settings={key: there[key] for key in known}, data=facts, initial=None)
        return replace(identity, settings={key: here[key] for key in known}).differences(before.describe())
    except ValueError as error:
        raise UserError(
            f"{path}: not a checkpoint of this project ({error}); move it away, or choose another OUTPUT_DIR"
        ) from error


def _warn_of_versions(path: Path, there: dict[str, Any]) -> None:
    here = library_versions()
    other = [
        f"{name} {there[name]!s:.40} there, {version} here"
        for name, version in here.items()
        if name in there and there[name] != version
    ]
    if other:
        logger.warning("%s: %s; weights may differ from those of a run in one go", path, "; ".join(other))


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that may change weights."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


class Run:
    """The stages of a run, and what OUTPUT_DIR has of them from an earlier one.

    Args:
        stages: configuration of each.
        initial_weight_files: gives the files that a stage starts from, by the key that names each.
        training_set: a datasets.TrainingSet.

    Raises:
        UserError: SOLVER.RESUME auto must not go on with a file of OUTPUT_DIR, as of `can_go_on`.
    """

    def __init__(self, stages: list, initial_weight_files: Callable[[Any], dict[str, str]], training_set) -> None:
        self.initial_weight_files, self.training_set = initial_weight_files, training_set
        self.warn_of_changes = training_set.warn_of_changes
        for cfg in stages:
            for path in (Path(stage_checkpoint(cfg)), last_checkpoint(stage_checkpoint(cfg))):
                if cfg.SOLVER.RESUME == "auto" and path.exists():
                    can_go_on(cfg, path, self.identity(cfg), planned=True)

    def identity(self, cfg) -> StageIdentity:
        """Of the stage of `cfg`; what it starts from lies on disk now."""
        return make_identity(cfg, self.initial_weight_files(cfg), self.training_set.facts)

    def finished(self, cfg) -> str:
        """The checkpoint of the stage of `cfg` where SOLVER.RESUME auto finds it done by an earlier run; else "".

        Raises:
            UserError: as of `can_go_on`.
        """
        path = Path(stage_checkpoint(cfg))
        if cfg.SOLVER.RESUME != "auto" or not path.exists() or last_checkpoint(path).exists():
            return ""
        if not can_go_on(cfg, path, self.identity(cfg)):
            return ""
        logger.info("stage %s: done by an earlier run, %s", current_stage(cfg).name, path)
        return str(path)
