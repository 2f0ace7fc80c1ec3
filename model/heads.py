"""Heads of re-identification models: BNNecks and bias-free identity classifiers.

BNNeck: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPRW 2019.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Head:
    """A neck and a classifier, which models name bottleneck<ending> and classifier<ending>.

    Attributes:
        ending: "" for the head of the global feature.
        neck_width: numbers that the neck takes and gives.
        classifier_width: numbers that the classifier takes; 0: there is none.
    """

    ending: str
    neck_width: int
    classifier_width: int


class CosineClassifier(nn.Linear):
    """Cosines (N, C) between features (N, D) and the classes' weights, for the losses with a margin."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.linear(F.normalize(features, dim=1), F.normalize(self.weight, dim=1))


def make_neck(width: int) -> nn.BatchNorm1d:
    neck = nn.BatchNorm1d(width)
    neck.bias.requires_grad_(False)
    return neck


def make_classifier(width: int, num_classes: int, *, cosine: bool) -> nn.Linear | None:
    """A classifier of random weights, as the TransReID codebase initialises them; None for a width or classes of 0."""
    if not width or not num_classes:
        return None
    if cosine:
        margin = CosineClassifier(width, num_classes, bias=False)
        nn.init.xavier_uniform_(margin.weight)  # as the margin heads of TransReID
        return margin
    linear = nn.Linear(width, num_classes, bias=False)
    nn.init.normal_(linear.weight, std=0.001)
    return linear


def make_reduction(width: int, feat_dim: int) -> nn.Linear:
    """A linear layer without bias before the neck (TransReID-SSL's fcneck), initialised as there."""
    linear = nn.Linear(width, feat_dim, bias=False)
    nn.init.xavier_uniform_(linear.weight)
    return linear


def neck_of_foreign(neck: nn.BatchNorm1d, features: torch.Tensor) -> torch.Tensor:
    """A neck on features (N, D) of another source than the backbone; the running statistics do not change."""
    if not neck.training:
        return neck(features)
    return F.batch_norm(features, None, None, neck.weight, neck.bias, training=True, eps=neck.eps)
