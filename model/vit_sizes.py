"""Sizes of vision transformers: the TransReID family's names, and timm's models of the same structure."""

import difflib
from dataclasses import dataclass, replace
from functools import cache

import timm
import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from utils.errors import UserError


@dataclass(frozen=True)
class ViTSize:
    """What the parameters of a backbone look like.

    `attention_scale` multiplies queries with keys; None: head width ** -0.5.
    """

    embed_dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    attention_scale: float | None = None
    patch_size: int = 16


VIT_SIZES = {
    "vit_base_patch16_224_TransReID": ViTSize(768, 12, 12),
    "deit_small_patch16_224_TransReID": ViTSize(384, 12, 6),
    # The older small ViT of timm that TransReID took over: 8 heads, no bias, scaled by the whole width.
    "vit_small_patch16_224_TransReID": ViTSize(768, 8, 8, mlp_ratio=3.0, qkv_bias=False, attention_scale=768**-0.5),
    "vit_tiny_patch16_128_TransReID": ViTSize(192, 6, 6),
}


def vit_size(name: str) -> ViTSize:
    """Size of the backbone `name`: one of VIT_SIZES, or a vision transformer of timm.

    Raises:
        UserError: no such name, with near ones; or a timm model of another structure, with what differs.
    """
    if name in VIT_SIZES:
        return VIT_SIZES[name]
    if not timm.is_model(name):
        known = [*VIT_SIZES, *timm.list_models(module="vision_transformer")]
        alike = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        near = [other for other in known if other.startswith(name)][:3] or alike
        raise UserError(
            f"MODEL.TRANSFORMER_TYPE {name!r}: no such backbone; known are {', '.join(VIT_SIZES)} and timm's vision "
            f"transformers{'; did you mean ' + ' or '.join(near) + '?' if near else ''}"
        )
    return _timm_size(name)


@cache
def _timm_size(name: str) -> ViTSize:
    try:
        with torch.device("meta"):  # shapes only: a large model is not filled with numbers to be measured
            model = timm.create_model(name)
    except RuntimeError as error:  # a tag after the name that timm does not know
        raise UserError(f"MODEL.TRANSFORMER_TYPE {name}: timm cannot build it: {error}") from error
    block = model.blocks[0] if type(model) is VisionTransformer else None
    if type(block) is not Block or type(block.mlp) is not Mlp:
        raise UserError(f"MODEL.TRANSFORMER_TYPE {name}: a {type(model).__name__} of another structure; {_NEEDED}")
    size = ViTSize(
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / model.embed_dim,
        qkv_bias=block.attn.qkv.bias is not None,
        patch_size=model.patch_embed.patch_size[0],
    )
    differences = _differences(model, block, size)
    if differences:
        raise UserError(f"MODEL.TRANSFORMER_TYPE {name}: another structure ({', '.join(differences)}); {_NEEDED}")
    return size


_NEEDED = (
    "the backbone is a plain ViT: class token, learned positions, square patches, GELU, LayerNorm at the end, e.g. "
    "vit_base_patch16_224, vit_large_patch16_224 or deit_tiny_patch16_224"
)


def _differences(model: VisionTransformer, block: Block, size: ViTSize) -> list[str]:
    """What a timm model has that TransReIDViT has not, or the other way round."""
    with torch.device("meta"):
        plain = VisionTransformer(
            patch_size=size.patch_size, embed_dim=size.embed_dim, depth=size.depth, num_heads=size.num_heads,
            mlp_ratio=size.mlp_ratio, qkv_bias=size.qkv_bias, num_classes=0,
        )  # fmt: skip
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


def size_of_state(state: dict[str, torch.Tensor], known: dict[str, ViTSize]) -> str | None:
    """The name among `known` whose parameters have the shapes of a backbone's `state`; None where none has.

    Heads and scale show in no shape: sizes that differ in nothing else are told apart by their place in `known`.
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
        patch_size=projection.shape[-1],
    )
    return next(
        (name for name, size in known.items() if replace(size, num_heads=0, attention_scale=None) == shapes), None
    )
