"""Weights from files into models: ImageNet starts, CFAT's stages, checkpoints to test; every difference is an error."""

import logging
import math
from pathlib import Path

import torch
import torch.nn.functional as F
import yaml
from torch import nn

from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.reid import ReIDModel
from model.vit import TransReIDViT
from utils.checkpoints import State, load_checkpoint, model_state
from utils.errors import UserError
from utils.stages import current_stage, stage_checkpoint

logger = logging.getLogger(__name__)

# The 1000-class head that the family's backbones carry and never use, and ImageNet heads of timm's files.
UNUSED_HEADS = ("base.fc.", "fc.", "head.", "head_dist.", "pre_logits.")


def load_strictly(module: nn.Module, state: State, *, source: str, optional: tuple[str, ...] = ()) -> None:
    """Loads `state` into `module`; names and shapes must agree.

    Args:
        source: where the state comes from, for messages.
        optional: prefixes of names that the state may lack; the module's own values stay, with one log line.

    Raises:
        UserError: every name that is missing, unexpected or of another shape, with both shapes.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items() if not name.startswith(UNUSED_HEADS)}
    kept = [name for name in expected if name not in found and name.startswith(optional)] if optional else []
    faults = [
        f"  {name}: {found[name]} in the file, {expected[name]} in the model"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    faults += [
        f"  {name}: {expected[name]} in the model, missing in the file"
        for name in expected
        if name not in found and name not in kept
    ]
    faults += [
        f"  {name}: {shape} in the file, not in the model" for name, shape in found.items() if name not in expected
    ]
    if faults:
        raise UserError(
            f"{source}: does not fit the model, {len(faults)} of its names differ; nothing was loaded:\n"
            + "\n".join(faults)
            + "\nset the keys that the file was trained with: TRANSFORMER_TYPE, STRIDE_SIZE, SIZE_*, SIE_*"
        )
    module.load_state_dict({name: state[name] for name in found}, strict=False)
    if kept:
        logger.info("%s: left at the configured values: %s", source, ", ".join(kept))


# Settings that change features without changing any shape, and settings that change the test or are kept in the file.
MUST_AGREE = ("MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE", "MODEL.SIE_COE", "INPUT.SIZE_TRAIN")
WORTH_KNOWING = ("SEED", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD")


def check_training_settings(cfg, content: dict, path: str) -> None:
    """Compares the configuration with the one that a checkpoint of this project was trained with.

    Raises:
        UserError: a setting that makes other features without making other shapes.
    """
    trained = yaml.safe_load(content.get("meta", {}).get("config", "")) or {}

    def value_of(node, key: str):
        for name in key.split("."):
            node = node.get(name, {})
        return node

    found = {key: (value_of(trained, key), value_of(cfg, key)) for key in (*MUST_AGREE, *WORTH_KNOWING) if trained}
    differ = {key: pair for key, pair in found.items() if pair[0] != pair[1]}
    faults = [f"{key} {then}, now {now}" for key, (then, now) in differ.items() if key in MUST_AGREE]
    if faults:
        raise UserError(
            f"checkpoint {path}: trained with {'; '.join(faults)}; test with the configuration it was trained with"
        )
    for key, (then, now) in differ.items():
        note = "the test draws other corruptions" if key == "SEED" else "the file's are used"
        logger.warning("checkpoint %s: trained with %s %s, now %s: %s", path, key, then, now, note)


def resize_position_embedding(embedding: torch.Tensor, grid_size: tuple[int, int], *, num_prefix: int) -> torch.Tensor:
    """Resizes position embeddings (1, num_prefix + S*S, D) of a square grid bilinearly to (1, 1 + P, D)."""
    prefix, patches = embedding[:, :1], embedding[:, num_prefix:]
    side = math.isqrt(patches.shape[1])
    if side * side != patches.shape[1]:
        raise UserError(f"position embedding with {patches.shape[1]} patches: expected those of a square grid")
    if (side, side) != tuple(grid_size):
        patches = patches.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, S, S)
        patches = F.interpolate(patches, size=grid_size, mode="bilinear", align_corners=False)
        patches = patches.flatten(2).transpose(1, 2)  # (1, P, D)
    return torch.cat([prefix, patches], dim=1)


def load_pretrained(base: TransReIDViT, path: str) -> None:
    """Loads ImageNet weights (timm's names) into a backbone; the position embedding is resized, heads are left out.

    Raises:
        UserError: the file is missing, unreadable, or does not fit; nothing keeps its random value silently.
    """
    content = load_checkpoint(path)
    state = model_state(content, path)
    state = {name.removeprefix("base."): value for name, value in state.items()}
    num_prefix = 2 if state.pop("dist_token", None) is not None else 1
    if "pos_embed" in state:
        state["pos_embed"] = resize_position_embedding(
            state["pos_embed"], base.patch_embed.grid_size, num_prefix=num_prefix
        )
    load_strictly(base, state, source=f"MODEL.PRETRAIN_PATH {path}", optional=("sie_embed",))
    logger.info("backbone starts from %s", path)


def start_files(cfg) -> dict[str, str]:
    """Files that the stage of `cfg` starts from, by the key that names each; empty for a start from random weights."""
    stage = current_stage(cfg)
    if stage == "clean" or (stage == "corrupted" and cfg.CFAT.CORRUPTED.INIT == "pretrained"):
        return {"MODEL.PRETRAIN_PATH": cfg.MODEL.PRETRAIN_PATH} if cfg.MODEL.PRETRAIN_PATH else {}
    files = {"CFAT.CLEAN.WEIGHT": cfg.CFAT.CLEAN.WEIGHT}
    if stage != "corrupted" and cfg.CFAT.STUDENT_INIT == "corrupted":
        files["CFAT.CORRUPTED.WEIGHT"] = cfg.CFAT.CORRUPTED.WEIGHT
    fine = cfg.CFAT.FINE
    if stage == "align" and (fine.IDENTITY_WEIGHT or fine.KL_WEIGHT or fine.RECONSTRUCTION_WEIGHT):
        files["CFAT.BRIDGE.WEIGHT"] = cfg.CFAT.BRIDGE.WEIGHT
    return files


def check_start_files(stage_cfgs: list) -> None:
    """Makes sure, before any stage is trained, that each finds its start on disk or gets it from a stage before it.

    Raises:
        UserError: every file that will be missing, with its stage and key.
    """
    faults, trained = [], set()
    for cfg in stage_cfgs:
        stage = current_stage(cfg)
        faults += [
            f"  stage {stage} starts from {key} {path}: no such file, and no stage before it makes it"
            for key, path in start_files(cfg).items()
            if path not in trained and not Path(path).is_file()
        ]
        trained.add(stage_checkpoint(cfg))
    if faults:
        raise UserError(
            "nothing was trained:\n"
            + "\n".join(faults)
            + "\nadd the stage to CFAT.STAGES or give its checkpoint; ImageNet "
            "weights (ViT-B/16: jx_vit_base_p16_224-80ecf9dd.pth of the timm project's release page) go to "
            "MODEL.PRETRAIN_PATH, '' starts from random weights"
        )


def load_start(cfg, model: ReIDModel | CFAT) -> None:
    """Loads the weights that a stage starts from, as cfg.CFAT and cfg.MODEL.PRETRAIN_PATH say.

    clean: ImageNet. corrupted: ImageNet, or stage clean. bridge and align: teacher from clean, student as
    CFAT.STUDENT_INIT says; align also its bridge from stage bridge.
    """
    files = start_files(cfg)
    if not files:
        logger.warning("stage %s starts from random weights: MODEL.PRETRAIN_PATH is empty", current_stage(cfg))
    elif "MODEL.PRETRAIN_PATH" in files:
        load_pretrained(model.base, files["MODEL.PRETRAIN_PATH"])
    elif isinstance(model, ReIDModel):
        _load_reid(model, files["CFAT.CLEAN.WEIGHT"])
    else:
        _load_reid(model.teacher, files["CFAT.CLEAN.WEIGHT"])
        _load_reid(model.student, files.get("CFAT.CORRUPTED.WEIGHT", files["CFAT.CLEAN.WEIGHT"]))
        if "CFAT.BRIDGE.WEIGHT" in files:
            _load_bridge(model.bridge, files["CFAT.BRIDGE.WEIGHT"])


def _load_reid(model: ReIDModel, path: str) -> None:
    load_strictly(
        model, model_state(load_checkpoint(path), path), source=f"checkpoint {path}", optional=("normalize.",)
    )


def _load_bridge(bridge: BridgeVAE, path: str) -> None:
    content = load_checkpoint(path)
    if "bridge" not in content:
        raise UserError(f"CFAT.BRIDGE.WEIGHT {path}: holds no 'bridge'; expected a checkpoint of stage bridge or align")
    load_strictly(bridge, content["bridge"], source=f"bridge in {path}")
