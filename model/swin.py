"""Swin transformer with SOLIDER's semantic control.

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV 2021,
https://arxiv.org/abs/2103.14030. Chen et al., Beyond Appearance: a Semantic Controllable Self-Supervised Learning
Framework for Human-Centric Visual Tasks (SOLIDER), CVPR 2023, https://arxiv.org/abs/2303.17602.

It computes what SOLIDER's code does, which timm's Swin does not: odd blocks shift their windows even where the map is
smaller than a window, and merging puts the four neighbours of a channel side by side. Parameters are named as in
SOLIDER's files, without those that its feature does not use.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from timm.models.swin_transformer import WindowAttention, window_partition, window_reverse
from torch import nn

from model.drop_path import DropPath
from model.grad_checkpoint import run_checkpointed
from model.kinds import SWIN
from model.reid import Embedded, ReIDModel
from model.swin_sizes import SwinSize

PATCH = 4  # side of a patch in pixels
WINDOW = 7  # side of a window in cells
SHIFT = WINDOW // 2
MASKED = -100.0  # added to the attention between cells that are neighbours only because the shift wraps around
MLP_RATIO = 4


def pad_to_multiple(maps: torch.Tensor, multiple: int) -> torch.Tensor:
    """Pads maps (B, H, W, C) with zeros at the bottom and the right until `multiple` divides both sides."""
    return F.pad(maps, (0, 0, 0, -maps.shape[2] % multiple, 0, -maps.shape[1] % multiple))


def shift_mask(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """What to add to the attention in the shifted windows of a map: 0 or MASKED.

    Args:
        rows, columns: of the map, multiples of WINDOW.

    Returns:
        (windows, WINDOW^2, WINDOW^2).
    """
    row, column = (torch.arange(side, device=device) for side in (rows, columns))
    row_region = (row >= rows - WINDOW).long() + (row >= rows - SHIFT)  # 0, 1 or 2
    column_region = (column >= columns - WINDOW).long() + (column >= columns - SHIFT)
    regions = 3 * row_region[:, None] + column_region  # (rows, columns)
    cells = window_partition(regions[None, :, :, None], (WINDOW, WINDOW)).flatten(1)  # (windows, WINDOW^2)
    return MASKED * (cells[:, :, None] != cells[:, None, :])


class ShiftedWindowAttention(nn.Module):
    """Attention within windows of a map (B, H, W, C), which are shifted by half their side with `shift`."""

    def __init__(self, width: int, num_heads: int, *, shift: bool, drop_rate: float, attn_drop_rate: float) -> None:
        super().__init__()
        self.w_msa = WindowAttention(
            width, num_heads, window_size=WINDOW, attn_drop=attn_drop_rate, proj_drop=drop_rate
        )
        self.shift = shift

    def forward(self, maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        height, width = maps.shape[1:3]
        maps = pad_to_multiple(maps, WINDOW)
        rows, columns = maps.shape[1:3]
        if self.shift:
            maps = maps.roll((-SHIFT, -SHIFT), dims=(1, 2))
        windows = window_partition(maps, (WINDOW, WINDOW)).flatten(1, 2)  # (B windows, WINDOW^2, C)
        windows = self.w_msa(windows, mask if self.shift else None)
        maps = window_reverse(windows.unflatten(1, (WINDOW, WINDOW)), (WINDOW, WINDOW), rows, columns)
        if self.shift:
            maps = maps.roll((SHIFT, SHIFT), dims=(1, 2))
        return maps[:, :height, :width]


class FeedForward(nn.Module):
    """Two linear layers with a GELU; nested as SOLIDER's names say."""

    def __init__(self, width: int, drop_rate: float) -> None:
        super().__init__()
        hidden = MLP_RATIO * width
        first = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(drop_rate))
        self.layers = nn.Sequential(first, nn.Linear(hidden, width), nn.Dropout(drop_rate))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class SwinBlock(nn.Module):
    """LayerNorm and attention, LayerNorm and feed-forward layers, each with a residual branch; (B, H, W, C)."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        shift: bool,
        drop_rate: float,
        attn_drop_rate: float,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = ShiftedWindowAttention(
            width, num_heads, shift=shift, drop_rate=drop_rate, attn_drop_rate=attn_drop_rate
        )
        self.norm2 = nn.LayerNorm(width)
        self.ffn = FeedForward(width, drop_rate)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        maps = maps + self.drop_path(self.attn(self.norm1(maps), mask))
        return maps + self.drop_path(self.ffn(self.norm2(maps)))


class PatchMerging(nn.Module):
    """Halves both sides of a map and doubles its channels: (B, H, W, C) -> (B, H / 2, W / 2, 2 C), rounded up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps = pad_to_multiple(maps, 2)
        cells = maps.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, H / 2, 2, W / 2, 2, C)
        cells = cells.permute(0, 1, 3, 5, 2, 4).flatten(3)  # (B, H / 2, W / 2, 4 C): channel, then row, then column
        return self.reduction(self.norm(cells))


class SwinStage(nn.Module):
    """Blocks on maps of one size; `downsample` follows in all stages but the last."""

    downsample: PatchMerging | None

    def __init__(self, blocks: list[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class PatchEmbed(nn.Module):
    """Images (B, 3, H, W), padded with zeros to whole patches -> (B, H / 4, W / 4, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        padded = F.pad(images, (0, -width % PATCH, 0, -height % PATCH))
        return self.norm(self.projection(padded).permute(0, 2, 3, 1))


class Swin(nn.Module):
    """SOLIDER's Swin transformer, for images of any size.

    Args:
        size: width, depths and numbers of heads.
        semantic_weight: s of the semantic control. After each merging the map x becomes x * softplus(A w) + B w for
            w = (s, 1 - s), with linear layers A and B of the pretraining, which stay frozen. Below 0: no such control.
        drop_rate, attn_drop_rate: dropout of activations, and of attention weights.
        drop_path_rate: stochastic depth, linear from 0 in the first block to this in the last.

    Attributes:
        embed_dim: channels of the last map.
        grad_checkpointing: backward recomputes the blocks.
    """

    kind = SWIN
    grad_checkpointing = False
    semantic_input: torch.Tensor

    def __init__(
        self,
        size: SwinSize,
        *,
        semantic_weight: float,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [size.embed_dim * 2**stage for stage in range(len(size.depths))]
        self.embed_dim = widths[-1]
        self.patch_embed = PatchEmbed(size.embed_dim)
        self.drop_after_pos = nn.Dropout(drop_rate)
        drop_paths = torch.linspace(0, drop_path_rate, sum(size.depths), device="cpu").tolist()
        self.stages = nn.ModuleList()
        for stage, width in enumerate(widths):
            blocks = [
                SwinBlock(
                    width,
                    size.num_heads[stage],
                    shift=number % 2 == 1,
                    drop_rate=drop_rate,
                    attn_drop_rate=attn_drop_rate,
                    drop_path_rate=drop_paths.pop(0),
                )
                for number in range(size.depths[stage])
            ]
            self.stages.append(SwinStage(blocks, PatchMerging(width) if width != widths[-1] else None))
        self.norm3 = nn.LayerNorm(self.embed_dim)
        self.has_semantics = semantic_weight >= 0
        if self.has_semantics:
            self.semantic_embed_w = nn.ModuleList(nn.Linear(2, width) for width in widths[1:])
            self.semantic_embed_b = nn.ModuleList(nn.Linear(2, width) for width in widths[1:])
            weights = torch.tensor([semantic_weight, 1 - semantic_weight])
            self.register_buffer("semantic_input", weights, persistent=False)
        self.apply(_init_weights)
        if self.has_semantics:
            self.semantic_embed_w.requires_grad_(False)
            self.semantic_embed_b.requires_grad_(False)

    def layers_above(self) -> dict[str, int]:
        """How many layers are above each parameter, for layer-wise lr decay: blocks count through all stages, a merging
        with the block before it, and the last norm with the head, as in SimMIM's optimizer.py (Xie et al., CVPR 2022,
        https://github.com/microsoft/SimMIM)."""
        stages: list[Any] = list(self.stages)
        depth = sum(len(stage.blocks) for stage in stages)
        found = {f"patch_embed.{name}": depth + 1 for name, _ in self.patch_embed.named_parameters()}
        block_number = 0
        for number, stage in enumerate(stages):
            for name, _ in stage.named_parameters():  # blocks, then downsample
                part, index, *_ = name.split(".")
                step = int(index) + 1 if part == "blocks" else len(stage.blocks)
                found[f"stages.{number}.{name}"] = depth + 1 - block_number - step
            block_number += len(stage.blocks)
        return found

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The last map (B, rows, columns, D) after its LayerNorm, for normalised images (B, 3, H, W)."""
        maps = self.drop_after_pos(self.patch_embed(images))
        for number, stage in enumerate(self.stages):
            rows, columns = (side + -side % WINDOW for side in maps.shape[1:3])
            mask = shift_mask(rows, columns, maps.device)
            for block in stage.blocks:  # type: ignore[union-attr]
                recompute = self.grad_checkpointing and torch.is_grad_enabled()
                maps = run_checkpointed(block, maps, mask) if recompute else block(maps, mask)
            if stage.downsample is not None:
                maps = stage.downsample(maps)  # type: ignore[operator]
                maps = self._control(maps, number) if self.has_semantics else maps
        return self.norm3(maps)

    def _control(self, maps: torch.Tensor, stage: int) -> torch.Tensor:
        scale = F.softplus(self.semantic_embed_w[stage](self.semantic_input))
        return maps * scale + self.semantic_embed_b[stage](self.semantic_input)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class SwinReID(ReIDModel):
    """A Swin transformer's last map, averaged, as embedding, its cells as patch tokens. Cameras are not used."""

    def __init__(self, base: Swin, **options: Any) -> None:
        super().__init__(base, **options)

    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        cells = self.base(images).flatten(1, 2)  # (N, P, D)
        return Embedded(cells.mean(dim=1), cells)
