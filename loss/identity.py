"""Identity loss: cross-entropy over the training identities, with or without a margin and label smoothing."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

LABEL_SMOOTHING = 0.1  # epsilon of Szegedy et al., CVPR 2016, as in the TransReID codebase


class IdentityLoss(nn.Module):
    """Mean cross-entropy of logits (N, C) against labels (N,) in [0, C), computed in float32.

    Args:
        label_smoothing: epsilon, in [0, 1].
        margin: one of loss.margins, (cosines, labels) -> (N, C); the logits are then cosines in [-1, 1].
        scale: s, factor on the output of the margin.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        margin: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.label_smoothing, self.margin, self.scale = label_smoothing, margin, scale

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        if self.margin is not None:
            logits = self.scale * self.margin(logits, labels)
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
