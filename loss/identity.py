"""Identity loss: cross-entropy over the training identities, with or without label smoothing."""

import torch
import torch.nn.functional as F
from torch import nn

LABEL_SMOOTHING = 0.1  # epsilon of Szegedy et al., CVPR 2016, as the family sets it


class IdentityLoss(nn.Module):
    """Mean cross-entropy of logits (N, C) against labels (N,) in [0, C)."""

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
