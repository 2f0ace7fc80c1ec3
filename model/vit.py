"""TransReID's vision transformer, a subclass of timm's.

He et al., TransReID: Transformer-based Object Re-Identification, ICCV 2021, https://arxiv.org/abs/2102.04378.
Parameters are named as in the released checkpoints: cls_token, pos_embed, sie_embed, patch_embed.proj, blocks.N, norm.
"""

from typing import Any

import torch
from timm import layers
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from model.drop_path import DropPath
from model.grad_checkpoint import run_checkpointed
from model.kinds import VIT
from model.patch_embed import make_patch_embed
from model.side_information import make_side_table, side_vectors
from model.vit_sizes import ViTSize


class ScaleQuery(nn.Module):
    """Multiplies queries (..., N, head_dim) by a factor. In the place of timm's query norm, it gives an attention scale
    other than head_dim ** -0.5."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, query: torch.Tensor) -> torch.Tensor:
        return query * self.factor


class TransReIDViT(VisionTransformer):
    """timm's vision transformer with side information embedding (SIE; TransReID, sections 3.1 and 3.3).

    Args:
        img_size: (height, width) in pixels, at least a patch each.
        size: width, depth, number of heads and the like.
        stride: patch stride (rows, columns) in pixels; smaller than the patch lets patches overlap.
        num_cameras, num_views: sizes of the SIE table; 0 leaves that side out. A table of one row is added to every
            image, whatever its camera.
        sie_coefficient: factor on the SIE.
        drop_rate, attn_drop_rate: dropout after projections, and on attention weights.
        drop_path_rate: stochastic depth, linear from 0 in the first block to this in the last.
        stem_conv: embed patches by a stem of convolutions, see model.patch_embed; they do not overlap.
        no_embed_class: pos_embed has positions of the patches alone; for subclasses with prefix tokens of their own.
        options: further ones of timm's VisionTransformer.

    Attributes:
        num_prefix_tokens: tokens before the patch tokens.
        grad_checkpointing: set by timm's `set_grad_checkpointing`; see `run_block`.
    """

    kind = VIT
    cls_token: nn.Parameter
    pos_embed: nn.Parameter
    sie_embed: nn.Parameter | None
    blocks: nn.Sequential
    patch_embed: Any

    def __init__(
        self,
        img_size: tuple[int, int],
        size: ViTSize,
        *,
        stride: tuple[int, int] = (16, 16),
        num_cameras: int = 0,
        num_views: int = 0,
        sie_coefficient: float = 3.0,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        stem_conv: bool = False,
        no_embed_class: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            img_size,
            size.patch_size,
            embed_dim=size.embed_dim,
            depth=size.depth,
            num_heads=size.num_heads,
            mlp_ratio=size.mlp_ratio,
            qkv_bias=size.qkv_bias,
            pos_drop_rate=drop_rate,
            proj_drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            embed_layer=make_patch_embed(stride, ics_stem=stem_conv, channels=size.stem),
            no_embed_class=no_embed_class,
            num_classes=0,
            weight_init="skip",
            **options,
        )
        self.num_cameras, self.num_views = num_cameras, num_views
        self.sie_coefficient = sie_coefficient
        self.sie_embed = make_side_table(num_cameras, num_views, size.embed_dim)
        block: Any
        for index, block in enumerate(self.blocks):
            rate = drop_path_rate * index / max(size.depth - 1, 1)
            if rate:
                block.drop_path1, block.drop_path2 = DropPath(rate), DropPath(rate)
            if size.attention_scale is not None:
                block.attn.q_norm = ScaleQuery(size.attention_scale / block.attn.scale)
        for embedding in (self.cls_token, self.pos_embed, self.sie_embed):
            if embedding is not None:
                layers.trunc_normal_(embedding, std=0.02)
        self.blocks.apply(self._init_weights)

    def forward(  # type: ignore[override]
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens after the last LayerNorm.

        Args:
            images: (B, 3, H, W) float, normalised.
            camids, viewids: (B,) int64 where the model has SIE of cameras, or of viewpoints; without both, every image
                gets the mean of the side vectors.

        Returns:
            (B, T + P, D): the T prefix tokens, class token first, then the patch tokens row by row.
        """
        return self.norm(self.run_block(self.blocks[-1], self.forward_trunk(images, camids, viewids)))

    def forward_trunk(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens (B, T + P, D) before the last block; arguments as in `forward`."""
        tokens = self._pos_embed(self.patch_embed(images), self._side_information(camids, viewids))
        for block in list(self.blocks)[:-1]:
            tokens = self.run_block(block, tokens)
        return tokens

    def run_block(self, block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """A block on tokens (B, N, D); see model.grad_checkpoint."""
        recompute = self.grad_checkpointing and torch.is_grad_enabled()
        return run_checkpointed(block, tokens) if recompute else block(tokens)

    def _pos_embed(self, patches: torch.Tensor, side: torch.Tensor | None = None) -> torch.Tensor:
        """timm's class token and positions, with the side information (B or 1, 1, D) added before the dropout."""
        class_token = self.cls_token.expand(patches.shape[0], -1, -1)
        tokens = torch.cat([class_token, patches], dim=1) + self.pos_embed  # (B, 1 + P, D)
        return self.pos_drop(tokens if side is None else tokens + side)

    def _side_information(self, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> torch.Tensor | None:
        numbers = {"num_cameras": self.num_cameras, "num_views": self.num_views}
        vectors = side_vectors(self.sie_embed, **numbers, camids=camids, viewids=viewids)
        return None if vectors is None else self.sie_coefficient * vectors  # (B or 1, 1, D)
