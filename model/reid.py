"""Re-identification models: backbone, BNNeck and identity classifier, for each kind of backbone.

Parameters are named as in checkpoints of the TransReID codebase: normalize, base, fcneck, bottleneck, classifier.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from model.attention_rollout import attention_rollout
from model.heads import Head, make_classifier, make_neck, make_reduction, neck_of_foreign
from model.pooling import CLASS_TOKEN_SHARES, POOLINGS
from model.vit import TransReIDViT
from utils import sharding
from utils.structures import ModelOutput

TEST_FEATURES = ("patch_mean", "class_token", "neck")


class Normalize(nn.Module):
    """(x - mean) / std per channel, for pixels in [0, 1]; the checkpoint keeps mean and std."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean[:, None, None]) / self.std[:, None, None]


class Embedded(NamedTuple):
    """Output of a backbone, before any neck."""

    embedding: torch.Tensor  # (N, D)
    patch_tokens: torch.Tensor  # (N, P, D)
    local_embeddings: tuple[torch.Tensor, ...] = ()  # (N, D) each


@dataclass(frozen=True)
class Gather:
    """How the losses get the rows of all processes.

    Attributes:
        rows: gathers tensors; see utils.sharding.all_gather_rows.
        patch_tokens: gather patch tokens too, which takes most of the time and which few losses need.
    """

    rows: Callable[..., tuple[torch.Tensor, ...]]
    patch_tokens: bool = False


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for that kind of device."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def full_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """A context without autocast, for heads: they are cheap, and half precision is too coarse for cosines."""
    return torch.autocast(device.type, enabled=False) if autocasts(device) else contextlib.nullcontext()


def in_float32(embedded: Embedded) -> Embedded:
    local = tuple(part.float() for part in embedded.local_embeddings)
    return Embedded(embedded.embedding.float(), embedded.patch_tokens.float(), local)


def gather_embedded(share: Embedded, gather: Gather) -> Embedded:
    """The rows of all processes, in one collective."""
    tokens = (share.patch_tokens,) if gather.patch_tokens else ()
    embedding, *others = gather.rows(share.embedding, *tokens, *share.local_embeddings)
    patch_tokens = others.pop(0) if tokens else share.patch_tokens
    return Embedded(embedding, patch_tokens, tuple(others))


class ReIDModel(nn.Module, ABC):
    """Backbone -> embedding -> BNNeck -> bias-free classifier; parts of an image may have heads of their own.

    Args:
        base: backbone, of width `base.embed_dim`.
        num_classes: identities of the training set; 0 builds no classifier.
        mean, std: of pixels in [0, 1], per channel.
        test_feature: "patch_mean", "class_token" (the embedding) or "neck" (after the neck).
        flip: the test feature is the mean of those of the image and of its mirror image, before `feat_norm`.
        feat_norm: divide the test feature by its Euclidean norm.
        train_view: key of the batch that the training forward reads, "images" or "corrupted".
        cosine_classifier: logits are cosines.
        feat_dim: width to which a linear layer, fcneck, reduces the embedding before the neck; 0: there is none.
        heads: necks and classifiers in the order of the embeddings that `embed` returns, that of the global one first;
            (): one of the embedding's width.

    Attributes:
        embed_dim: width of the embedding, of the neck's output and of what the classifier takes.
        gather: set where several processes train the model and the losses see the whole batch.
    """

    gather: Gather | None = None
    normalize: Normalize
    base: Any
    fcneck: nn.Linear | None
    bottleneck: nn.BatchNorm1d
    classifier: nn.Linear | None

    def __init__(
        self,
        base: nn.Module,
        *,
        num_classes: int,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
        test_feature: str = "patch_mean",
        flip: bool = False,
        feat_norm: bool = True,
        train_view: str = "images",
        cosine_classifier: bool = False,
        feat_dim: int = 0,
        heads: tuple[Head, ...] = (),
    ) -> None:
        super().__init__()
        if test_feature not in TEST_FEATURES:
            raise ValueError(f"test_feature {test_feature!r}: expected one of {', '.join(TEST_FEATURES)}")
        self.test_feature, self.flip, self.feat_norm = test_feature, flip, feat_norm
        self.train_view = train_view
        self.normalize = Normalize(mean, std)
        self.base = base
        self.fcneck = make_reduction(self.base.embed_dim, feat_dim) if feat_dim else None
        if not heads:
            width = feat_dim or self.base.embed_dim
            heads = (Head("", width, width),)
        self.heads = heads
        self.embed_dim = self.heads[0].classifier_width
        for head in self.heads:
            self.add_module(f"bottleneck{head.ending}", make_neck(head.neck_width))
            classifier = make_classifier(head.classifier_width, num_classes, cosine=cosine_classifier)
            self.add_module(f"classifier{head.ending}", classifier)

    @abstractmethod
    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        """Runs the backbone on normalised images (N, 3, H, W), with cameras and viewpoints (N,)."""

    def encode(
        self,
        images: torch.Tensor,
        camids: torch.Tensor | None = None,
        viewids: torch.Tensor | None = None,
        *,
        gather: Gather | None = None,
    ) -> ModelOutput:
        """Computes embeddings, neck outputs, logits and patch tokens.

        Under autocast the backbone alone computes in half precision; its output is float32, and so is the rest.

        Args:
            images: (N, 3, H, W) float in [0, 1].
            camids, viewids: (N,) int64.
            gather: gathers the rows of all processes before the heads.
        """
        embedded = self.embed(self.normalize(images), camids, viewids)
        if autocasts(images.device):
            embedded = in_float32(embedded)
        with full_precision(images.device):
            if gather is not None:
                embedded = gather_embedded(embedded, gather)
            return self.run_heads(embedded)

    def run_heads(self, embedded: Embedded) -> ModelOutput:
        """Necks and classifiers on the embeddings, each with its own head."""
        embedding, patch_tokens, local_embeddings = embedded
        if self.fcneck is not None:
            embedding = self.fcneck(embedding)
        features, logits = self._head("", embedding)
        local = [self._head(head.ending, part) for head, part in zip(self.heads[1:], local_embeddings, strict=True)]
        return ModelOutput(
            embedding,
            features,
            logits,
            patch_tokens=patch_tokens,
            local_embeddings=local_embeddings,
            local_features=tuple(neck for neck, _ in local),
            local_logits=tuple(scores for _, scores in local if scores is not None),
        )

    def _head(self, ending: str, embedding: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        neck, classifier = getattr(self, f"bottleneck{ending}"), getattr(self, f"classifier{ending}")
        features = neck(embedding)
        return features, classifier(features) if classifier is not None else None

    def forward(self, batch: dict) -> ModelOutput:
        """Training forward of a batch dict (see utils.structures.DataBundle), images float in [0, 1].

        A batch with `augmented` views (B, V, 3, H, W) goes through the network in one pass with them, as in AugMix; the
        output is that of the images, with the logits of the views in `augmented_logits`.
        """
        images, camids, viewids = batch[self.train_view], batch["camids"], batch["viewids"]
        views = batch.get("augmented")
        if views is None:
            return self.encode(images, camids, viewids, gather=self.gather)
        num_views = views.shape[1]
        everything = torch.cat([images, *views.unbind(dim=1)])  # ((1 + V) B, 3, H, W), view by view
        camids, viewids = camids.repeat(1 + num_views), viewids.repeat(1 + num_views)
        with sharding.views(1 + num_views):
            output = self.encode(everything, camids, viewids, gather=self.gather)
        assert output.logits is not None
        count = len(output.logits) // (1 + num_views)
        rows = {name: _first_rows(value, count) for name, value in output._asdict().items()}
        augmented_logits = output.logits[count:].unflatten(0, (num_views, count))  # (V, B, C)
        return ModelOutput(**{**rows, "augmented_logits": augmented_logits})

    def extract(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Test features of images (N, 3, H, W) in [0, 1]; call it in eval mode, without gradient.

        Returns:
            (N, D), or with parts (N, (1 + parts) D): the parts' features follow, divided by their number (TransReID).
        """
        feature = self._feature(images, camids, viewids)
        if self.flip:  # the mean before normalisation, as fast-reid's inference_on_dataset
            feature = (feature + self._feature(images.flip(dims=(3,)), camids, viewids)) / 2
        return F.normalize(feature, dim=1) if self.feat_norm else feature

    def _feature(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> torch.Tensor:
        """The test feature of each image alone, before any normalisation."""
        output = self.encode(images, camids, viewids)
        if self.test_feature == "patch_mean":
            assert output.patch_tokens is not None
            return output.patch_tokens.mean(dim=1)
        if self.test_feature == "class_token":
            return _with_parts(output.embedding, output.local_embeddings)
        return _with_parts(output.features, output.local_features)

    def neck_of_foreign(self, embedding: torch.Tensor) -> torch.Tensor:
        """The neck on features (N, D) of another source than the backbone; the running statistics do not change."""
        return neck_of_foreign(self.bottleneck, embedding)

    def export_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint stores: {"model": the state dict that test.py loads}."""
        return {"model": self.state_dict()}


def _with_parts(feature: torch.Tensor, local: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return torch.cat([feature, *(part / len(local) for part in local)], dim=1)


def _first_rows(value: Any, count: int) -> Any:
    if isinstance(value, tuple):
        return tuple(part[:count] for part in value)
    return value[:count] if value is not None else None


class TransformerReID(ReIDModel):
    """A vision transformer's class token, or a pooling of its tokens, as embedding.

    Args:
        base: backbone.
        pooling: one of POOLINGS.
        options: those of ReIDModel.
    """

    base: TransReIDViT

    def __init__(self, base: TransReIDViT, *, pooling: str = "class_token", **options: Any) -> None:
        super().__init__(base, **options)
        if pooling not in POOLINGS:
            raise ValueError(f"pooling {pooling!r}: expected one of {', '.join(POOLINGS)}")
        self.pooling = pooling

    def embed(self, images: torch.Tensor, camids: torch.Tensor | None, viewids: torch.Tensor | None) -> Embedded:
        tokens = self.base(images, camids, viewids)
        patches = tokens[:, self.base.num_prefix_tokens :]
        return Embedded(POOLINGS[self.pooling](tokens[:, 0], patches), patches)

    @property
    def path_to_embedding(self) -> list[nn.Module]:
        """The blocks that the embedding passes, in order."""
        return list(self.base.blocks)

    def token_shares(self) -> torch.Tensor:
        """Share of every token in the embedding (N,), for attention maps: of patch tokens that are pooled, the same."""
        share, patches = CLASS_TOKEN_SHARES[self.pooling], self.base.patch_embed.num_patches
        return torch.cat([torch.tensor([share]), torch.full((patches,), (1 - share) / patches)])

    def attend(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention rollout of the embedding for images (N, 3, H, W) in [0, 1]; see model.attention_rollout.

        Returns:
            (N, rows, columns) over the grid of patches; the map of every image sums to 1.
        """

        def run() -> Embedded:
            return self.embed(self.normalize(images), camids, viewids)

        num_prefix = self.base.num_prefix_tokens
        attention = attention_rollout(
            self.path_to_embedding, run, shares=self.token_shares(), num_prefix=num_prefix
        )  # (N, P)
        return attention.unflatten(1, self.base.patch_embed.grid_size)  # (N, rows, columns)
