"""Gradient checkpointing: blocks whose activations backward recomputes instead of storing them.

Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016, https://arxiv.org/abs/1604.06174.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from utils import sharding


def run_checkpointed(block: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
    """A block on its inputs, to be recomputed in backward; gradients are the same to the last bit."""
    num_views = sharding.num_views()

    def run(*inputs: Any) -> torch.Tensor:
        with sharding.views(num_views):  # drop path samples the same mask again in backward
            return block(*inputs)

    return checkpoint(run, *inputs, use_reentrant=False)
