"""A re-identification model: backbone, BNNeck and identity classifier.

BNNeck: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPRW 2019.
Parameter names are those of the family's checkpoints: normalize, base, bottleneck, classifier.
"""

import torch
import torch.nn.functional as F
from torch import nn

from utils.structures import ModelOutput

TEST_FEATURES = ("patch_mean", "class_token", "neck")


class Normalize(nn.Module):
    """(x - mean) / std per channel, for pixels in [0, 1]; mean and std travel in the checkpoint."""

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - self.mean[:, None, None]) / self.std[:, None, None]


class ReIDModel(nn.Module):
    """Backbone -> class token -> BNNeck -> bias-free classifier.

    Args:
        base: backbone that returns tokens (B, 1 + P, D) after its last normalisation.
        num_classes: identities of the training set; 0 builds no classifier.
        mean, std: of pixels in [0, 1], per channel.
        test_feature: "patch_mean", "class_token" or "neck" (class token after the neck).
        feat_norm: divide the test feature by its Euclidean norm.
        train_view: key of the batch that the training forward reads, "images" or "corrupted".
    """

    def __init__(
        self,
        base: nn.Module,
        *,
        num_classes: int,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
        test_feature: str = "patch_mean",
        feat_norm: bool = True,
        train_view: str = "images",
    ) -> None:
        super().__init__()
        if test_feature not in TEST_FEATURES:
            raise ValueError(f"test_feature {test_feature!r}: expected one of {', '.join(TEST_FEATURES)}")
        self.test_feature, self.feat_norm, self.train_view = test_feature, feat_norm, train_view
        self.normalize = Normalize(mean, std)
        self.base = base
        self.bottleneck = nn.BatchNorm1d(base.embed_dim)
        self.bottleneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(base.embed_dim, num_classes, bias=False) if num_classes else None
        if self.classifier is not None:
            nn.init.normal_(self.classifier.weight, std=0.001)

    @property
    def embed_dim(self) -> int:
        return self.base.embed_dim

    def encode(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> ModelOutput:
        """Embedding, neck output, logits and patch tokens of images (B, 3, H, W) in [0, 1]."""
        tokens = self.base(self.normalize(images), camids, viewids)
        embedding = tokens[:, 0]
        features = self.bottleneck(embedding)
        logits = self.classifier(features) if self.classifier is not None else None
        return ModelOutput(embedding, features, logits, patch_tokens=tokens[:, 1:])

    def forward(self, batch: dict) -> ModelOutput:
        """Training forward of a batch dict (see utils.structures.DataBundle), images float in [0, 1]."""
        return self.encode(batch[self.train_view], batch["camids"], batch["viewids"])

    def extract(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Test features (B, D) of images (B, 3, H, W) in [0, 1]; call it in eval mode, without gradient."""
        output = self.encode(images, camids, viewids)
        if self.test_feature == "patch_mean":
            feature = output.patch_tokens.mean(dim=1)
        else:
            feature = output.embedding if self.test_feature == "class_token" else output.features
        return F.normalize(feature, dim=1) if self.feat_norm else feature

    def neck_of_foreign(self, embedding: torch.Tensor) -> torch.Tensor:
        """The neck on (B, D) that are no backbone output; training leaves the running statistics untouched."""
        neck = self.bottleneck
        if not self.training:
            return neck(embedding)
        return F.batch_norm(embedding, None, None, neck.weight, neck.bias, training=True, eps=neck.eps)

    def export_state(self) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint keeps: {"model": the state dict that test.py loads}."""
        return {"model": self.state_dict()}
