"""What model a checkpoint file holds: read from the configuration it was trained with, if it keeps one, and from the
shapes of its parameters, and told as the keys of a configuration."""

import logging
import math
from typing import Any

import torch

from model.vit import grid_of
from model.vit_sizes import VIT_SIZES, ViTSize, size_of_state, vit_size
from model.weights.position_grids import KNOWN_SIZES, KNOWN_STRIDES, possible_grids
from model.weights.stored_config import value_of
from utils.errors import UserError
from utils.state_dicts import State, num_rows

logger = logging.getLogger(__name__)

# Keys that decide what a model computes. A file of this project knows them all, one of the family's those that show.
TRANSFORMER_KEYS = ("MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE", "MODEL.SIE_CAMERA", "MODEL.SIE_VIEW", "MODEL.JPM")
JIGSAW_KEYS = ("MODEL.RE_ARRANGE", "MODEL.SHIFT_NUM", "MODEL.SHUFFLE_GROUP", "MODEL.DEVIDE_LENGTH")
RESNET_KEYS = ("MODEL.LAST_STRIDE", "MODEL.GEM_POOL", "MODEL.STEM_RELU", "MODEL.STEM_POOL")
MODEL_KEYS = ("MODEL.NAME", *TRANSFORMER_KEYS, "MODEL.SIE_COE", *JIGSAW_KEYS, *RESNET_KEYS)


def config_of_file(cfg, trained: dict[str, Any], state: State, path: str):
    """A clone of cfg whose MODEL describes what the checkpoint holds; one log line says what it holds, and another one
    where cfg disagrees.

    SIE_CAMERA and SIE_VIEW may both be False though the file has side information: a user's wish, see load_model.

    Args:
        trained: the configuration in the file, `stored_config`.
        state: the model's state dict.
        path: for messages.

    Raises:
        UserError: the file holds no re-identification model, or one of an unknown size, or one for pictures of another
            size than INPUT.SIZE_TEST.
    """
    if trained.get("SEED", cfg.SEED) != cfg.SEED:
        logger.warning("checkpoint %s: trained with SEED %s, now %s: the test draws other corruptions",
                       path, trained["SEED"], cfg.SEED)  # fmt: skip
    backbone = {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}
    kept = {key: trained[key] for key in MODEL_KEYS if key in trained}
    if "cls_token" in backbone:
        _check_size(cfg, trained, path)
        found = kept | _transformer_keys(cfg, kept, state, backbone, path)
    elif "conv1.weight" in backbone:
        found = kept | {"MODEL.NAME": "resnet50", "MODEL.GEM_POOL": "global_pool.p" in state, "MODEL.JPM": False}
    else:
        raise UserError(_nothing_known(state, path))
    warn_of_untold(cfg, trained, state, path)
    _log_found(cfg, found, state, path)
    described = cfg.clone()
    described.defrost()
    for key, value in found.items():
        setattr(described.MODEL, key.removeprefix("MODEL."), value)
    described.freeze()
    return described


def check_initial_weights(cfg, trained: dict[str, Any], path: str) -> None:
    """Makes sure that a stage starts from a file with the settings that the file was trained with, where it tells.

    Raises:
        UserError: settings that change features without changing a shape.
    """
    keys = relevant_keys({key: value_of(cfg, key) for key in MODEL_KEYS})
    keys += ["INPUT.SIZE_TEST"] if cfg.MODEL.NAME == "transformer" else []
    pairs = {key: (trained.get(key), value_of(cfg, key)) for key in keys}
    differ = [f"{key} {then}, now {now}" for key, (then, now) in pairs.items() if then is not None and then != now]
    if differ:
        raise UserError(
            f"checkpoint {path}: trained with {'; '.join(differ)}; a stage starts from a file with the file's settings"
        )


def warn_of_untold(cfg, trained: dict[str, Any], state: State, path: str) -> None:
    """Warns of what neither a shape nor the file's configuration tells, though features depend on it: the
    configuration decides it."""
    if "base.conv1.weight" in state and "MODEL.STEM_POOL" not in trained:
        logger.warning(
            "checkpoint %s does not tell the pooling of its stem: MODEL.STEM_POOL %d of the configuration is used; the "
            "TransReID codebase (CIL-ReID among it) has 2, BoT and torchvision 3", path, cfg.MODEL.STEM_POOL,
        )  # fmt: skip
    positions, projection = state.get("base.pos_embed"), state.get("base.patch_embed.proj.weight")
    shapes = [0 if value is None else value.ndim for value in (positions, projection)]
    if shapes != [3, 4] or "INPUT.SIZE_TEST" in trained:
        return
    size, stride, patch_size = tuple(cfg.INPUT.SIZE_TEST), tuple(cfg.MODEL.STRIDE_SIZE), projection.shape[-1]
    own = grid_of(size, patch_size, stride)
    others = [grid for grid in possible_grids(positions.shape[1] - 1, patch_size, own=own) if grid != own]
    if others and math.prod(own) == positions.shape[1] - 1:
        logger.warning(
            "checkpoint %s does not tell the size of its images: its positions are read as %d x %d patches, as "
            "INPUT.SIZE_TEST %s says; they would also be those of %s", path, *own, list(size),
            " or ".join(f"{rows} x {columns}" for rows, columns in others),
        )  # fmt: skip


def relevant_keys(values: dict[str, Any]) -> list[str]:
    """Those of MODEL_KEYS that matter for the model that they describe."""
    if values["MODEL.NAME"] == "resnet50":
        return ["MODEL.NAME", *RESNET_KEYS]
    sides = ["MODEL.SIE_COE"] if values.get("MODEL.SIE_CAMERA") or values.get("MODEL.SIE_VIEW") else []
    return ["MODEL.NAME", *TRANSFORMER_KEYS, *sides, *(JIGSAW_KEYS if values["MODEL.JPM"] else ())]


def mean_side_row(table: torch.Tensor) -> torch.Tensor:
    """The mean (1, 1, D) of side information vectors (R, 1, D): what a camera that the model never met gets."""
    return table.mean(dim=0, keepdim=True)


def _check_size(cfg, trained: dict, path: str) -> None:
    size = trained.get("INPUT.SIZE_TEST")
    if size is not None and list(size) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"checkpoint {path}: trained with INPUT.SIZE_TEST {size}, now {list(cfg.INPUT.SIZE_TEST)}; set "
            "INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with"
        )


def _transformer_keys(cfg, kept: dict[str, Any], state: State, backbone: State, path: str) -> dict[str, Any]:
    wanted = kept.get("MODEL.TRANSFORMER_TYPE", cfg.MODEL.TRANSFORMER_TYPE)
    # The name that the file or the configuration gives comes first: no shape tells how many heads there are.
    try:
        candidates = {wanted: vit_size(wanted), **VIT_SIZES}
    except UserError as error:
        raise UserError(f"checkpoint {path}: {error}") from error
    name = size_of_state(backbone, candidates)
    if name is None:
        raise UserError(
            f"checkpoint {path}: a vision transformer of another size ({_sizes_in(backbone)}) than "
            f"{', '.join(candidates)}; set MODEL.TRANSFORMER_TYPE to the name of its backbone in timm"
        )
    positions = backbone.get("pos_embed", torch.empty(0))
    if positions.ndim != 3:
        raise UserError(
            f"checkpoint {path}: base.pos_embed: {tuple(positions.shape)} in the file, expected (1, 1 + patches, "
            "width); the file is broken, fetch it anew"
        )
    patches = positions.shape[1] - 1
    stride = kept.get("MODEL.STRIDE_SIZE") or _find_stride(cfg, candidates[name], patches, path)
    parts = sum(name.startswith("bottleneck_") and name.endswith(".weight") for name in state)
    length = parts or kept.get("MODEL.DEVIDE_LENGTH", cfg.MODEL.DEVIDE_LENGTH)
    jigsaw = {"MODEL.JPM": "b1.1.weight" in state, "MODEL.DEVIDE_LENGTH": length}
    found = {"MODEL.NAME": "transformer", "MODEL.TRANSFORMER_TYPE": name, "MODEL.STRIDE_SIZE": list(stride), **jigsaw}
    sides = ("MODEL.SIE_CAMERA", "MODEL.SIE_VIEW")
    if "sie_embed" not in backbone:
        return found | dict.fromkeys(sides, False)
    if not (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW):
        return found | dict.fromkeys(sides, False)  # as the user wishes
    return found


def _find_stride(cfg, size: ViTSize, patches: int, path: str) -> tuple[int, int]:
    """The configuration's stride if it makes that many patches, else the largest known one that does."""
    img_size = tuple(cfg.INPUT.SIZE_TEST)
    squares = [(step, step) for step in KNOWN_STRIDES if step <= size.patch_size]
    for stride in (tuple(cfg.MODEL.STRIDE_SIZE), *squares):
        if _count(img_size, size, stride) == patches:
            return stride
    fitting = [
        f"{list(known)} with stride {stride[0]}"
        for known in KNOWN_SIZES
        for stride in squares
        if _count(known, size, stride) == patches
    ]
    raise UserError(
        f"checkpoint {path}: positions for {patches} patches, which no usual stride makes of INPUT.SIZE_TEST "
        f"{list(img_size)}; set INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with, and "
        "MODEL.STRIDE_SIZE if it is unusual"
        f"{', perhaps ' + ' or '.join(fitting) if fitting else ''}"
    )


def _count(img_size: tuple[int, int], size: ViTSize, stride: tuple[int, int]) -> int:
    rows, columns = grid_of(img_size, size.patch_size, stride)
    return rows * columns


def _sizes_in(backbone: State) -> str:
    depth = len({name.split(".")[1] for name in backbone if name.startswith("blocks.")})
    width = backbone["cls_token"].numel()
    hidden = num_rows(backbone.get("blocks.0.mlp.fc1.weight"))
    return (
        f"width {width}, depth {depth}, hidden width {hidden}, "
        f"{'with' if 'blocks.0.attn.qkv.bias' in backbone else 'no'} qkv bias"
    )


def _nothing_known(state: State, path: str) -> str:
    if "encoder.mu.weight" in state:
        return (
            f"checkpoint {path}: holds CFAT's bridge (BFG) alone, no re-identification model; its place is "
            "CFAT.BRIDGE.WEIGHT, with CFAT.FINE.RELEASED True for a released one"
        )
    prefixes = list(dict.fromkeys(name.split(".")[0] for name in state))
    if "cls_token" in state or "conv1.weight" in state:
        return (
            f"checkpoint {path}: holds a bare backbone ({', '.join(prefixes[:4])}, ...), no re-identification model; "
            "weights to start training from go to MODEL.PRETRAIN_PATH"
        )
    return (
        f"checkpoint {path}: its names begin with {', '.join(prefixes[:8])}: no model that is known here; expected a "
        "vision transformer or ResNet-50 under 'base.', as this project, TransReID, CIL-ReID and CFAT save it; where "
        "it is one under another prefix, save the state dict with names that begin with 'base.'"
    )


def _log_found(cfg, found: dict[str, Any], state: State, path: str) -> None:
    """Says what the file holds, and where the configuration says otherwise."""
    parts = [found["MODEL.NAME"]]
    if found["MODEL.NAME"] == "transformer":
        stride = found["MODEL.STRIDE_SIZE"]
        parts = [found["MODEL.TRANSFORMER_TYPE"], f"stride {' x '.join(map(str, stride))}"]
        parts += [f"JPM with {found['MODEL.DEVIDE_LENGTH']} parts"] if found["MODEL.JPM"] else []
    elif found["MODEL.GEM_POOL"]:
        parts += ["GeM pooling"]
    if "base.sie_embed" in state:
        parts += [f"{num_rows(state['base.sie_embed'])} side vectors"]
    if "classifier.weight" in state:
        parts += [f"{num_rows(state['classifier.weight'])} classes"]
    logger.info("checkpoint %s holds %s", path, ", ".join(parts))
    differ = [
        f"{key} {found[key]} (configured {configured})"
        for key in relevant_keys(found)
        if key in found and found[key] != (configured := value_of(cfg, key))
    ]
    if differ:
        logger.warning(
            "checkpoint %s: the model in the file is used, not the configured one: %s", path, ", ".join(differ)
        )
