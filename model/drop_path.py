"""Stochastic depth whose masks do not depend on how many processes share a batch.

Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, https://arxiv.org/abs/1603.09382.
"""

import torch
from timm.layers import DropPath as TimmDropPath

from utils import sharding


class DropPath(TimmDropPath):
    """timm's DropPath, one Bernoulli variable per row; several processes sample the mask of the whole batch and each
    takes its own rows of it.

    Attributes:
        num_views: sharding.num_views() of the forward that backward recomputes; None: of the current one.
    """

    num_views: int | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob

        def sample(rows: int) -> torch.Tensor:
            return x.new_empty((rows,) + (1,) * (x.ndim - 1)).bernoulli_(keep)

        with sharding.views(self.num_views or sharding.num_views()):
            mask = sharding.sample_shard(sample, len(x))
        return x * (mask / keep if keep > 0.0 and self.scale_by_keep else mask)
