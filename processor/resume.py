"""Which stages of a run an earlier run has finished, and whether its files may be resumed."""

import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from processor.state_checks import expect, flat_config
from processor.train_state import last_checkpoint
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.stage_identity import ALL as STAGES
from utils.stage_identity import StageIdentity, make_identity
from utils.stages import current_stage, own_key, stage_checkpoint

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "timm", "numpy", "albumentations", "imagecorruptions")  # versions in checkpoints

# Checkpoints of earlier versions have no identity. Facts about the training set: name of today -> name in their meta.
EARLIER_FACTS = {
    "images": "num_pictures",
    "identities": "num_classes",
    "cameras": "num_cameras",
    "views": "num_views",
}
# Keys that choose the training set; an identity has its content instead.
EARLIER_SECTIONS = (
    "DATASETS.NAMES",
    "DATASETS.CUHK03.",
    "DATASETS.MSMT17.",
    "DATASETS.FOLDER.",
    "DATASETS.CSV.",
    "DATASETS.SPLIT.",
)
START_OVER = "choose another OUTPUT_DIR, or set SOLVER.RESUME '' to start over (earlier files are backed up as NAME.1)"


class RunPlan:
    """The stages of a run: what identifies each, and which ones an earlier run in OUTPUT_DIR has finished.

    Args:
        stages: configuration of each stage.
        training_set: facts of a datasets.TrainingSet.
        initial_weight_files: maps a stage's configuration to its initial weight files, by the key that names each.

    Raises:
        UserError: SOLVER.RESUME auto must not resume from a file of OUTPUT_DIR, see `can_resume`.
    """

    def __init__(
        self,
        stages: Sequence[CfgNode],
        training_set: Mapping[str, Any],
        initial_weight_files: Callable[[CfgNode], dict[str, str]],
    ) -> None:
        self.training_set, self.initial_weight_files = training_set, initial_weight_files
        for cfg in stages:
            for path in (Path(stage_checkpoint(cfg)), last_checkpoint(stage_checkpoint(cfg))):
                if cfg.SOLVER.RESUME == "auto" and path.exists():
                    can_resume(cfg, path, self.identity(cfg), planned=True)

    def identity(self, cfg: CfgNode) -> StageIdentity:
        """Identity of the stage of `cfg`, whose initial weights are on disk now."""
        return make_identity(cfg, self.initial_weight_files(cfg), self.training_set)

    def finished(self, cfg: CfgNode) -> str:
        """Checkpoint of the stage of `cfg` where SOLVER.RESUME auto finds that an earlier run finished it; else "".

        Raises:
            UserError: see `can_resume`.
        """
        path = Path(stage_checkpoint(cfg))
        if cfg.SOLVER.RESUME != "auto" or not path.exists() or last_checkpoint(path).exists():
            return ""
        if not can_resume(cfg, path, self.identity(cfg)):
            return ""
        logger.info("stage %s: finished by an earlier run, %s", current_stage(cfg).name, path)
        return str(path)


def can_resume(cfg: CfgNode, path: Path, identity: StageIdentity, *, planned: bool = False) -> bool:
    """Whether a checkpoint or state of an earlier run belongs to this stage: its weights are, or will be, the same.

    Args:
        cfg: configuration of the stage.
        path: the file.
        identity: of the stage in this run.
        planned: earlier stages are still to be trained; the weights that they leave are not compared yet.

    Returns:
        False where an earlier stage of this OUTPUT_DIR was trained again since, which a warning says.

    Raises:
        UserError: other settings, another training set or other initial weights, by name; or the file is damaged.
    """
    different = _differences(cfg, path, identity)
    own = [f"CFAT.{name.upper()}.WEIGHT" for name in STAGES if _is_own(cfg, cfg.CFAT[name.upper()].WEIGHT)]
    retrained = [text for text in different.get("initial weights", []) if text.split()[0] in own]
    different["initial weights"] = [text for text in different.get("initial weights", []) if text not in retrained]
    settings = (text.partition(" ") for text in different.get("settings", []))
    different["settings"] = [f"{own_key(cfg, key)} {values}" for key, _, values in settings]
    found = "; ".join(f"other {kind}: {'; '.join(texts)}" for kind, texts in different.items() if texts)
    if found:
        raise UserError(f"SOLVER.RESUME auto: {path} was trained with {found}. Give the same ones, {START_OVER}")
    if retrained and not planned:
        logger.warning(
            "stage %s is trained again: the initial weights of %s are not those that an earlier stage has now (%s); "
            "it is backed up as NAME.1",
            identity.stage,
            path,
            "; ".join(retrained),
        )
    return not retrained


def _is_own(cfg: CfgNode, weight: str) -> bool:
    """Whether a file is the checkpoint of a stage of this OUTPUT_DIR."""
    return bool(weight) and Path(weight).parent.resolve() == Path(stage_checkpoint(cfg)).parent.resolve()


def _differences(cfg: CfgNode, path: Path, identity: StageIdentity) -> dict[str, list[str]]:
    """Where the file differs from `identity`, see StageIdentity.differences; logs other versions of libraries.

    A file of an earlier version has no identity: its settings and counts are compared.

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
        lists = [key for key in known if isinstance(here[key], list)]
        there |= {key: [there[key]] for key in lists if not isinstance(there[key], list)}  # earlier: one value
        facts = {fact: meta[name] for fact, name in EARLIER_FACTS.items() if name in meta}
        before = replace(identity, settings={key: there[key] for key in known}, data=facts, initial=None)
        return replace(identity, settings={key: here[key] for key in known}).differences(before.describe())
    except ValueError as error:
        raise UserError(
            f"{path}: not a checkpoint of this project ({error}); move it away, or choose another OUTPUT_DIR"
        ) from error


def _warn_of_versions(path: Path, there: Mapping[str, Any]) -> None:
    here = library_versions()
    other = [
        f"{name} {there[name]!s:.40} there, {version} here"
        for name, version in here.items()
        if name in there and there[name] != version
    ]
    if other:
        logger.warning("%s: %s; weights may differ from those of an uninterrupted run", path, "; ".join(other))


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that may change weights."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
