"""TransReID's vision transformer, a subclass of timm's.

He et al., TransReID: Transformer-based Object Re-Identification, ICCV 2021, https://arxiv.org/abs/2102.04378.
Parameters are named as in the released checkpoints: cls_token, pos_embed, sie_embed, patch_embed.proj, blocks.N, norm.
"""

from functools import partial
from typing import Any

import torch
from timm import layers
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.drop_path import DropPath
from model.kinds import VIT
from model.side_information import make_side_table, side_vectors
from model.vit_sizes import ViTSize, grid_of
from utils import sharding


class PatchEmbed(layers.PatchEmbed):
    """timm's patch embedding with a stride of its own: patches overlap where it is smaller than they are."""

    def __init__(self, img_size: tuple[int, int], patch_size: int, *, stride: tuple[int, int], **options: Any) -> None:
        super().__init__(img_size, patch_size, **options)
        self.proj.stride = stride
        self.grid_size = grid_of(img_size, patch_size, stride)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        fan_out = patch_size * patch_size * self.proj.out_channels
        nn.init.normal_(self.proj.weight, 0, (2.0 / fan_out) ** 0.5)  # as TransReID
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]


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

    Attributes:
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
            embed_layer=partial(PatchEmbed, stride=stride),
            num_classes=0,
            weight_init="skip",
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
            camids, viewids: (B,) int64, needed where the model has SIE of cameras, or of viewpoints.

        Returns:
            (B, 1 + P, D): the class token, then the patch tokens row by row.
        """
        return self.norm(self.run_block(self.blocks[-1], self.forward_trunk(images, camids, viewids)))

    def forward_trunk(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Tokens (B, 1 + P, D) before the last block; arguments as in `forward`."""
        tokens = self._pos_embed(self.patch_embed(images), self._side_information(camids, viewids))
        for block in list(self.blocks)[:-1]:
            tokens = self.run_block(block, tokens)
        return tokens

    def run_block(self, block: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        """A block on tokens (B, N, D). With `grad_checkpointing`, backward recomputes it instead of storing its
        activations (Chen et al., 2016, https://arxiv.org/abs/1604.06174); gradients are the same to the last bit."""
        if not (self.grad_checkpointing and torch.is_grad_enabled()):
            return block(tokens)
        num_views = sharding.num_views()

        def run(tokens: torch.Tensor) -> torch.Tensor:
            with sharding.views(num_views):  # drop path samples the same mask again in backward
                return block(tokens)

        return checkpoint(run, tokens, use_reentrant=False)

    def _pos_embed(self, patches: torch.Tensor, side: torch.Tensor | None = None) -> torch.Tensor:
        """timm's class token and positions, with the side information (B or 1, 1, D) added before the dropout."""
        class_token = self.cls_token.expand(patches.shape[0], -1, -1)
        tokens = torch.cat([class_token, patches], dim=1) + self.pos_embed  # (B, 1 + P, D)
        return self.pos_drop(tokens if side is None else tokens + side)

    def _side_information(self, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> torch.Tensor | None:
        numbers = {"num_cameras": self.num_cameras, "num_views": self.num_views}
        vectors = side_vectors(self.sie_embed, **numbers, camids=camids, viewids=viewids)
        return None if vectors is None else self.sie_coefficient * vectors  # (B or 1, 1, D)
