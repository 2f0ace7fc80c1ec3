"""Triplet losses over the pairs of a batch: batch-hard and weighted regularised.

Batches need no structure: an anchor without another image of its identity, or without one of another identity, is left
out; a batch without any valid anchor gives 0 with a zero gradient.
"""

import torch
import torch.nn.functional as F
from torch import nn

MIN_SQUARED_DISTANCE = 1e-12  # keeps the root's gradient finite between equal embeddings
LARGEST_SHARE = 1e4  # squared mean over squared spread; above it, float32 keeps less than three digits of a distance


def pairwise_distances(embeddings: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (N, N) between the rows of embeddings (N, D), in float32 or wider."""
    x = embeddings.float() if embeddings.dtype in (torch.float16, torch.bfloat16) else embeddings
    x = x - _shared_part(x)
    norms = x.pow(2).sum(dim=1)
    squared = norms[:, None] + norms[None, :] - 2 * x @ x.T
    return squared.clamp_min(MIN_SQUARED_DISTANCE).sqrt()


def _shared_part(x: torch.Tensor) -> torch.Tensor:
    """The mean of the rows (N, D) where it outweighs their spread, else zeros, (D,).

    Subtracting it keeps distances, where |x|^2 + |y|^2 - 2 x y would lose its digits. Below the limit, which even
    the embeddings of an untrained network stay, distances are those of the published code, to the last bit.
    """
    rows = x.detach()
    mean = rows.mean(dim=0)
    spread = (rows - mean).square().sum(dim=1).mean()
    return torch.where(mean.square().sum() > LARGEST_SHARE * spread, mean, torch.zeros_like(mean))


def _pair_masks(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which columns are positives, and which negatives, of each row's anchor, two (N, N); none is its own positive."""
    same = labels[:, None] == labels[None, :]
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device), ~same


def _mean_over(valid: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    """Mean of the finite losses (N,) of the valid anchors; 0 without any."""
    return (losses * valid).sum() / valid.sum().clamp_min(1)


class BatchHardTripletLoss(nn.Module):
    """Hardest positive against hardest negative, anchor by anchor, averaged over the anchors that have both.

    Hermans et al., In Defense of the Triplet Loss, 2017, https://arxiv.org/abs/1703.07737.

    Args:
        margin: hinge max(0, d_p - d_n + margin), or None for the soft margin log(1 + exp(d_p - d_n)).
        hard_factor: h in [0, 1) of the TransReID codebase; d_p is multiplied by 1 + h and d_n by 1 - h.
    """

    def __init__(self, *, margin: float | None = None, hard_factor: float = 0.0) -> None:
        super().__init__()
        self.margin, self.hard_factor = margin, hard_factor

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of embeddings (N, D) with labels (N,)."""
        distances = pairwise_distances(embeddings)
        positive, negative = _pair_masks(labels)
        valid = positive.any(dim=1) & negative.any(dim=1)
        # masked before the difference: inf - inf of an anchor left out would poison the gradient
        hardest_positive = distances.masked_fill(~positive, -torch.inf).amax(dim=1).masked_fill(~valid, 0)
        hardest_negative = distances.masked_fill(~negative, torch.inf).amin(dim=1).masked_fill(~valid, 0)
        gap = (1 + self.hard_factor) * hardest_positive - (1 - self.hard_factor) * hardest_negative
        return _mean_over(valid, F.softplus(gap) if self.margin is None else F.relu(gap + self.margin))


class WeightedTripletLoss(nn.Module):
    """Weighted mean of the positives against that of the negatives, averaged over the anchors that have both.

    log(1 + exp(d_p - d_n)): d_p is the sum of w d over the anchor's positives, with w the softmax of d over them; d_n
    the same over its negatives, with w the softmax of -d. Far positives and near negatives weigh most.

    AGW: Ye et al., TPAMI 2021, https://arxiv.org/abs/2001.04193. Its released code counts the anchor itself among the
    positives, at distance 0; here it is not one.
    """

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of embeddings (N, D) with labels (N,)."""
        distances = pairwise_distances(embeddings)
        positive, negative = _pair_masks(labels)
        valid = positive.any(dim=1) & negative.any(dim=1)
        # finite, not -inf: the softmax of a row without any such pair, left out below, would poison the gradient
        lowest = torch.finfo(distances.dtype).min
        far = distances.masked_fill(~positive, lowest).softmax(dim=1)  # (N, N)
        near = (-distances).masked_fill(~negative, lowest).softmax(dim=1)  # (N, N)
        gap = (far * distances).sum(dim=1) - (near * distances).sum(dim=1)
        return _mean_over(valid, F.softplus(gap))
