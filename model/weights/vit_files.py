"""Vision transformers of this codebase in files: what tells them, their keys, and pretrained ones fitted to a model."""

import logging
import math

import torch
from yacs.config import CfgNode

from model.kinds import VIT, kind_of_names
from model.vit import TransReIDViT
from model.vit_sizes import NAMESAKES, VIT_SIZES, ViTSize, grid_of, patch_size_of_state, size_of_state, vit_size
from model.weights.file_kind import FileKind, Pretrained, Values
from model.weights.model_file import ModelFile
from model.weights.position_embeddings import (
    KNOWN_SIZES,
    KNOWN_STRIDES,
    find_grid,
    possible_grids,
    resize_position_embedding,
)
from model.weights.state_dicts import State, backbone_of, num_rows
from model.weights.vit_structure import (
    PART_TOKEN_KEYS,
    STRUCTURE_KEYS,
    backbone_keys,
    check_structure,
    describe_structure,
    num_position_prefix,
    structure_keys,
)
from utils.errors import UserError

logger = logging.getLogger(__name__)

KEYS = ("MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE", "MODEL.SIE_CAMERA", "MODEL.SIE_VIEW", "MODEL.JPM")
JIGSAW_KEYS = ("MODEL.RE_ARRANGE", "MODEL.SHIFT_NUM", "MODEL.SHUFFLE_GROUP", "MODEL.DEVIDE_LENGTH")
TIMM_SMALL = "vit_small_patch16_224"
IMAGENET_CLASSES = 1000  # or more, in the head of an image classifier
# Extra tokens of vision transformers of another structure.
REGISTERS = ("reg_token", "register_tokens")


def _holds(backbone: State) -> bool:
    return "cls_token" in backbone


def _relevant_keys(values: Values) -> list[str]:
    side = ["MODEL.SIE_COE"] if values.get("MODEL.SIE_CAMERA") or values.get("MODEL.SIE_VIEW") else []
    reduced = ["MODEL.FEAT_DIM"] if values["MODEL.REDUCE_FEAT_DIM"] else []
    parts = PART_TOKEN_KEYS if values["MODEL.PART_TOKENS"] else ()
    return [*KEYS, *side, *(JIGSAW_KEYS if values["MODEL.JPM"] else ()), *STRUCTURE_KEYS, *reduced, *parts]


def _describe(found: Values) -> list[str]:
    stride = " x ".join(map(str, found["MODEL.STRIDE_SIZE"]))
    parts = [found["MODEL.TRANSFORMER_TYPE"], f"stride {stride}", *describe_structure(found)]
    return parts + ([f"JPM with {found['MODEL.DEVIDE_LENGTH']} parts"] if found["MODEL.JPM"] else [])


def _candidates(wanted: str) -> dict[str, ViTSize]:
    """Sizes by name, in the order in which a file's shapes are compared with them: no shape tells how many heads there
    are, so the name that the file or the configuration gives comes first."""
    names = [wanted, NAMESAKES.get(wanted, wanted)] if kind_of_names("transformer", wanted) == VIT else []
    return {**{name: vit_size(name) for name in names}, **VIT_SIZES}


def _keys(cfg: CfgNode, file: ModelFile, backbone: State, stored: Values) -> Values:
    check_image_size(cfg, file)
    wanted = stored.get("MODEL.TRANSFORMER_TYPE", cfg.MODEL.TRANSFORMER_TYPE)
    try:
        candidates = _candidates(wanted)
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
    structure = structure_keys(cfg, file.path, file.state, backbone, stored)
    patch_size, patches = candidates[name].patch_size, positions.shape[1] - num_position_prefix(backbone)
    has_stem = structure["MODEL.STEM_CONV"] or candidates[name].stem  # whose patches do not overlap
    strides = [(patch_size, patch_size)] if has_stem else known_strides(cfg, patch_size)
    stride = stored.get("MODEL.STRIDE_SIZE") or find_stride(cfg, patch_size, strides, patches, file.path)
    parts = sum(name.startswith("bottleneck_") and name.endswith(".weight") for name in file.state)
    parts = parts if structure["MODEL.JPM"] else 0  # PASS has necks of these names too
    found = {
        "MODEL.NAME": "transformer",
        "MODEL.TRANSFORMER_TYPE": name,
        "MODEL.STRIDE_SIZE": list(stride),
        "MODEL.DEVIDE_LENGTH": parts or stored.get("MODEL.DEVIDE_LENGTH", cfg.MODEL.DEVIDE_LENGTH),
        **structure,
    }
    if "sie_embed" not in backbone or not (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW):
        found |= {"MODEL.SIE_CAMERA": False, "MODEL.SIE_VIEW": False}
    return found


def check_image_size(cfg: CfgNode, file: ModelFile) -> None:
    size = file.config.get("INPUT.SIZE_TEST")
    if size is not None and list(size) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"checkpoint {file.path}: trained with INPUT.SIZE_TEST {size}, now {list(cfg.INPUT.SIZE_TEST)}; set "
            "INPUT.SIZE_TRAIN and SIZE_TEST to the size that it was trained with"
        )


def known_strides(cfg: CfgNode, patch_size: int) -> list[tuple[int, int]]:
    """Patch strides that a file may have: the configuration's, then published ones."""
    rows, columns = cfg.MODEL.STRIDE_SIZE
    return [(rows, columns), *((step, step) for step in KNOWN_STRIDES if step <= patch_size)]


def find_stride(
    cfg: CfgNode, patch_size: int, strides: list[tuple[int, int]], patches: int, path: str
) -> tuple[int, int]:
    """The first of `strides`, the configuration's and known ones, that makes that many patches."""
    img_size = tuple(cfg.INPUT.SIZE_TEST)
    for stride in strides:
        if math.prod(grid_of(img_size, patch_size, stride)) == patches:
            return stride
    fitting = [
        f"{list(known)} with stride {stride[0]}"
        for known in KNOWN_SIZES
        for stride in dict.fromkeys(strides)
        if math.prod(grid_of(known, patch_size, stride)) == patches and stride[0] == stride[1]
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
    backbone = backbone_of(file.state)
    positions, projection = backbone.get("pos_embed"), backbone.get("patch_embed.proj.weight")
    if positions is None or projection is None or (positions.ndim, projection.ndim) != (3, 4):
        return
    if "INPUT.SIZE_TEST" in file.config:
        return
    size, patch_size = tuple(cfg.INPUT.SIZE_TEST), patch_size_of_state(backbone)
    patches = positions.shape[1] - num_position_prefix(backbone)
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
    check_structure(base.state_dict(), state, source)
    _check_size(base.state_dict(), state, source)
    state = dict(state)
    num_prefix = num_position_prefix(state)
    state.pop("dist_token", None)
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
            patch_size=base.patch_embed.patch_size[0],
            own=grid_size,
            own_stride=base.patch_embed.stride,
            stored=pretrained.stored,
            given_size=pretrained.img_size,
            hw_ratio=pretrained.hw_ratio,
            square=False if pretrained.from_reid else _is_classifier(state) or None,
            source=source,
        )
        if from_grid != grid_size:
            logger.info("%s: positions resized from %d x %d to %d x %d patches", source, *from_grid, *grid_size)
        state["pos_embed"] = resize_position_embedding(
            positions.float(), grid_size, from_grid=from_grid, num_prefix=num_prefix
        )
    return state


def _check_size(own: State, state: State, source: str) -> None:
    """Checks that a pretrained backbone of a known size has that of the model, whose state dict is `own`."""
    sizes = _candidates(TIMM_SMALL)
    name = size_of_state(state, sizes)
    if name is not None and size_of_state(own, sizes) != name:
        raise UserError(
            f"{source}: a backbone of {_describe_size(state)}, and the model's has {_describe_size(own)}; set "
            f"MODEL.TRANSFORMER_TYPE to {name}, or give weights of the model's size"
        )


def _pretrained_keys(cfg: CfgNode, backbone: State) -> Values:
    """Structures that a pretrained backbone has, and the size that it has where MODEL.TRANSFORMER_TYPE names two."""
    found: Values = {key: True for key, has in backbone_keys(backbone).items() if has}
    namesake = NAMESAKES.get(cfg.MODEL.TRANSFORMER_TYPE)
    if namesake is not None and size_of_state(backbone, _candidates(cfg.MODEL.TRANSFORMER_TYPE)) == namesake:
        found["MODEL.TRANSFORMER_TYPE"] = namesake
    return found


VIT_FILES = FileKind(
    title="a vision transformer",
    example="transformer, with e.g. pretrained/jx_vit_base_p16_224-80ecf9dd.pth",
    keys_of_model=(*KEYS, *JIGSAW_KEYS, "MODEL.SIE_COE", *STRUCTURE_KEYS, "MODEL.FEAT_DIM", *PART_TOKEN_KEYS),
    has_image_size=True,
    holds=_holds,
    keys=_keys,
    relevant_keys=_relevant_keys,
    describe=_describe,
    warn=_warn,
    fit=_fit,
    pretrained_keys=_pretrained_keys,
)
