"""Sizes of CLIP's image encoders, by the names of CLIP-ReID's code."""

from dataclasses import dataclass

from model.vit_sizes import ViTSize


@dataclass(frozen=True)
class ClipSize:
    """A vision transformer, and the width of the space that images share with texts."""

    vit: ViTSize
    proj_dim: int


CLIP_SIZES = {"ViT-B-16": ClipSize(ViTSize(768, 12, 12), 512)}
