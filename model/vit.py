"""TransReID's vision transformer on timm's blocks.

He et al., TransReID: Transformer-based Object Re-Identification, ICCV 2021, https://arxiv.org/abs/2102.04378.
Parameters are named as in the released checkpoints: cls_token, pos_embed, sie_embed, patch_embed.proj, blocks.N, norm.
"""

from functools import partial

import torch
from timm.layers import trunc_normal_
from timm.models.vision_transformer import Block
from torch import nn

from model.drop_path import DropPath
from model.vit_sizes import ViTSize


class PatchEmbed(nn.Module):
    """Square patches, overlapping where the stride is smaller than they are, each projected to a token."""

    def __init__(self, img_size: tuple[int, int], patch_size: int, stride: tuple[int, int], embed_dim: int) -> None:
        super().__init__()
        self.grid_size = grid_of(img_size, patch_size, stride)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(3, embed_dim, kernel_size=patch_size, stride=stride)
        fan_out = patch_size * patch_size * embed_dim
        nn.init.normal_(self.proj.weight, 0, (2.0 / fan_out) ** 0.5)  # as TransReID
        nn.init.zeros_(self.proj.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)  # (B, P, D)


def grid_of(img_size: tuple[int, int], patch_size: int, stride: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of patches in a picture (height, width); none where the picture is smaller than a patch."""
    rows, columns = ((side - patch_size) // step + 1 for side, step in zip(img_size, stride, strict=True))
    return max(rows, 0), max(columns, 0)


class ScaleQuery(nn.Module):
    """In the place of timm's query normalisation: a factor on (..., N, head_dim), for an attention scale of its own."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, query: torch.Tensor) -> torch.Tensor:
        return query * self.factor


def make_block(size: ViTSize, *, drop_rate: float, attn_drop_rate: float, drop_path: float) -> Block:
    """timm's transformer block at a size; attention runs through PyTorch's fused kernel."""
    block = Block(
        size.embed_dim,
        size.num_heads,
        mlp_ratio=size.mlp_ratio,
        qkv_bias=size.qkv_bias,
        proj_drop=drop_rate,
        attn_drop=attn_drop_rate,
        drop_path=drop_path,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )
    if drop_path:
        block.drop_path1, block.drop_path2 = DropPath(drop_path), DropPath(drop_path)
    if size.attention_scale is not None:
        block.attn.q_norm = ScaleQuery(size.attention_scale / block.attn.scale)
    return block


class TransReIDViT(nn.Module):
    """Vision transformer with side information embedding (TransReID, sections 3.1 and 3.3).

    Args:
        img_size: (height, width) in pixels, at least a patch each.
        size: width, depth, heads and the like.
        stride: patch stride (rows, columns) in pixels; smaller than the patch lets patches overlap.
        num_cameras, num_views: sizes of the side information table; 0 leaves that side out. A table of one row is
            added to every picture, whatever its camera.
        sie_coefficient: factor on the side information embedding.
        drop_rate, attn_drop_rate: dropout after projections, and on attention weights.
        drop_path_rate: stochastic depth, growing linearly from 0 in the first block to this in the last.
    """

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
    ) -> None:
        super().__init__()
        self.embed_dim = size.embed_dim
        self.num_cameras, self.num_views = num_cameras, num_views
        self.sie_coefficient = sie_coefficient
        self.patch_embed = PatchEmbed(img_size, size.patch_size, stride, size.embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size.embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.patch_embed.num_patches + 1, size.embed_dim))
        table = max(num_cameras, 1) * max(num_views, 1) if num_cameras or num_views else 0
        self.sie_embed = nn.Parameter(torch.zeros(table, 1, size.embed_dim)) if table else None
        self.pos_drop = nn.Dropout(drop_rate)
        self.blocks = nn.ModuleList(
            make_block(
                size,
                drop_rate=drop_rate,
                attn_drop_rate=attn_drop_rate,
                drop_path=drop_path_rate * index / max(size.depth - 1, 1),
            )
            for index in range(size.depth)
        )
        self.norm = nn.LayerNorm(size.embed_dim, eps=1e-6)
        for embedding in (self.cls_token, self.pos_embed, self.sie_embed):
            if embedding is not None:
                trunc_normal_(embedding, std=0.02)
        self.blocks.apply(_init_linear)

    def forward(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens after the last LayerNorm.

        Args:
            images: (B, 3, H, W) float, normalised.
            camids, viewids: (B,) int64, needed where the model was built with cameras, or viewpoints.

        Returns:
            (B, 1 + P, D): the class token, then the patch tokens row by row.
        """
        return self.norm(self.blocks[-1](self.forward_trunk(images, camids, viewids)))

    def forward_trunk(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens (B, 1 + P, D) before the last block; arguments as in `forward`."""
        tokens = self.patch_embed(images)
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1) + self.pos_embed
        if self.sie_embed is not None:
            tokens = tokens + self.sie_coefficient * self._side_information(camids, viewids)
        tokens = self.pos_drop(tokens)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        return tokens

    def _side_information(self, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> torch.Tensor:
        if len(self.sie_embed) == 1:
            return self.sie_embed
        if self.num_cameras and self.num_views:
            return self.sie_embed[camids * self.num_views + viewids]
        return self.sie_embed[camids if self.num_cameras else viewids]


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
