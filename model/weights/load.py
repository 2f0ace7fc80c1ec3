"""Weights from files into models: what CFAT's stages start from; every difference is an error."""

import logging
from pathlib import Path

from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.jigsaw import JigsawReID
from model.make_model import check_backbone
from model.reid import ReIDModel
from model.weights.pixel_stats import pixels_of_file
from model.weights.pretrained import HUB, load_pretrained
from model.weights.released import check_initial_weights, warn_of_untold
from model.weights.stored_config import stored_config
from model.weights.strict import load_strictly
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.stages import current_stage, stage_checkpoint
from utils.state_dicts import State, find_model, model_state

logger = logging.getLogger(__name__)


def initial_weight_files(cfg) -> dict[str, str]:
    """Files that the stage of `cfg` starts from, by the key that names each; empty for a start from random weights."""
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


def check_stages(stage_cfgs: list) -> None:
    """Makes sure, before any stage is trained, that the backbone of each can be built and that each gets its start from
    a stage before it or finds it on disk, readable and trained with the same settings.

    Raises:
        UserError: what is wrong with a backbone or a file, or every file that will be missing, with its stage and key.
    """
    faults, trained = [], set()
    for cfg in stage_cfgs:
        stage = current_stage(cfg).name
        check_backbone(cfg)
        for key, path in initial_weight_files(cfg).items():
            if path in trained or (key == "MODEL.PRETRAIN_PATH" and path.startswith(HUB)):
                continue
            if not Path(path).is_file():
                faults.append(
                    f"  stage {stage} starts from {key} {path}: no such file, and no stage before it makes it"
                )
            elif key == "CFAT.BRIDGE.WEIGHT":
                _bridge_state(path, released=cfg.CFAT.FINE.RELEASED)
            elif key != "MODEL.PRETRAIN_PATH":
                check_initial_weights(cfg, stored_config(load_checkpoint(path), path), path)
            else:
                find_model(load_checkpoint(path), path, entry=cfg.MODEL.CHECKPOINT_ENTRY)
        trained.add(stage_checkpoint(cfg))
    if faults:
        raise UserError(
            "nothing was trained:\n"
            + "\n".join(faults)
            + "\nadd the stage to CFAT.STAGES or give its checkpoint; ImageNet "
            "weights (ViT-B/16: jx_vit_base_p16_224-80ecf9dd.pth of the timm project's release page) go to "
            "MODEL.PRETRAIN_PATH, '' starts from random weights"
        )


def load_initial_weights(cfg, model: ReIDModel | CFAT) -> None:
    """Loads the weights that a stage starts from, as cfg.CFAT and cfg.MODEL.PRETRAIN_PATH say.

    clean: ImageNet. corrupted: ImageNet, or stage clean. bridge and align: teacher from clean, student as
    CFAT.STUDENT_INIT says; align also its bridge from stage bridge.
    """
    files = initial_weight_files(cfg)
    if not files:
        logger.warning("stage %s starts from random weights: MODEL.PRETRAIN_PATH is empty", current_stage(cfg).name)
    elif "MODEL.PRETRAIN_PATH" in files:
        load_pretrained(
            model.base,
            files["MODEL.PRETRAIN_PATH"],
            img_size=tuple(cfg.MODEL.PRETRAIN_SIZE),
            entry=cfg.MODEL.CHECKPOINT_ENTRY,
        )
        if isinstance(model, JigsawReID):
            model.start_branches()
    elif isinstance(model, ReIDModel):
        _load_reid(cfg, model, files["CFAT.CLEAN.WEIGHT"])
    else:
        _load_reid(cfg, model.teacher, files["CFAT.CLEAN.WEIGHT"])
        _load_reid(cfg, model.student, files.get("CFAT.CORRUPTED.WEIGHT", files["CFAT.CLEAN.WEIGHT"]))
        if "CFAT.BRIDGE.WEIGHT" in files:
            _load_bridge(model.bridge, files["CFAT.BRIDGE.WEIGHT"])


def _load_reid(cfg, model: ReIDModel, path: str) -> None:
    content = load_checkpoint(path)
    trained = stored_config(content, path)
    check_initial_weights(cfg, trained, path)
    state = model_state(content, path, entry=cfg.MODEL.CHECKPOINT_ENTRY)
    warn_of_untold(cfg, trained, state, path)
    state = pixels_of_file(cfg, state, path)
    load_strictly(model, state, source=f"checkpoint {path}", optional=("normalize.",))


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
