"""CLIP's image encoder with a vector for each camera, as CLIP-ReID uses it.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021,
https://arxiv.org/abs/2103.00020. Li, Sun, Li: CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification
without Concrete Text Labels, AAAI 2023, https://arxiv.org/abs/2211.13977.
Parameters are named as those of model.vit; model/weights/published_names.py translates the names of published files.
"""

from functools import partial
from typing import Any

import torch
from timm.layers import QuickGELU
from torch import nn

from model.heads import Head
from model.kinds import CLIP
from model.reid import Embedded, TransformerReID
from model.vit import TransReIDViT
from model.vit_sizes import ClipSize

EPS = 1e-5  # of CLIP's LayerNorms


class ClipViT(TransReIDViT):
    """CLIP's vision transformer: a LayerNorm before the blocks too, QuickGELU, and a projection of the class token.

    Side information is added to the class token alone, before the positions.

    Args:
        img_size, size: as of TransReIDViT.
        options: those of TransReIDViT.

    Attributes:
        proj: (D, P), from the tokens' width to that of the space that images share with texts.
    """

    kind = CLIP

    def __init__(self, img_size: tuple[int, int], size: ClipSize, **options: Any) -> None:
        norm = partial(nn.LayerNorm, eps=EPS)
        super().__init__(img_size, size.vit, pre_norm=True, act_layer=QuickGELU, norm_layer=norm, **options)
        width = size.vit.embed_dim
        self.proj = nn.Parameter(torch.empty(width, size.proj_dim))
        nn.init.normal_(self.proj, std=width**-0.5)  # as CLIP

    def _pos_embed(self, patches: torch.Tensor, side: torch.Tensor | None = None) -> torch.Tensor:
        class_token = self.cls_token if side is None else self.cls_token + side  # (B or 1, 1, D)
        tokens = torch.cat([class_token.expand(patches.shape[0], -1, -1), patches], dim=1) + self.pos_embed
        return self.norm_pre(self.pos_drop(tokens))


class ClipReID(TransformerReID):
    """The class token f of CLIP's image encoder as embedding, its projection g as a local one; each has a head.

    Args:
        base: backbone.
        options: those of ReIDModel.
    """

    base: ClipViT

    def __init__(self, base: ClipViT, **options: Any) -> None:
        width, proj_dim = base.proj.shape
        super().__init__(base, heads=(Head("", width, width), Head("_proj", proj_dim, proj_dim)), **options)

    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        tokens = self.base(images, camids, viewids)
        class_token = tokens[:, 0]
        return Embedded(class_token, tokens[:, 1:], (class_token @ self.base.proj,))
