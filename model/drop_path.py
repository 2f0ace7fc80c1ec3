"""Stochastic depth whose draws do not depend on how many processes, or parts, share a batch.

Huang et al., Deep Networks with Stochastic Depth, ECCV 2016, https://arxiv.org/abs/1603.09382.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from timm.layers import DropPath as TimmDropPath

from utils import distributed

_masks: "PartMasks | None" = None  # of the running part


class PartMasks:
    """The masks of a batch that goes through the network in parts: those that it would draw as a whole.

    Args:
        rows: of the whole batch, in this process.
    """

    def __init__(self, rows: int) -> None:
        self.rows, self.num_views = rows, distributed.num_views()
        self.drawn: list[torch.Tensor] = []  # in the order of the layers
        self.first = self.layer = 0

    @contextlib.contextmanager
    def part(self, first: int) -> Iterator[None]:
        """Within it, the rows of a forward are those from `first` on; also where it is computed again."""
        global _masks
        self.first, self.layer = first, 0
        before, _masks = _masks, self
        try:
            yield
        finally:
            _masks = before

    def next(self, draw: Callable[[int], torch.Tensor], rows: int) -> torch.Tensor:
        """The next layer's, for the `rows` of the part."""
        if self.layer == len(self.drawn):
            with distributed.views(self.num_views):
                self.drawn.append(distributed.sample_shard(draw, self.rows))
        self.layer += 1
        return self.drawn[self.layer - 1][self.first : self.first + rows]


class DropPath(TimmDropPath):
    """timm's, row by row; several processes draw the mask of the whole batch and take their rows of it, and so do the
    parts of a batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob

        def draw(rows: int) -> torch.Tensor:
            return x.new_empty((rows,) + (1,) * (x.ndim - 1)).bernoulli_(keep)

        mask = (_masks.next if _masks is not None else distributed.sample_shard)(draw, len(x))
        return x * (mask / keep if keep > 0.0 and self.scale_by_keep else mask)
