"""Batch-hard triplet loss: Hermans et al., In Defense of the Triplet Loss, 2017, https://arxiv.org/abs/1703.07737."""

import torch
import torch.nn.functional as F
from torch import nn

MIN_SQUARED_DISTANCE = 1e-12  # keeps the root's gradient finite between equal embeddings


def pairwise_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (N, N) between the rows of embeddings (N, D), in float32 or wider."""
    x = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
    norms = x.pow(2).sum(dim=1)
    squared = norms[:, None] + norms[None, :] - 2 * x @ x.T
    return squared.clamp_min(MIN_SQUARED_DISTANCE).sqrt()


class BatchHardTripletLoss(nn.Module):
    """Hardest positive against hardest negative, anchor by anchor, averaged over the anchors that have both.

    Any batch will do: an anchor without another picture of its identity, or without one of another identity, is left
    out; a batch without any valid anchor gives 0 with a zero gradient.

    Args:
        margin: hinge max(0, d_p - d_n + margin), or None for the soft margin log(1 + exp(d_p - d_n)).
    """

    def __init__(self, *, margin: float | None = None) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of embeddings (N, D) with labels (N,)."""
        distances = pairwise_distances(embeddings)
        same = labels[:, None] == labels[None, :]
        positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        hardest_positive = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
        hardest_negative = distances.masked_fill(same, torch.inf).amin(dim=1)
        valid = positive.any(dim=1) & ~same.all(dim=1)
        # masked before the difference: inf - inf of an anchor left out would poison the gradient
        gap = hardest_positive.masked_fill(~valid, 0) - hardest_negative.masked_fill(~valid, 0)
        losses = F.softplus(gap) if self.margin is None else F.relu(gap + self.margin)
        return (losses * valid).sum() / valid.sum().clamp_min(1)
