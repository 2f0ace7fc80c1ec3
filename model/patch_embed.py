"""Patch embeddings of vision transformers: one convolution, as TransReID's, or convolutions before it."""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm import layers
from torch import nn

from model.ibn import IBN
from model.vit_sizes import STEM_STRIDE, grid_of

STEM_CHANNELS = 64


class PatchEmbed(layers.PatchEmbed):
    """timm's patch embedding with a stride of its own: patches overlap where it is smaller than they are."""

    def __init__(self, img_size: tuple[int, int], patch_size: int, *, stride: tuple[int, int], **options: Any) -> None:
        super().__init__(img_size, patch_size, **options)
        self.proj.stride = self.stride = stride
        self.grid_size = grid_of(img_size, patch_size, stride)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        fan_out = patch_size * patch_size * self.proj.out_channels
        nn.init.normal_(self.proj.weight, 0, (2.0 / fan_out) ** 0.5)  # as TransReID
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)


class ConvStemPatchEmbed(PatchEmbed):
    """TransReID-SSL's patch embedding: three convolutions with IBN, of stride 2 in all (ICS), before the projection.

    Luo et al., Self-Supervised Pre-Training for Transformer-Based Person Re-Identification, 2021,
    https://arxiv.org/abs/2111.12084. Parameters are named as in its files: conv.0 to conv.7 and proj.

    Args:
        img_size, patch_size: of the images, (height, width), and of the square patches, in pixels.
        stride: that of the patches, (patch_size, patch_size): the stem's patches do not overlap.
        options: those of timm's PatchEmbed.
    """

    def __init__(self, img_size: tuple[int, int], patch_size: int, *, stride: tuple[int, int], **options: Any) -> None:
        if stride != (patch_size, patch_size):
            raise ValueError(f"stride {stride}: expected ({patch_size}, {patch_size}) with a stem of convolutions")
        super().__init__(img_size, patch_size, stride=stride, **options)
        width, side = self.proj.out_channels, patch_size // STEM_STRIDE
        self.conv = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 7, stride=STEM_STRIDE, padding=3, bias=False),
            IBN(STEM_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, padding=1, bias=False),
            IBN(STEM_CHANNELS),
            nn.ReLU(inplace=True),
            nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(inplace=True),
        )
        self.proj = nn.Conv2d(STEM_CHANNELS, width, side, stride=side)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Patch tokens (N, P, D) of images (N, 3, H, W)."""
        return self.proj(self.conv(images)).flatten(2).transpose(1, 2)  # (N, D, rows, columns) -> (N, P, D)


class EarlyConvPatchEmbed(PatchEmbed):
    """Patch embedding by convolutions of stride 2 and a linear layer, for which a small ViT needs less training.

    Xiao et al., Early Convolutions Help Transformers See Better, NeurIPS 2021, https://arxiv.org/abs/2106.14881.

    Args:
        img_size: of the images, (height, width) in pixels.
        patch_size: 2 ** len(channels).
        stride: (patch_size, patch_size): these patches do not overlap.
        channels: of the 3 x 3 convolutions of stride 2, in order.
        options: those of timm's PatchEmbed.
    """

    def __init__(
        self,
        img_size: tuple[int, int],
        patch_size: int,
        *,
        stride: tuple[int, int],
        channels: tuple[int, ...],
        **options: Any,
    ) -> None:
        if patch_size != 2 ** len(channels) or stride != (patch_size, patch_size):
            raise ValueError(
                f"patch_size {patch_size}, stride {stride}: expected {2 ** len(channels)} both, with "
                f"{len(channels)} convolutions of stride 2"
            )
        super().__init__(img_size, patch_size, stride=stride, **options)
        self.stem = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(inplace=True),
                )
                for before, after in itertools.pairwise((3, *channels))
            )
        )
        self.proj = nn.Conv2d(channels[-1], self.proj.out_channels, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Patch tokens (N, P, D) of images (N, 3, H, W)."""
        return self.proj(self.stem(images)).flatten(2).transpose(1, 2)  # (N, D, rows, columns) -> (N, P, D)


def make_patch_embed(
    stride: tuple[int, int], *, ics_stem: bool, channels: tuple[int, ...]
) -> Callable[..., PatchEmbed]:
    """Makes the patch embedding of a vision transformer, to be called with timm's arguments.

    Args:
        stride: of the patches, in pixels.
        ics_stem: TransReID-SSL's stem of convolutions.
        channels: of early convolutions; (): there are none.
    """
    if ics_stem:
        return partial(ConvStemPatchEmbed, stride=stride)
    if channels:
        return partial(EarlyConvPatchEmbed, stride=stride, channels=channels)
    return partial(PatchEmbed, stride=stride)
