"""Jensen-Shannon consistency of AugMix: Hendrycks et al., ICLR 2020, https://arxiv.org/abs/1912.02781, section 3."""

import torch
import torch.nn.functional as F
from torch import nn

MIN_PROBABILITY = 1e-7  # floor of the mixture, as in AugMix's released code


class ConsistencyLoss(nn.Module):
    """Mean of KL(p || M) over the class distributions p of an image and its augmented views, with M their mean.

    Args:
        scale: multiplies the logits before the softmax; where they are cosines, the identity loss's s.
    """

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, logits: torch.Tensor, augmented_logits: torch.Tensor) -> torch.Tensor:
        """Loss of logits (B, C) and those of V augmented views (V, B, C), averaged over the B images."""
        everything = torch.cat([logits[None], augmented_logits]).float()  # (1 + V, B, C)
        log_probabilities = F.log_softmax(self.scale * everything, dim=-1)
        probabilities = log_probabilities.exp()
        mixture = probabilities.mean(dim=0).clamp(MIN_PROBABILITY, 1)  # (B, C)
        return (probabilities * (log_probabilities - mixture.log())).sum(dim=-1).mean()
