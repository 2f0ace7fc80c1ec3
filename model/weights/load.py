"""Loads weights from files: a checkpoint's model for testing, and the initial weights of a training stage."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from yacs.config import CfgNode

from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.jigsaw import JigsawReID
from model.kinds import kind_of
from model.make_reid import make_reid
from model.reid import ReIDModel
from model.timm_reid import TimmReID
from model.weights.architecture import check_initial_weights, config_of_file, warn_of_ambiguities
from model.weights.file_kinds import FILE_KINDS, kind_in_file
from model.weights.hub import is_hub_name
from model.weights.model_file import ModelFile, read_model_file
from model.weights.pixel_stats import with_pixel_stats
from model.weights.pretrained import load_pretrained
from model.weights.side_table import SideTable, match_sides, matching_keys
from model.weights.state_dicts import State, backbone_of, find_model, num_rows
from model.weights.strict import load_strictly
from model.weights.timm_files import warn_of_pixel_stats
from utils.checkpoints import check_checkpoint, load_checkpoint
from utils.errors import UserError
from utils.stages import current_stage, stage_checkpoint
from utils.structures import SetNumbers, Sides

logger = logging.getLogger(__name__)


def check_weight(path: str) -> None:
    """Checks that a checkpoint to test is given, is there and is whole, before the data sets are read.

    Raises:
        UserError: it is not.
    """
    if not path:
        raise UserError(
            "TEST.WEIGHT is empty: give the checkpoint to test, e.g. TEST.WEIGHT logs/demo/checkpoints/align.pth"
        )
    check_checkpoint(path)


class TestedModel(NamedTuple):
    """A model for several test sets.

    Attributes:
        model: in eval mode.
        sides: of each test set, see DataBundle.
        trained_on: see ModelFile.
        selected_on: names of the test or validation sets on which the file was the best epoch; () for any other file.
    """

    model: ReIDModel
    sides: tuple[Sides | None, ...]
    trained_on: tuple[str, ...] | None = None
    selected_on: tuple[str, ...] = ()


def load_model(cfg: CfgNode, path: str, *, num_cameras: int, num_views: int) -> ReIDModel:
    """Loads the model in a checkpoint for images of `num_cameras` and `num_views`; see `load_tested_model`."""
    return load_tested_model(cfg, path, (SetNumbers("", num_cameras, num_views),)).model


def load_tested_model(cfg: CfgNode, path: str, sets: Sequence[SetNumbers]) -> TestedModel:
    """Loads the model in a checkpoint, ready to extract test features.

    The file decides the architecture; a log line says where `cfg` disagrees. The image size is that of `cfg` and must
    fit. Classifiers are not loaded, since no test feature needs them. With MODEL.SIE_CAMERA and SIE_VIEW False, a model
    with side information adds the mean of its side vectors to every image; with True, only to the images of test sets
    on which it was not trained.

    Args:
        cfg: configuration.
        path: the checkpoint.
        sets: the test sets; () for images without cameras, with MODEL.SIE_CAMERA and SIE_VIEW False.

    Returns:
        The model in eval mode, on the CPU, and where the cameras and viewpoints of each set are in its table.

    Raises:
        UserError: no file given or found, no re-identification model in it, or side information of another data set.
    """
    check_weight(path)
    return tested_model(cfg, read_model_file(path, entry=cfg.MODEL.CHECKPOINT_ENTRY), sets)


def tested_model(cfg: CfgNode, file: ModelFile, sets: Sequence[SetNumbers]) -> TestedModel:
    """The model in a checkpoint file that has been read; see `load_tested_model`."""
    path = file.path
    file_cfg = config_of_file(cfg, file)
    state = with_pixel_stats(cfg, file.state, path)
    classifiers = tuple(name for name in state if name.startswith("classifier"))
    state = {name: value for name, value in state.items() if name not in classifiers}
    side = state.get("base.sie_embed")  # (R, 1, D)
    if side is not None and not num_rows(side):
        raise UserError(f"checkpoint {path}: base.sie_embed has no rows; the file is broken, fetch it anew")
    first = sets[0] if sets else SetNumbers("", 1, 1)
    table = SideTable(first.num_cameras, first.num_views, (Sides(),) * len(sets))
    if side is not None and (file_cfg.MODEL.SIE_CAMERA or file_cfg.MODEL.SIE_VIEW):
        table = match_sides(file_cfg, file, len(side), sets)
    elif side is not None:
        state["base.sie_embed"] = side.mean(dim=0, keepdim=True)  # (1, 1, D)
        logger.warning(
            "checkpoint %s: %s the mean of the file's %d side vectors%s",
            path,
            "MODEL.SIE_CAMERA and SIE_VIEW are False, so every image gets" if sets else "images without cameras get",
            len(side),
            matching_keys(len(side), first) if len(sets) == 1 else "",
        )
    model = make_reid(
        file_cfg,
        num_classes=0,
        num_cameras=table.num_cameras,
        num_views=table.num_views,
        mean_side=side is not None,
    )
    load_strictly(
        model, state, source=f"checkpoint {path}", optional=("normalize.",), left_out=classifiers + file.left_out
    )
    return TestedModel(model.eval(), table.sides, file.trained_on, file.selected_on)


def initial_weight_files(cfg: CfgNode) -> dict[str, str]:
    """Files that the stage of `cfg` starts from, by the key that names each; {} for random weights."""
    stage = current_stage(cfg)
    if stage.trains == "model" and (not stage.sees_corrupted or cfg.CFAT.CORRUPTED.INIT == "pretrained"):
        return {"MODEL.PRETRAIN_PATH": cfg.MODEL.PRETRAIN_PATH} if cfg.MODEL.PRETRAIN_PATH else {}
    files = {"CFAT.CLEAN.WEIGHT": cfg.CFAT.CLEAN.WEIGHT}
    if stage.trains != "model" and cfg.CFAT.STUDENT_INIT == "corrupted":
        files["CFAT.CORRUPTED.WEIGHT"] = cfg.CFAT.CORRUPTED.WEIGHT
    fine = cfg.CFAT.FINE
    if stage.trains == "student" and (fine.IDENTITY_WEIGHT or fine.KL_WEIGHT or fine.RECONSTRUCTION_WEIGHT):
        files["CFAT.BRIDGE.WEIGHT"] = cfg.CFAT.BRIDGE.WEIGHT
    return files


def match_pretrained(cfg: CfgNode, stage_cfgs: list) -> CfgNode:
    """Lets the file of MODEL.PRETRAIN_PATH decide what its names and shapes show, where a stage starts from it: the
    stem, part tokens, and the size where MODEL.TRANSFORMER_TYPE means two. A log line says what changes.

    Args:
        cfg: configuration.
        stage_cfgs: those of the stages that are trained.

    Returns:
        `cfg`, or a frozen clone with other values in MODEL.

    Raises:
        UserError: the file cannot be read.
    """
    path = cfg.MODEL.PRETRAIN_PATH
    read = any("MODEL.PRETRAIN_PATH" in initial_weight_files(stage) for stage in stage_cfgs)
    if not read or is_hub_name(path) or not Path(path).is_file():  # check_stages reports a missing file
        return cfg
    file = read_model_file(path, entry=cfg.MODEL.CHECKPOINT_ENTRY, quiet=True)
    kind = FILE_KINDS[kind_of(cfg)]
    backbone = backbone_of(file.state) or file.state
    if kind_in_file(backbone) is not kind:  # load_pretrained reports it
        return cfg
    found = {key.removeprefix("MODEL."): value for key, value in kind.pretrained_keys(cfg, backbone).items()}
    changes = {name: value for name, value in found.items() if value != cfg.MODEL[name]}
    if not changes:
        return cfg
    logger.warning(
        "MODEL.PRETRAIN_PATH %s decides: %s",
        path,
        ", ".join(f"MODEL.{name} {value} (configured {cfg.MODEL[name]})" for name, value in changes.items()),
    )
    matched = cfg.clone()
    matched.defrost()
    for name, value in changes.items():
        setattr(matched.MODEL, name, value)
    matched.freeze()
    return matched


def check_stages(stage_cfgs: list) -> None:
    """Checks the initial weights of every stage before the first is trained: an earlier stage leaves them, or the file
    is there, readable and trained with the same settings.

    Raises:
        UserError: what is wrong with a file, or every file that will be missing, with its stage and key.
    """
    errors, trained = [], set()
    for cfg in stage_cfgs:
        for key, path in initial_weight_files(cfg).items():
            if path in trained or (key == "MODEL.PRETRAIN_PATH" and is_hub_name(path)):
                continue
            if not Path(path).is_file():
                errors.append(
                    f"  stage {current_stage(cfg).name} starts from {key} {path}: no such file, and no stage before it "
                    "makes it"
                )
            elif key == "CFAT.BRIDGE.WEIGHT":
                _bridge_state(path, released=cfg.CFAT.FINE.RELEASED)
            else:
                file = read_model_file(path, entry=cfg.MODEL.CHECKPOINT_ENTRY, quiet=True)
                if key != "MODEL.PRETRAIN_PATH":
                    check_initial_weights(cfg, file)
        trained.add(stage_checkpoint(cfg))
    if errors:
        raise UserError(
            "nothing was trained:\n"
            + "\n".join(errors)
            + "\nadd the stage to CFAT.STAGES or give its checkpoint; ImageNet "
            "weights (ViT-B/16: jx_vit_base_p16_224-80ecf9dd.pth of the timm project's release page) go to "
            "MODEL.PRETRAIN_PATH, '' starts from random weights"
        )


def load_initial_weights(cfg: CfgNode, model: ReIDModel | CFAT) -> None:
    """Loads the weights that a stage starts from, as cfg.CFAT and cfg.MODEL.PRETRAIN_PATH say.

    Stage clean starts from ImageNet weights, corrupted from these or from stage clean. In bridge and align the teacher
    starts from stage clean, the student as CFAT.STUDENT_INIT says; the bridge of align starts from stage bridge.

    Raises:
        UserError: a file is missing, unreadable or does not fit.
    """
    files = initial_weight_files(cfg)
    if not files:
        logger.warning("stage %s starts from random weights: MODEL.PRETRAIN_PATH is empty", current_stage(cfg).name)
    elif "MODEL.PRETRAIN_PATH" in files:
        assert isinstance(model, ReIDModel)
        load_pretrained(
            model.base,
            files["MODEL.PRETRAIN_PATH"],
            img_size=tuple(cfg.MODEL.PRETRAIN_SIZE),
            hw_ratio=cfg.MODEL.PRETRAIN_HW_RATIO,
            entry=cfg.MODEL.CHECKPOINT_ENTRY,
        )
        if isinstance(model, TimmReID):
            warn_of_pixel_stats(model)
        if isinstance(model, JigsawReID):
            model.init_branches()
    elif isinstance(model, ReIDModel):
        _load_reid(cfg, model, files["CFAT.CLEAN.WEIGHT"])
    else:
        _load_reid(cfg, model.teacher, files["CFAT.CLEAN.WEIGHT"])
        _load_reid(cfg, model.student, files.get("CFAT.CORRUPTED.WEIGHT", files["CFAT.CLEAN.WEIGHT"]))
        if "CFAT.BRIDGE.WEIGHT" in files:
            _load_bridge(model.bridge, files["CFAT.BRIDGE.WEIGHT"])


def _load_reid(cfg: CfgNode, model: ReIDModel, path: str) -> None:
    file = read_model_file(path, entry=cfg.MODEL.CHECKPOINT_ENTRY)
    check_initial_weights(cfg, file)
    warn_of_ambiguities(cfg, file)
    state = with_pixel_stats(cfg, file.state, path)
    load_strictly(model, state, source=f"checkpoint {path}", optional=("normalize.",), left_out=file.left_out)


def _load_bridge(bridge: BridgeVAE, path: str) -> None:
    load_strictly(bridge, _bridge_state(path, released=bridge.released), source=f"bridge in {path}")


def _bridge_state(path: str, *, released: bool) -> State:
    content = load_checkpoint(path)
    own = content.get("bridge")
    state = own if isinstance(own, dict) else find_model(content, path)[0]
    if "encoder.mu.weight" not in state:
        raise UserError(
            f"CFAT.BRIDGE.WEIGHT {path}: holds no bridge; expected a checkpoint of stage bridge or align, or a "
            "released BB_*.pth"
        )
    if released != ("encoder.sigma.weight" in state):
        raise UserError(
            f"CFAT.BRIDGE.WEIGHT {path}: a bridge in {'our' if released else 'the released'} form; set "
            f"CFAT.FINE.RELEASED to {not released}"
        )
    return state
