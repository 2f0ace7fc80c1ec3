"""Vision transformers of this codebase in files: what tells them, their keys, and pretrained ones fitted to a model."""

import logging
import math
from typing import Any

import torch
from yacs.config import CfgNode

from model.vit import TransReIDViT
from model.vit_sizes import VIT_SIZES, ViTSize, grid_of, size_of_state, vit_size
from model.weights.file_kind import FileKind, Pretrained
from model.weights.model_file import ModelFile
from model.weights.position_embeddings import (
    KNOWN_SIZES,
    KNOWN_STRIDES,
    find_grid,
    possible_grids,
    resize_position_embedding,
)
from model.weights.state_dicts import State, num_rows
from utils.errors import UserError

logger = logging.getLogger(__name__)

KEYS = ("MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE", "MODEL.SIE_CAMERA", "MODEL.SIE_VIEW", "MODEL.JPM")
JIGSAW_KEYS = ("MODEL.RE_ARRANGE", "MODEL.SHIFT_NUM", "MODEL.SHUFFLE_GROUP", "MODEL.DEVIDE_LENGTH")
IMAGENET_CLASSES = 1000  # or more, in the head of an image classifier
# Extra tokens of vision transformers of another structure.
REGISTERS = ("reg_token", "register_tokens")


def _holds(backbone: State) -> bool:
    return "cls_token" in backbone


def _relevant_keys(values: dict[str, Any]) -> list[str]:
    side = ["MODEL.SIE_COE"] if values.get("MODEL.SIE_CAMERA") or values.get("MODEL.SIE_VIEW") else []
    return [*KEYS, *side, *(JIGSAW_KEYS if values["MODEL.JPM"] else ())]


def _describe(found: dict[str, Any]) -> list[str]:
    stride = " x ".join(map(str, found["MODEL.STRIDE_SIZE"]))
    parts = [found["MODEL.TRANSFORMER_TYPE"], f"stride {stride}"]
    return parts + ([f"JPM with {found['MODEL.DEVIDE_LENGTH']} parts"] if found["MODEL.JPM"] else [])


def _keys(cfg: CfgNode, file: ModelFile, backbone: State, stored: dict[str, Any]) -> dict[str, Any]:
    check_image_size(cfg, file)
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


def check_image_size(cfg: CfgNode, file: ModelFile) -> None:
    """Refuses a file that was trained with images of another size, where it records it."""
    size = file.config.get("INPUT.SIZE_TEST")
    if size is not None and list(size) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"checkpoint {file.path}: trained with INPUT.SIZE_TEST {size}, now {list(cfg.INPUT.SIZE_TEST)}; set "
            "INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with"
        )


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


def _warn(cfg: CfgNode, file: ModelFile) -> None:
    """Warns of positions that fit several image sizes."""
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


def _is_classifier(state: State) -> bool:
    """Whether a backbone's file has the head of an image classifier, such as one of ImageNet's classes."""
    return any(num_rows(state.get(f"{head}.weight")) >= IMAGENET_CLASSES for head in ("head", "fc"))


def _fit(base: TransReIDViT, state: State, pretrained: Pretrained) -> State:
    """Fits a state dict to the backbone: resizes the positions, drops a distillation token, reshapes the patch
    projection of older files, which is a linear layer."""
    source = pretrained.source
    state = dict(state)
    num_prefix = 2 if state.pop("dist_token", None) is not None else 1
    projection = state.get("patch_embed.proj.weight")
    own = base.patch_embed.proj.weight
    if projection is not None and projection.shape == own.flatten(1).shape:  # (D, 3 p p)
        state["patch_embed.proj.weight"] = projection = projection.reshape(own.shape)
    side = state.get("sie_embed")
    if side is not None and (base.sie_embed is None or base.sie_embed.shape != side.shape):
        logger.info("%s: side information of another data set (%d vectors) is left out", source, num_rows(side))
        del state["sie_embed"]
    positions, width = state.get("pos_embed"), own.shape[0]
    fits = projection is not None and projection.shape == own.shape and not any(name in state for name in REGISTERS)
    # load_strictly reports every other difference
    if fits and positions is not None and positions.ndim == 3 and positions.shape[::2] == (1, width):
        grid_size, count = base.patch_embed.grid_size, positions.shape[1] - num_prefix
        from_grid = find_grid(
            count,
            patch_size=own.shape[-1],
            own=grid_size,
            own_stride=base.patch_embed.proj.stride,
            stored=pretrained.stored,
            given_size=pretrained.img_size,
            square=False if pretrained.from_reid else _is_classifier(state) or None,
            source=source,
        )
        if from_grid != grid_size:
            logger.info("%s: positions resized from %d x %d to %d x %d patches", source, *from_grid, *grid_size)
        state["pos_embed"] = resize_position_embedding(
            positions.float(), grid_size, from_grid=from_grid, num_prefix=num_prefix
        )
    return state


VIT_FILES = FileKind(
    title="a vision transformer",
    example="transformer, with e.g. pretrained/jx_vit_base_p16_224-80ecf9dd.pth",
    keys_of_model=KEYS + JIGSAW_KEYS + ("MODEL.SIE_COE",),
    has_image_size=True,
    holds=_holds,
    keys=_keys,
    relevant_keys=_relevant_keys,
    describe=_describe,
    warn=_warn,
    fit=_fit,
)
