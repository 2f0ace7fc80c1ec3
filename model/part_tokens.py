"""PASS: part tokens beside the class token, fused with it into one embedding.

Zhu et al., PASS: Part-Aware Self-Supervised Pre-Training for Person Re-Identification, ECCV 2022,
https://arxiv.org/abs/2203.03931. Parameters are named as in the released files: part_token1..3, cls_pos, part1_pos..3,
bottleneck_1..3; pos_embed has the positions of the patches alone.
"""

from typing import Any

import torch
from timm import layers
from torch import nn

from model.heads import Head, neck_of_foreign
from model.reid import Embedded, TransformerReID
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize
from utils.structures import ModelOutput

PARTS = 3
FUSIONS = ("cat", "mean")


class PartTokenViT(TransReIDViT):
    """TransReID's vision transformer with three part tokens after the class token, and no side information.

    Args:
        img_size, size: as of TransReIDViT.
        options: those of TransReIDViT.
    """

    def __init__(self, img_size: tuple[int, int], size: ViTSize, **options: Any) -> None:
        super().__init__(img_size, size, no_embed_class=True, **options)
        if self.sie_embed is not None:
            raise ValueError("a model with part tokens has no side information")
        self.num_prefix_tokens = 1 + PARTS
        numbers = range(1, PARTS + 1)
        self.token_names = ["cls_token", *(f"part_token{number}" for number in numbers)]
        self.position_names = ["cls_pos", *(f"part{number}_pos" for number in numbers)]
        for name in [*self.token_names[1:], *self.position_names]:
            parameter = nn.Parameter(torch.zeros(1, 1, size.embed_dim))
            layers.trunc_normal_(parameter, std=0.02)  # not 0 as in PASS: equal part tokens would stay equal
            self.register_parameter(name, parameter)

    def _pos_embed(self, patches: torch.Tensor, side: torch.Tensor | None = None) -> torch.Tensor:
        """Class token, part tokens and patches, each with its position; (B, 4 + P, D)."""
        prefix = torch.cat([getattr(self, name) for name in self.token_names], dim=1)  # (1, 4, D)
        positions = torch.cat([*(getattr(self, name) for name in self.position_names), self.pos_embed], dim=1)
        tokens = torch.cat([prefix.expand(patches.shape[0], -1, -1), patches], dim=1)
        return self.pos_drop(tokens + positions)


class PartTokenReID(TransformerReID):
    """Class token g and part tokens l1, l2, l3, fused into the embedding: (g, mean of l), or the mean of these two.

    The losses, the test features and CFAT see the fused embedding, as in the released code.

    Args:
        base: backbone.
        fusion: "cat": g and the mean of the parts side by side, twice as wide; "mean": their mean.
        multi_neck: each token passes a neck of its own, before they are fused; else the embedding has one.
        options: those of ReIDModel.
    """

    base: PartTokenViT

    def __init__(self, base: PartTokenViT, *, fusion: str = "cat", multi_neck: bool = True, **options: Any) -> None:
        if fusion not in FUSIONS:
            raise ValueError(f"fusion {fusion!r}: expected one of {', '.join(FUSIONS)}")
        width = base.embed_dim
        fused = 2 * width if fusion == "cat" else width
        parts = tuple(Head(f"_{part}", width, 0) for part in range(1, PARTS + 1)) if multi_neck else ()
        super().__init__(base, heads=(Head("", width if multi_neck else fused, fused), *parts), **options)
        self.fusion, self.multi_neck = fusion, multi_neck

    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        tokens = self.base(images, camids, viewids)
        class_token, *parts = tokens[:, : 1 + PARTS].unbind(dim=1)
        return Embedded(class_token, tokens[:, 1 + PARTS :], tuple(parts))

    def run_heads(self, embedded: Embedded) -> ModelOutput:
        tokens = [embedded.embedding, *embedded.local_embeddings]
        embedding = self._fuse(tokens)
        if self.multi_neck:
            features = self._fuse([neck(token) for neck, token in zip(self._necks(), tokens, strict=True)])
        else:
            features = self.bottleneck(embedding)
        logits = self.classifier(features) if self.classifier is not None else None
        return ModelOutput(embedding, features, logits, patch_tokens=embedded.patch_tokens)

    def neck_of_foreign(self, embedding: torch.Tensor) -> torch.Tensor:
        """As of ReIDModel. With several necks, the parts' necks see the mean of the parts in the embedding: it does not
        hold the parts one by one."""
        if not self.multi_neck:
            return super().neck_of_foreign(embedding)
        class_token, part = embedding.chunk(2, dim=1) if self.fusion == "cat" else (embedding, embedding)
        tokens = [class_token, *[part] * PARTS]
        return self._fuse([neck_of_foreign(neck, token) for neck, token in zip(self._necks(), tokens, strict=True)])

    def token_shares(self) -> torch.Tensor:
        shares = torch.zeros(self.base.num_prefix_tokens + self.base.patch_embed.num_patches)
        shares[0], shares[1 : 1 + PARTS] = 1 / 2, 1 / (2 * PARTS)
        return shares

    def _necks(self) -> list[nn.BatchNorm1d]:
        return [getattr(self, f"bottleneck{head.ending}") for head in self.heads]

    def _fuse(self, tokens: list[torch.Tensor]) -> torch.Tensor:
        """The class token and the mean of the parts (N, D) in one: (N, 2 D) or their mean (N, D)."""
        class_token, parts = tokens[0], torch.stack(tokens[1:]).mean(dim=0)
        return torch.cat([class_token, parts], dim=1) if self.fusion == "cat" else (class_token + parts) / 2
