"""Stochastic depth whose draws do not depend on how many processes share a batch.

Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, https://arxiv.org/abs/1603.09382.
"""

import torch
from timm.layers import DropPath as TimmDropPath

from utils.distributed import draw_share


class DropPath(TimmDropPath):
    """timm's, row by row; several processes draw the mask of the whole batch and take their rows of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob

        def draw(rows: int) -> torch.Tensor:
            return x.new_empty((rows,) + (1,) * (x.ndim - 1)).bernoulli_(keep)

        mask = draw_share(draw, len(x))
        return x * (mask.div_(keep) if keep > 0.0 and self.scale_by_keep else mask)
