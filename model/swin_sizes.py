"""Sizes of Swin transformers, by the names of SOLIDER's code."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SwinSize:
    """Width of the first stage, which doubles with every stage; blocks and heads of each of the four stages."""

    embed_dim: int
    depths: tuple[int, int, int, int]
    num_heads: tuple[int, int, int, int]


SWIN_SIZES = {
    "swin_tiny_patch4_window7_224": SwinSize(96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "swin_small_patch4_window7_224": SwinSize(96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "swin_base_patch4_window7_224": SwinSize(128, (2, 2, 18, 2), (4, 8, 16, 32)),
}
