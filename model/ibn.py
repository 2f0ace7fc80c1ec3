"""Instance and batch normalisation side by side (IBN-a): Pan et al., Two at Once: Enhancing Learning and Generalization
Capacities via IBN-Net, ECCV 2018, https://arxiv.org/abs/1807.09441.

Parameters are named as in https://github.com/XingangPan/IBN-Net: IN and BN.
"""

import torch
from torch import nn


class IBN(nn.Module):
    """Instance normalisation of the first half of the channels, batch normalisation of the others.

    The instance normalisation has a weight and a bias, and no running statistics. Of an odd number of channels, the
    first half is the smaller one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.split = channels // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.split)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Normalises maps (N, C, h, w)."""
        return torch.cat([self.IN(maps[:, : self.split]), self.BN(maps[:, self.split :])], dim=1)
