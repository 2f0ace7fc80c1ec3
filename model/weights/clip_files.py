"""CLIP's image encoders in files: what tells them, their keys, and pretrained ones fitted to a model."""

from typing import Any

from yacs.config import CfgNode

from model.vit_sizes import CLIP_SIZES, size_of_state
from model.weights.file_kind import FileKind
from model.weights.model_file import ModelFile
from model.weights.state_dicts import State
from model.weights.vit_files import VIT_FILES, check_image_size, find_stride, known_strides
from utils.errors import UserError

KEYS = ("MODEL.TRANSFORMER_TYPE", "MODEL.STRIDE_SIZE", "MODEL.SIE_CAMERA", "MODEL.SIE_VIEW")
SIDE_KEYS = ("MODEL.SIE_COE",)


def _holds(backbone: State) -> bool:
    return "norm_pre.weight" in backbone and "proj" in backbone


def _relevant_keys(values: dict[str, Any]) -> list[str]:
    has_side = values.get("MODEL.SIE_CAMERA") or values.get("MODEL.SIE_VIEW")
    return [*KEYS, *(SIDE_KEYS if has_side else ())]


def _keys(cfg: CfgNode, file: ModelFile, backbone: State, stored: dict[str, Any]) -> dict[str, Any]:
    check_image_size(cfg, file)
    sizes = {name: size.vit for name, size in CLIP_SIZES.items() if backbone["proj"].shape[1:] == (size.proj_dim,)}
    name, positions = size_of_state(backbone, sizes), backbone.get("pos_embed")
    if name is None or positions is None or positions.ndim != 3:
        raise UserError(
            f"checkpoint {file.path}: an image encoder of CLIP of another size than {', '.join(CLIP_SIZES)}, or a "
            "broken file"
        )
    patch_size, patches = sizes[name].patch_size, positions.shape[1] - 1
    strides = known_strides(cfg, patch_size)
    stride = stored.get("MODEL.STRIDE_SIZE") or find_stride(cfg, patch_size, strides, patches, file.path)
    found = {
        "MODEL.NAME": "transformer",
        "MODEL.TRANSFORMER_TYPE": name,
        "MODEL.STRIDE_SIZE": list(stride),
        "MODEL.JPM": False,
        "MODEL.STEM_CONV": False,
        "MODEL.POOLING": "class_token",
        "MODEL.PART_TOKENS": False,
        "MODEL.REDUCE_FEAT_DIM": False,
    }
    if "sie_embed" not in backbone or not (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW):
        found |= {"MODEL.SIE_CAMERA": False, "MODEL.SIE_VIEW": False}
    return found


CLIP_FILES = FileKind(
    title="an image encoder of CLIP",
    example="transformer and TRANSFORMER_TYPE to ViT-B-16, with e.g. OpenAI's ViT-B-16.pt",
    keys_of_model=KEYS + SIDE_KEYS,
    has_image_size=True,
    holds=_holds,
    keys=_keys,
    relevant_keys=_relevant_keys,
    describe=lambda found: [found["MODEL.TRANSFORMER_TYPE"], "stride {} x {}".format(*found["MODEL.STRIDE_SIZE"])],
    warn=VIT_FILES.warn,
    fit=VIT_FILES.fit,
)
