"""Which model a checkpoint file holds: read from the configuration that it keeps and from the shapes of its parameters,
and expressed as keys of a configuration."""

import logging
import math
from typing import Any

import torch
from yacs.config import CfgNode

from model.vit_sizes import VIT_SIZES, ViTSize, grid_of, size_of_state, vit_size
from model.weights.model_file import ModelFile
from model.weights.position_embeddings import KNOWN_SIZES, KNOWN_STRIDES, possible_grids
from model.weights.state_dicts import State, num_rows
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Keys that decide what a model computes. Files of this project record them all, others show some in their shapes.
TRANSFORMER_KEYS = ("MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE", "MODEL.SIE_CAMERA", "MODEL.SIE_VIEW", "MODEL.JPM")
JIGSAW_KEYS = ("MODEL.RE_ARRANGE", "MODEL.SHIFT_NUM", "MODEL.SHUFFLE_GROUP", "MODEL.DEVIDE_LENGTH")
RESNET_KEYS = ("MODEL.LAST_STRIDE", "MODEL.GEM_POOL", "MODEL.STEM_RELU", "MODEL.STEM_POOL")
MODEL_KEYS = ("MODEL.NAME", *TRANSFORMER_KEYS, "MODEL.SIE_COE", *JIGSAW_KEYS, *RESNET_KEYS)


def config_of_file(cfg: CfgNode, file: ModelFile) -> CfgNode:
    """Describes the model in a file; one log line says what it is, another one where `cfg` disagrees.

    With MODEL.SIE_CAMERA and SIE_VIEW both False in `cfg`, they stay False though the file has side information; see
    `load_model`.

    Returns:
        A frozen clone of `cfg` whose MODEL describes the model in the file.

    Raises:
        UserError: the file holds no re-identification model, or one of an unknown size, or one for images of another
            size than INPUT.SIZE_TEST.
    """
    seed = file.config.get("SEED", cfg.SEED)
    if seed != cfg.SEED:
        logger.warning(
            "checkpoint %s: trained with SEED %s, now %s: the test samples other corruptions", file.path, seed, cfg.SEED
        )
    backbone = {name.removeprefix("base."): value for name, value in file.state.items() if name.startswith("base.")}
    stored = {key: file.config[key] for key in MODEL_KEYS if key in file.config}
    if "cls_token" in backbone:
        _check_image_size(cfg, file)
        found = stored | _transformer_keys(cfg, stored, file, backbone)
    elif "conv1.weight" in backbone:
        gem_pool = "global_pool.p" in file.state
        found = stored | {"MODEL.NAME": "resnet50", "MODEL.GEM_POOL": gem_pool, "MODEL.JPM": False}
    else:
        raise UserError(_no_model_message(file))
    warn_of_ambiguities(cfg, file)
    _log_architecture(cfg, found, file)
    described = cfg.clone()
    described.defrost()
    for key, value in found.items():
        setattr(described.MODEL, key.removeprefix("MODEL."), value)
    described.freeze()
    return described


def check_initial_weights(cfg: CfgNode, file: ModelFile) -> None:
    """Checks that a stage starts from a file with the settings that the file was trained with, where it records them.

    Raises:
        UserError: other settings, which change features without changing a shape.
    """
    keys = relevant_keys({key: _value_of(cfg, key) for key in MODEL_KEYS})
    keys += ["INPUT.SIZE_TEST"] if cfg.MODEL.NAME == "transformer" else []
    pairs = {key: (file.config.get(key), _value_of(cfg, key)) for key in keys}
    differences = [f"{key} {then}, now {now}" for key, (then, now) in pairs.items() if then is not None and then != now]
    if differences:
        raise UserError(
            f"checkpoint {file.path}: trained with {'; '.join(differences)}; a stage starts from a file with the "
            "file's settings"
        )


def warn_of_ambiguities(cfg: CfgNode, file: ModelFile) -> None:
    """Warns of what neither the shapes nor the configuration of a file tell though features depend on it; `cfg` decides
    it."""
    if "base.conv1.weight" in file.state and "MODEL.STEM_POOL" not in file.config:
        logger.warning(
            "checkpoint %s does not tell the pooling of its stem: MODEL.STEM_POOL %d of the configuration is used; the "
            "TransReID codebase (CIL-ReID among it) has 2, BoT and torchvision 3",
            file.path,
            cfg.MODEL.STEM_POOL,
        )
    positions, projection = file.state.get("base.pos_embed"), file.state.get("base.patch_embed.proj.weight")
    if positions is None or projection is None or (positions.ndim, projection.ndim) != (3, 4):
        return
    if "INPUT.SIZE_TEST" in file.config:
        return
    size, patch_size, patches = tuple(cfg.INPUT.SIZE_TEST), projection.shape[-1], positions.shape[1] - 1
    own = grid_of(size, patch_size, tuple(cfg.MODEL.STRIDE_SIZE))
    others = [grid for grid in possible_grids(patches, patch_size, own=own) if grid != own]
    if others and math.prod(own) == patches:
        logger.warning(
            "checkpoint %s does not tell the size of its images: its positions are read as %d x %d patches, as "
            "INPUT.SIZE_TEST %s says; they would also be those of %s",
            *(file.path, *own, list(size), " or ".join(f"{rows} x {columns}" for rows, columns in others)),
        )


def relevant_keys(values: dict[str, Any]) -> list[str]:
    """Those of MODEL_KEYS that matter for the model that the values describe."""
    if values["MODEL.NAME"] == "resnet50":
        return ["MODEL.NAME", *RESNET_KEYS]
    side = ["MODEL.SIE_COE"] if values.get("MODEL.SIE_CAMERA") or values.get("MODEL.SIE_VIEW") else []
    return ["MODEL.NAME", *TRANSFORMER_KEYS, *side, *(JIGSAW_KEYS if values["MODEL.JPM"] else ())]


def _value_of(cfg: CfgNode, key: str) -> Any:
    section, name = key.split(".")
    return cfg[section][name]


def _check_image_size(cfg: CfgNode, file: ModelFile) -> None:
    size = file.config.get("INPUT.SIZE_TEST")
    if size is not None and list(size) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"checkpoint {file.path}: trained with INPUT.SIZE_TEST {size}, now {list(cfg.INPUT.SIZE_TEST)}; set "
            "INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with"
        )


def _transformer_keys(cfg: CfgNode, stored: dict[str, Any], file: ModelFile, backbone: State) -> dict[str, Any]:
    wanted = stored.get("MODEL.TRANSFORMER_TYPE", cfg.MODEL.TRANSFORMER_TYPE)
    # The name that the file or the configuration gives comes first: no shape tells how many heads there are.
    try:
        candidates = {wanted: vit_size(wanted), **VIT_SIZES}
    except UserError as error:
        raise UserError(f"checkpoint {file.path}: {error}") from error
    name = size_of_state(backbone, candidates)
    if name is None:
        raise UserError(
            f"checkpoint {file.path}: a vision transformer of another size ({_describe_size(backbone)}) than "
            f"{', '.join(candidates)}; set MODEL.TRANSFORMER_TYPE to the name of its backbone in timm"
        )
    positions = backbone.get("pos_embed", torch.empty(0))
    if positions.ndim != 3:
        raise UserError(
            f"checkpoint {file.path}: base.pos_embed: {tuple(positions.shape)} in the file, expected (1, 1 + patches, "
            "width); the file is broken, fetch it anew"
        )
    stride = stored.get("MODEL.STRIDE_SIZE") or _find_stride(cfg, candidates[name], positions.shape[1] - 1, file.path)
    parts = sum(name.startswith("bottleneck_") and name.endswith(".weight") for name in file.state)
    found = {
        "MODEL.NAME": "transformer",
        "MODEL.TRANSFORMER_TYPE": name,
        "MODEL.STRIDE_SIZE": list(stride),
        "MODEL.JPM": "b1.1.weight" in file.state,
        "MODEL.DEVIDE_LENGTH": parts or stored.get("MODEL.DEVIDE_LENGTH", cfg.MODEL.DEVIDE_LENGTH),
    }
    if "sie_embed" not in backbone or not (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW):
        found |= {"MODEL.SIE_CAMERA": False, "MODEL.SIE_VIEW": False}
    return found


def _find_stride(cfg: CfgNode, size: ViTSize, patches: int, path: str) -> tuple[int, int]:
    """The configuration's stride if it makes that many patches, else the largest known one that does."""
    img_size = tuple(cfg.INPUT.SIZE_TEST)
    squares = [(step, step) for step in KNOWN_STRIDES if step <= size.patch_size]
    for stride in (tuple(cfg.MODEL.STRIDE_SIZE), *squares):
        if math.prod(grid_of(img_size, size.patch_size, stride)) == patches:
            return stride
    fitting = [
        f"{list(known)} with stride {stride[0]}"
        for known in KNOWN_SIZES
        for stride in squares
        if math.prod(grid_of(known, size.patch_size, stride)) == patches
    ]
    raise UserError(
        f"checkpoint {path}: positions for {patches} patches, which no usual stride makes of INPUT.SIZE_TEST "
        f"{list(img_size)}; set INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with, and "
        "MODEL.STRIDE_SIZE if it is unusual"
        f"{', perhaps ' + ' or '.join(fitting) if fitting else ''}"
    )


def _describe_size(backbone: State) -> str:
    depth = len({name.split(".")[1] for name in backbone if name.startswith("blocks.")})
    hidden = num_rows(backbone.get("blocks.0.mlp.fc1.weight"))
    bias = "with" if "blocks.0.attn.qkv.bias" in backbone else "no"
    return f"width {backbone['cls_token'].numel()}, depth {depth}, hidden width {hidden}, {bias} qkv bias"


def _no_model_message(file: ModelFile) -> str:
    if "encoder.mu.weight" in file.state:
        return (
            f"checkpoint {file.path}: holds CFAT's bridge (BFG) alone, no re-identification model; its place is "
            "CFAT.BRIDGE.WEIGHT, with CFAT.FINE.RELEASED True for a released one"
        )
    prefixes = list(dict.fromkeys(name.split(".")[0] for name in file.state))
    if "cls_token" in file.state or "conv1.weight" in file.state:
        return (
            f"checkpoint {file.path}: holds a bare backbone ({', '.join(prefixes[:4])}, ...), no re-identification "
            "model; weights to start training from go to MODEL.PRETRAIN_PATH"
        )
    return (
        f"checkpoint {file.path}: its names begin with {', '.join(prefixes[:8])}: no known model; expected a "
        "vision transformer or ResNet-50 under 'base.', as this project, TransReID, CIL-ReID and CFAT save it; where "
        "it is one under another prefix, save the state dict with names that begin with 'base.'"
    )


def _log_architecture(cfg: CfgNode, found: dict[str, Any], file: ModelFile) -> None:
    """Logs which model the file holds, and where the configuration disagrees."""
    parts = [found["MODEL.NAME"]]
    if found["MODEL.NAME"] == "transformer":
        stride = " x ".join(map(str, found["MODEL.STRIDE_SIZE"]))
        parts = [found["MODEL.TRANSFORMER_TYPE"], f"stride {stride}"]
        parts += [f"JPM with {found['MODEL.DEVIDE_LENGTH']} parts"] if found["MODEL.JPM"] else []
    elif found["MODEL.GEM_POOL"]:
        parts += ["GeM pooling"]
    if "base.sie_embed" in file.state:
        parts += [f"{num_rows(file.state['base.sie_embed'])} side vectors"]
    if "classifier.weight" in file.state:
        parts += [f"{num_rows(file.state['classifier.weight'])} classes"]
    logger.info("checkpoint %s holds %s", file.path, ", ".join(parts))
    differences = [
        f"{key} {found[key]} (configured {configured})"
        for key in relevant_keys(found)
        if key in found and found[key] != (configured := _value_of(cfg, key))
    ]
    if differences:
        logger.warning(
            "checkpoint %s: the model in the file is used, not the configured one: %s",
            file.path,
            ", ".join(differences),
        )
