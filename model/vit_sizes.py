"""Sizes of vision transformers: by the names of the TransReID codebase and CLIP-ReID, and by those of timm's models."""

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import timm
import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from model.swin_sizes import SWIN_SIZES
from utils.errors import UserError, did_you_mean


@dataclass(frozen=True)
class ViTSize:
    """Width, depth and the like of a backbone.

    Attributes:
        attention_scale: factor on the product of queries and keys; None: head_dim ** -0.5.
        patch_size: side of a patch in pixels.
        stem: channels of the convolutions of stride 2 that embed patches; (): one convolution embeds them.
    """

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    attention_scale: float | None = None
    patch_size: int = 16
    stem: tuple[int, ...] = ()


VIT_SIZES = {
    "vit_base_patch16_224_TransReID": ViTSize(768, 12, 12),
    "deit_small_patch16_224_TransReID": ViTSize(384, 12, 6),
    # The older small ViT of timm that TransReID uses: 8 heads, no bias, scaled by the whole width.
    "vit_small_patch16_224_TransReID": ViTSize(768, 8, 8, mlp_ratio=3.0, qkv_bias=False, attention_scale=768**-0.5),
    "vit_tiny_patch16_128_TransReID": ViTSize(192, 6, 6),
    # With early convolutions: from random weights it needs fewer epochs.
    "vit_tiny_conv_patch16_128": ViTSize(192, 6, 6, stem=(24, 48, 96, 192)),
}


@dataclass(frozen=True)
class ClipSize:
    """An image encoder of CLIP: a vision transformer, and the width of the space that images share with texts."""

    vit: ViTSize
    proj_dim: int


CLIP_SIZES = {"ViT-B-16": ClipSize(ViTSize(768, 12, 12), 512)}  # by the names of CLIP-ReID's code

# The name of two sizes: in TransReID-SSL, PASS, SOLIDER-REID and PersonViT it means timm's small ViT.
NAMESAKES = {"vit_small_patch16_224_TransReID": "vit_small_patch16_224"}
# A stem of convolutions in a state dict (model/patch_embed.py), and by how much it reduces an image.
STEM_CONVOLUTION, STEM_STRIDE = "patch_embed.conv.0.weight", 2
EARLY_CONVOLUTION = re.compile(r"patch_embed\.stem\.\d+\.0\.weight")  # weights of a size's `stem`, in order


def grid_of(img_size: tuple[int, int], patch_size: int, stride: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches in an image (height, width) in pixels; 0 where the image is smaller than a patch."""
    rows, columns = ((side - patch_size) // step + 1 for side, step in zip(img_size, stride, strict=True))
    return max(rows, 0), max(columns, 0)


def vit_size(name: str) -> ViTSize:
    """Size of the backbone `name`: one of VIT_SIZES, or a vision transformer of timm.

    Raises:
        UserError: no such name, with similar ones; or a timm model of another structure, with what differs.
    """
    if name in VIT_SIZES:
        return VIT_SIZES[name]
    if not timm.is_model(name):
        own = [*VIT_SIZES, *SWIN_SIZES, *CLIP_SIZES]
        known = [*own, *timm.list_models(module="vision_transformer")]
        raise UserError(
            f"MODEL.TRANSFORMER_TYPE {name!r}: no such backbone; known are {', '.join(own)} and timm's vision "
            f"transformers{did_you_mean(name, known, count=3, cutoff=0.5)}"
        )
    return _timm_size(name)


@cache
def _timm_size(name: str) -> ViTSize:
    try:
        with torch.device("meta"):  # shapes alone, without memory for a large model's weights
            model: Any = timm.create_model(name)
    except RuntimeError as error:  # a tag after the name that timm does not know
        raise UserError(f"MODEL.TRANSFORMER_TYPE {name}: timm cannot build it: {error}") from error
    block: Any = model.blocks[0] if type(model) is VisionTransformer else None
    if type(block) is not Block or type(block.mlp) is not Mlp:
        raise UserError(f"MODEL.TRANSFORMER_TYPE {name}: a {type(model).__name__} of another structure; {_EXPECTED}")
    attention: Any = block.attn
    size = ViTSize(
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=attention.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / model.embed_dim,
        qkv_bias=attention.qkv.bias is not None,
        patch_size=model.patch_embed.patch_size[0],
    )
    differences = _differences(model, block, size)
    if differences:
        raise UserError(f"MODEL.TRANSFORMER_TYPE {name}: another structure ({', '.join(differences)}); {_EXPECTED}")
    return size


_EXPECTED = (
    "expected a plain ViT: class token, learned positions, square patches, GELU, LayerNorm at the end, e.g. "
    "vit_base_patch16_224, vit_large_patch16_224 or deit_tiny_patch16_224; MODEL.NAME timm takes any model of timm"
)


def _differences(model: VisionTransformer, block: Block, size: ViTSize) -> list[str]:
    """Where a timm model differs in structure from the plain VisionTransformer that TransReIDViT is."""
    with torch.device("meta"):
        plain = VisionTransformer(
            patch_size=size.patch_size,
            embed_dim=size.embed_dim,
            depth=size.depth,
            num_heads=size.num_heads,
            mlp_ratio=size.mlp_ratio,
            qkv_bias=size.qkv_bias,
            num_classes=0,
        )
    names = {name for name in model.state_dict() if not name.startswith(("head.", "head_dist."))}
    found = sorted(names ^ set(plain.state_dict()))
    if model.no_embed_class:
        found.append("no position for the class token")
    if model.patch_embed.patch_size != (size.patch_size, size.patch_size):
        found.append(f"patches of {model.patch_embed.patch_size}")
    if type(block.mlp.act) is not nn.GELU:
        found.append(f"activation {type(block.mlp.act).__name__}")
    for norm in (block.norm1, model.norm):
        if not isinstance(norm, nn.LayerNorm) or norm.eps != 1e-6:
            found.append(f"normalisation {norm}")
    return found[:4]


def patch_size_of_state(state: dict[str, torch.Tensor]) -> int:
    """Side of a patch in pixels, from the (D, C, p, p) projection of a backbone's `state`."""
    reduction = STEM_STRIDE if STEM_CONVOLUTION in state else 2 ** len(stem_of_state(state))
    return state["patch_embed.proj.weight"].shape[-1] * reduction


def stem_of_state(state: dict[str, torch.Tensor]) -> tuple[int, ...]:
    """Channels of the early convolutions in a backbone's `state`, see ViTSize.stem."""
    return tuple(len(weight) for name, weight in state.items() if EARLY_CONVOLUTION.fullmatch(name))


def size_of_state(state: dict[str, torch.Tensor], known: dict[str, ViTSize]) -> str | None:
    """Finds the size among `known` whose parameters have the shapes of a backbone's `state`.

    Returns:
        Its name, None where there is none. No shape shows the number of heads or the attention scale: of sizes that
        differ in these alone, the first.
    """
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    projection, hidden = state.get("patch_embed.proj.weight"), state.get("blocks.0.mlp.fc1.weight")
    if projection is None or hidden is None or projection.ndim != 4 or hidden.ndim != 2 or not len(projection):
        return None
    shapes = ViTSize(
        embed_dim=len(projection),
        depth=depth,
        num_heads=0,
        mlp_ratio=len(hidden) / len(projection),
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        patch_size=patch_size_of_state(state),
        stem=stem_of_state(state),
    )
    return next(
        (name for name, size in known.items() if replace(size, num_heads=0, attention_scale=None) == shapes), None
    )
