"""Swin transformers in files: what tells them, their keys, and pretrained ones fitted to a model."""

import logging
import math
from typing import Any

from timm.layers import resize_rel_pos_bias_table_simple
from yacs.config import CfgNode

from model.swin import WINDOW, Swin
from model.swin_sizes import SWIN_SIZES, SwinSize
from model.weights.file_kind import FileKind, Pretrained
from model.weights.model_file import ModelFile
from model.weights.state_dicts import State, num_rows
from utils.errors import UserError

logger = logging.getLogger(__name__)

KEYS = ("MODEL.TRANSFORMER_TYPE", "MODEL.SEMANTIC_WEIGHT", "MODEL.REDUCE_FEAT_DIM")
TABLE = "attn.w_msa.relative_position_bias_table"
SEMANTIC = "semantic_embed_"
STAGES = 4


def _size_of(backbone: State) -> tuple[int, list[int], list[int]]:
    """Width, depths and heads of a backbone's state dict, as far as its names and shapes show them."""
    depths = [
        len({name.split(".")[3] for name in backbone if name.startswith(f"stages.{n}.blocks.")}) for n in range(4)
    ]
    tables = [backbone.get(f"stages.{stage}.blocks.0.{TABLE}") for stage in range(STAGES)]
    heads = [num_rows(table[0]) if table is not None and table.ndim == 2 and len(table) else 0 for table in tables]
    return num_rows(backbone.get("patch_embed.projection.weight")), depths, heads


def _keys(cfg: CfgNode, file: ModelFile, backbone: State, stored: dict[str, Any]) -> dict[str, Any]:
    width, depths, heads = _size_of(backbone)
    size = SwinSize(width, tuple(depths), tuple(heads))  # type: ignore[arg-type]
    name = next((name for name, known in SWIN_SIZES.items() if known == size), None)
    if name is None:
        raise UserError(
            f"checkpoint {file.path}: a Swin transformer of another size (width {width}, depths {depths}, heads "
            f"{heads}) than {', '.join(SWIN_SIZES)}"
        )
    weight = stored.get("MODEL.SEMANTIC_WEIGHT", cfg.MODEL.SEMANTIC_WEIGHT)
    if not _has_semantics(backbone):
        weight = -1.0
    elif weight < 0:
        raise UserError(
            f"checkpoint {file.path}: a Swin with semantic control, and MODEL.SEMANTIC_WEIGHT is {weight}; set it to "
            "the weight that the file was trained with (SOLIDER's: 0.2)"
        )
    reduction = file.state.get("fcneck.weight")
    return {
        "MODEL.NAME": "transformer",
        "MODEL.TRANSFORMER_TYPE": name,
        "MODEL.SEMANTIC_WEIGHT": weight,
        "MODEL.REDUCE_FEAT_DIM": reduction is not None,
        "MODEL.FEAT_DIM": num_rows(reduction) or cfg.MODEL.FEAT_DIM,
        "MODEL.SIE_CAMERA": False,
        "MODEL.SIE_VIEW": False,
        "MODEL.JPM": False,
        "MODEL.STEM_CONV": False,
        "MODEL.POOLING": "class_token",
        "MODEL.PART_TOKENS": False,
    }


def _has_semantics(backbone: State) -> bool:
    return any(name.startswith(SEMANTIC) for name in backbone)


def _describe(found: dict[str, Any]) -> list[str]:
    weight = found["MODEL.SEMANTIC_WEIGHT"]
    control = f"semantic weight {weight}" if weight >= 0 else "no semantic control"
    reduced = [f"features reduced to {found['MODEL.FEAT_DIM']}"] if found["MODEL.REDUCE_FEAT_DIM"] else []
    return [found["MODEL.TRANSFORMER_TYPE"], control, *reduced]


def _relevant_keys(values: dict[str, Any]) -> list[str]:
    return [*KEYS, *(["MODEL.FEAT_DIM"] if values["MODEL.REDUCE_FEAT_DIM"] else [])]


def _warn(cfg: CfgNode, file: ModelFile) -> None:
    if "MODEL.SEMANTIC_WEIGHT" not in file.config and any(name.startswith(f"base.{SEMANTIC}") for name in file.state):
        logger.warning(
            "checkpoint %s does not tell its semantic weight: MODEL.SEMANTIC_WEIGHT %s of the configuration is used; "
            "SOLIDER's published commands have 0.2, its code's default is 1.0",
            file.path,
            cfg.MODEL.SEMANTIC_WEIGHT,
        )


def _fit(base: Swin, state: State, pretrained: Pretrained) -> State:
    """Fits a state dict to the backbone: resizes bias tables of other windows, checks the semantic control."""
    source = pretrained.source
    state = dict(state)
    if base.has_semantics and not _has_semantics(state):
        raise UserError(
            f"{source}: a Swin without SOLIDER's semantic control, e.g. of ImageNet; set MODEL.SEMANTIC_WEIGHT to -1"
        )
    if not base.has_semantics and _has_semantics(state):
        logger.info("%s: its semantic control is left out: MODEL.SEMANTIC_WEIGHT is below 0", source)
        state = {name: value for name, value in state.items() if not name.startswith(SEMANTIC)}
    own = base.state_dict()
    for name, value in state.items():
        if not name.endswith(TABLE) or name not in own or value.ndim != 2:
            continue
        side = math.isqrt(len(value))
        if value.shape != own[name].shape and side * side == len(value) > 0:  # other differences: load_strictly
            state[name] = resize_rel_pos_bias_table_simple(value.float(), (WINDOW, WINDOW), own[name].shape)
            logger.info("%s: %s resized from %d x %d", source, name, side, side)
    return state


SWIN_FILES = FileKind(
    title="a Swin transformer",
    example="transformer and TRANSFORMER_TYPE to e.g. swin_small_patch4_window7_224, with SOLIDER's files",
    keys_of_model=(*KEYS, "MODEL.FEAT_DIM"),
    holds=lambda backbone: "stages.0.blocks.0.attn.w_msa.qkv.weight" in backbone,
    keys=_keys,
    relevant_keys=_relevant_keys,
    describe=_describe,
    warn=_warn,
    fit=_fit,
)
