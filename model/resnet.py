"""ResNet-50 as BoT, AGW and CIL-ReID use it, on torchvision's, and ResNet-50 with IBN-a.

Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPRW 2019 (last stride 1).
Parameters are named as in the released checkpoints: base.conv1, base.layer1..4 and global_pool.p; with IBN-a, also
base.layerN.M.bn1.IN and bn1.BN.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet50

from model.ibn import IBN
from model.kinds import RESNET
from model.reid import Embedded, ReIDModel


class ResNetTrunk(nn.Module):
    """ResNet-50 up to its last feature map (N, 2048, h, w).

    Args:
        ibn: IBN-a (Pan et al., Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net, ECCV 2018,
            https://arxiv.org/abs/1807.09441): the first normalisation of every block of the first three stages is half
            instance, half batch normalisation.
        last_stride: of the last stage; 1 keeps the map twice as large as for ImageNet, h = H / 16.
        stem_relu: ReLU after the first convolution, as in torchvision. The code of BoT and TransReID leaves it out,
            though it starts from weights that were trained with it.
        stem_pool: kernel of the max pooling that follows, with stride 2: 3 with a padding of 1, as torchvision and BoT
            have it, or 2 without padding, as the TransReID codebase (CIL-ReID among it) does.
    """

    kind = RESNET
    embed_dim = 2048

    def __init__(self, *, ibn: bool = False, last_stride: int = 1, stem_relu: bool = False, stem_pool: int = 3) -> None:
        super().__init__()
        source = resnet50()
        self.conv1, self.bn1 = source.conv1, source.bn1
        self.maxpool = nn.MaxPool2d(stem_pool, stride=2, padding=stem_pool // 3)
        self.layer1, self.layer2, self.layer3, self.layer4 = source.layer1, source.layer2, source.layer3, source.layer4
        self.layer4[0].conv2.stride = self.layer4[0].downsample[0].stride = (last_stride, last_stride)
        self.stem_relu = stem_relu
        if ibn:
            for block in [*self.layer1, *self.layer2, *self.layer3]:
                block.bn1 = IBN(block.conv1.out_channels)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv1(images))
        x = self.maxpool(F.relu(x) if self.stem_relu else x)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class GeMPool(nn.Module):
    """Generalised mean over a map (N, D, h, w) with a learned exponent: (mean of x^p)^(1/p) -> (N, D).

    Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019,
    https://arxiv.org/abs/1711.02512; starting from p = 3 as there.
    """

    def __init__(self, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([3.0]))
        self.eps = eps

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.clamp_min(self.eps).pow(self.p).mean(dim=(2, 3)).pow(1 / self.p)


class AveragePool(nn.Module):
    """Mean over a map: (N, D, h, w) -> (N, D)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.mean(dim=(2, 3))


class ResNetReID(ReIDModel):
    """A ResNet's pooled map as embedding, its positions as patch tokens. Cameras and viewpoints are not used.

    Args:
        base: backbone.
        gem_pool: generalised mean pooling in place of the average.
        options: those of ReIDModel.
    """

    def __init__(self, base: ResNetTrunk, *, gem_pool: bool = False, **options: Any) -> None:
        super().__init__(base, **options)
        self.global_pool = GeMPool() if gem_pool else AveragePool()

    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        maps = self.base(images)
        return Embedded(self.global_pool(maps), maps.flatten(2).transpose(1, 2))  # (N, D), (N, h w, D)
