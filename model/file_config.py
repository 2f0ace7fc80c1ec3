"""What model a checkpoint file holds: read from the configuration it was trained with, if it keeps one, and from the
shapes of its parameters, and told as the keys of a configuration."""

import logging
from typing import Any

import torch
import yaml

from model.vit import grid_of
from model.vit_sizes import VIT_SIZES, ViTSize, size_of_state, vit_size
from utils.checkpoints import State
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Keys that decide what the model computes. A file of this project knows them all, one of the family's those that show.
MODEL_KEYS = tuple(
    f"MODEL.{name}"
    for name in (
        *("NAME", "TRANSFORMER_TYPE", "STRIDE_SIZE", "SIE_CAMERA", "SIE_VIEW", "SIE_COE", "JPM", "RE_ARRANGE"),
        *("SHIFT_NUM", "SHUFFLE_GROUP", "DEVIDE_LENGTH", "LAST_STRIDE", "GEM_POOL", "STEM_RELU"),
    )
)
# Keys of the test that a file of this project may have been trained with other values of, and what happens then.
WORTH_KNOWING = {
    "SEED": "the test draws other corruptions",
    "INPUT.PIXEL_MEAN": "the file's are used",
    "INPUT.PIXEL_STD": "the file's are used",
}
# Picture sizes of published models, and strides, to guess from when a file's number of patches does not fit.
KNOWN_SIZES = ((256, 128), (384, 128), (256, 256), (384, 384), (224, 224), (128, 64))


def config_of_file(cfg, content: dict, state: State, path: str):
    """A clone of cfg whose MODEL describes what the checkpoint holds; one log line says what it holds, and another one
    where cfg disagrees.

    SIE_CAMERA and SIE_VIEW may both be False though the file has side information: a user's wish, see load_model.

    Args:
        content: the file's dict, for the configuration in its `meta`.
        state: the model's state dict.
        path: for messages.

    Raises:
        UserError: the file holds no re-identification model, or one of an unknown size, or one for pictures of another
            size than INPUT.SIZE_TEST.
    """
    trained = _trained_config(content)
    _compare_settings(cfg, trained, path)
    backbone = {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}
    kept = {key: value for key in MODEL_KEYS if (value := _value_of(trained, key)) is not None}
    if "cls_token" in backbone:
        _check_size(cfg, trained, path)
        found = kept | _transformer_keys(cfg, kept, state, backbone, path)
    elif "conv1.weight" in backbone:
        found = kept | {"MODEL.NAME": "resnet50", "MODEL.GEM_POOL": "global_pool.p" in state, "MODEL.JPM": False}
    else:
        raise UserError(_nothing_known(state, path))
    _log_found(cfg, found, state, path)
    described = cfg.clone()
    described.defrost()
    for key, value in found.items():
        setattr(described.MODEL, key.removeprefix("MODEL."), value)
    described.freeze()
    return described


def mean_side_row(table: torch.Tensor) -> torch.Tensor:
    """The mean (1, 1, D) of side information vectors (R, 1, D): what a camera that the model never met gets."""
    return table.mean(dim=0, keepdim=True)


def _check_size(cfg, trained: dict, path: str) -> None:
    size = _value_of(trained, "INPUT.SIZE_TEST")
    if size is not None and list(size) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"checkpoint {path}: trained with INPUT.SIZE_TEST {size}, now {list(cfg.INPUT.SIZE_TEST)}; set "
            "INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with"
        )


def _transformer_keys(cfg, kept: dict[str, Any], state: State, backbone: State, path: str) -> dict[str, Any]:
    wanted = kept.get("MODEL.TRANSFORMER_TYPE", cfg.MODEL.TRANSFORMER_TYPE)
    # The name that the file or the configuration gives comes first: no shape tells how many heads there are.
    candidates = {wanted: vit_size(wanted), **VIT_SIZES}
    name = size_of_state(backbone, candidates)
    if name is None:
        raise UserError(
            f"checkpoint {path}: a vision transformer of another size ({_sizes_in(backbone)}) than "
            f"{', '.join(candidates)}; set MODEL.TRANSFORMER_TYPE to the name of its backbone in timm"
        )
    patches = backbone["pos_embed"].shape[1] - 1
    stride = kept.get("MODEL.STRIDE_SIZE") or _find_stride(cfg, candidates[name], patches, path)
    parts = sum(name.startswith("bottleneck_") and name.endswith(".weight") for name in state)
    jigsaw = {"MODEL.JPM": "b1.1.weight" in state, **({"MODEL.DEVIDE_LENGTH": parts} if parts else {})}
    found = {"MODEL.NAME": "transformer", "MODEL.TRANSFORMER_TYPE": name, "MODEL.STRIDE_SIZE": list(stride), **jigsaw}
    sides = ("MODEL.SIE_CAMERA", "MODEL.SIE_VIEW")
    if "sie_embed" not in backbone:
        return found | dict.fromkeys(sides, False)
    if not (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW):
        return found | dict.fromkeys(sides, False)  # as the user wishes
    return found


def _find_stride(cfg, size: ViTSize, patches: int, path: str) -> tuple[int, int]:
    """The configuration's stride if it makes that many patches, else the largest square one that does."""
    img_size = tuple(cfg.INPUT.SIZE_TEST)
    squares = [(step, step) for step in range(size.patch_size, 0, -1)]
    for stride in (tuple(cfg.MODEL.STRIDE_SIZE), *squares):
        if _count(img_size, size, stride) == patches:
            return stride
    fitting = [
        f"{list(known)} with stride {stride[0]}"
        for known in KNOWN_SIZES
        for stride in squares[: size.patch_size // 2]
        if _count(known, size, stride) == patches
    ]
    raise UserError(
        f"checkpoint {path}: positions for {patches} patches, which no stride makes of INPUT.SIZE_TEST "
        f"{list(img_size)}; set INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with"
        f"{', perhaps ' + ' or '.join(fitting) if fitting else ''}"
    )


def _count(img_size: tuple[int, int], size: ViTSize, stride: tuple[int, int]) -> int:
    rows, columns = grid_of(img_size, size.patch_size, stride)
    return rows * columns


def _sizes_in(backbone: State) -> str:
    depth = len({name.split(".")[1] for name in backbone if name.startswith("blocks.")})
    hidden = len(backbone.get("blocks.0.mlp.fc1.weight", ()))
    return (
        f"width {backbone['cls_token'].shape[-1]}, depth {depth}, hidden width {hidden}, "
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
        f"checkpoint {path}: holds no model that is known here; expected a vision transformer or ResNet-50 under "
        f"'base.', as this project, TransReID, CIL-ReID and CFAT save it, found names that begin with "
        f"{', '.join(prefixes[:8])}"
    )


def _trained_config(content: dict) -> dict:
    """The configuration that a file of this project keeps; {} for others, whatever they call `meta`."""
    meta = content.get("meta")
    try:
        trained = yaml.safe_load(meta["config"]) if isinstance(meta, dict) and "config" in meta else None
    except (yaml.YAMLError, AttributeError):
        trained = None
    return trained if isinstance(trained, dict) else {}


def _value_of(node: dict, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _compare_settings(cfg, trained: dict, path: str) -> None:
    """Tells of settings that a file of this project was trained with other values of."""
    for key, note in WORTH_KNOWING.items():
        then, now = _value_of(trained, key), _value_of(cfg, key)
        if then is not None and then != now:
            logger.warning("checkpoint %s: trained with %s %s, now %s: %s", path, key, then, now, note)


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
        parts += [f"{len(state['base.sie_embed'])} side vectors"]
    if "classifier.weight" in state:
        parts += [f"{len(state['classifier.weight'])} classes"]
    logger.info("checkpoint %s holds %s", path, ", ".join(parts))
    transformer_only = {"MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE"} if found["MODEL.NAME"] == "resnet50" else set()
    differ = [
        f"{key} {value} (configured {configured})"
        for key, value in found.items()
        if key not in transformer_only and value != (configured := _value_of(cfg, key))
    ]
    if differ:
        logger.warning(
            "checkpoint %s: the model in the file is used, not the configured one: %s", path, ", ".join(differ)
        )
