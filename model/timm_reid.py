"""A re-identification model on a backbone of timm."""

import math
from typing import Any

import torch

from model.attention_rollout import attention_rollout
from model.heads import Head
from model.reid import Embedded, ReIDModel
from model.timm_backbone import TimmBackbone


class TimmReID(ReIDModel):
    """The feature that timm's model pools as embedding, its patch tokens or the cells of its map as patch tokens.

    Args:
        base: backbone.
        options: those of ReIDModel.
    """

    base: TimmBackbone

    def __init__(self, base: TimmBackbone, **options: Any) -> None:
        width = base.layout.embed_dim  # `base.embed_dim` is timm's own, of the first stage in some models
        super().__init__(base, heads=(Head("", width, width),), **options)

    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        return Embedded(*self.base(images, camids, viewids))

    def attend(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention rollout of the embedding, see TransformerReID.attend; for models with `has_rollout`."""

        def run() -> Embedded:
            return self.embed(self.normalize(images), camids, viewids)

        base: Any = self.base
        layout = base.layout
        assert layout.grid is not None
        shares = torch.zeros(layout.num_prefix + math.prod(layout.grid))
        shares[0] = 1.0  # the class token alone
        attention = attention_rollout(base.blocks, run, shares=shares, num_prefix=layout.num_prefix)  # (N, P)
        return attention.unflatten(1, layout.grid)  # (N, rows, columns)
