"""Center loss: Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016,
https://doi.org/10.1007/978-3-319-46478-7_31."""

import torch
from torch import nn


class CenterLoss(nn.Module):
    """Squared Euclidean distance of every embedding to its identity's learned center, averaged over the rows.

    BoT and TransReID average like this too; the paper takes half the sum. The centers start from N(0, 1);
    make_optimizer finds them by their name.

    Args:
        num_classes, feat_dim: `centers` is (num_classes, feat_dim).
    """

    def __init__(self, *, num_classes: int, feat_dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(num_classes, feat_dim))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of embeddings (N, D) with labels (N,) in [0, num_classes), in float32."""
        return (embeddings.float() - self.centers[labels]).pow(2).sum(dim=1).mean()
