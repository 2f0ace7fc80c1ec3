"""TransReID's jigsaw patch module (JPM): He et al., ICCV 2021, section 3.2, https://arxiv.org/abs/2102.04378.

Parameters are named as in the released checkpoints: b1 and b2 (block and LayerNorm of the global and of the local
branch), bottleneck_1..n and classifier_1..n.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from model.heads import Head
from model.reid import Embedded, TransformerReID
from model.vit import TransReIDViT


@dataclass(frozen=True)
class JigsawSettings:
    """How patches are divided into parts.

    Attributes:
        rearrange: shift and shuffle the patches first; see `rearrange_patches`.
        shift, groups: of the rearrangement.
        parts: number of parts, of equal length.
    """

    rearrange: bool = True
    shift: int = 5
    groups: int = 2
    parts: int = 4


def rearrange_patches(patches: torch.Tensor, *, shift: int, groups: int) -> torch.Tensor:
    """Shifts and shuffles patches, so that every part has patches of the whole image.

    As the released code does it: the roll is by `shift` - 1 places, since it counts from the class token, and where P
    is no multiple of `groups`, the last but one of the shifted patches is repeated.

    Args:
        patches: (B, P, D).
        shift: first patch of the new order, counted from 1.
        groups: patches of each group of consecutive ones alternate with those of the others.

    Returns:
        (B, P', D), P' the next multiple of `groups`.
    """
    patches = patches.roll(1 - shift, dims=1)
    missing = -patches.shape[1] % groups
    if missing:
        patches = torch.cat([patches, patches[:, -2:-1].expand(-1, missing, -1)], dim=1)
    return patches.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)  # (B, groups, P'/groups, D) -> (B, P', D)


class JigsawReID(TransformerReID):
    """Vision transformer with two copies of its last block: b1 sees the whole image, b2 each part of it with the class
    token.

    `base` keeps its own last block and LayerNorm, which nothing uses, because the released files have them.

    Args:
        base: backbone, as in ReIDModel; it needs at least as many patches as there are parts.
        settings: how patches are divided into parts.
        options: those of ReIDModel.
    """

    def __init__(self, base: TransReIDViT, settings: JigsawSettings, **options: Any) -> None:
        endings = ["", *(f"_{part}" for part in range(1, settings.parts + 1))]
        heads = tuple(Head(ending, base.embed_dim, base.embed_dim) for ending in endings)
        super().__init__(base, heads=heads, **options)
        if base.patch_embed.num_patches < settings.parts:
            raise ValueError(f"{base.patch_embed.num_patches} patches cannot be divided into {settings.parts} parts")
        self.settings = settings
        self.part_length = base.patch_embed.num_patches // settings.parts
        self.b1 = self._copy_of_last_block()
        self.b2 = self._copy_of_last_block()
        for unused in (base.blocks[-1], base.norm):
            unused.requires_grad_(False)

    def _copy_of_last_block(self) -> nn.Sequential:
        return nn.Sequential(copy.deepcopy(self.base.blocks[-1]), copy.deepcopy(self.base.norm))

    def init_branches(self) -> None:
        """Copies the weights of the backbone's last block to both branches, after pretrained weights are loaded."""
        for branch in (self.b1, self.b2):
            branch.load_state_dict(self._copy_of_last_block().state_dict())

    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        tokens = self.base.forward_trunk(images, camids, viewids)
        whole = self._run_branch(self.b1, tokens)
        class_token, patches = tokens[:, :1], tokens[:, 1:]
        if self.settings.rearrange:
            patches = rearrange_patches(patches, shift=self.settings.shift, groups=self.settings.groups)
        starts = range(0, self.settings.parts * self.part_length, self.part_length)
        parts = (patches[:, start : start + self.part_length] for start in starts)
        local = tuple(self._run_branch(self.b2, torch.cat([class_token, part], dim=1))[:, 0] for part in parts)
        return Embedded(whole[:, 0], whole[:, 1:], local)

    def _run_branch(self, branch: nn.Sequential, tokens: torch.Tensor) -> torch.Tensor:
        block, norm = branch
        return norm(self.base.run_block(block, tokens))

    @property
    def path_to_embedding(self) -> list[nn.Module]:
        return [*list(self.base.blocks)[:-1], self.b1[0]]
