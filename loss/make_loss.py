"""The weighted sum of the loss terms that a configuration and its CFAT stage ask for."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from yacs.config import CfgNode

from loss.alignment import (
    CoarseAlignmentLoss,
    cosine_distance,
    distillation,
    gaussian_kl,
    reconstruction_loss,
    standard_normal_kl,
    token_distance,
)
from loss.center import CenterLoss
from loss.consistency import ConsistencyLoss
from loss.identity import LABEL_SMOOTHING, IdentityLoss
from loss.margins import MARGINS
from loss.terms import check, term_weights
from loss.triplet import BatchHardTripletLoss, WeightedTripletLoss
from utils.structures import ModelOutput

PARTS_SHARE = 0.5  # of the local parts in a term that has any, as in TransReID's loss/make_loss.py

Term = Callable[[Any, dict], torch.Tensor]  # (ModelOutput, batch) -> scalar


class CombinedLoss(nn.Module):
    """Weighted sum of named terms, each a function (output, batch) -> scalar; terms of weight 0 are left out.

    Args:
        terms: name -> (weight, term).
        learned: those modules of the terms that have parameters, for the optimizer and for `.to(device)`.

    Returns:
        {"loss": weighted total, "<name>_loss": each term, unweighted}.
    """

    def __init__(self, terms: dict[str, tuple[float, Term]], *, learned: dict[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.terms = {name: (weight, term) for name, (weight, term) in terms.items() if weight}
        self.learned = nn.ModuleDict(learned)

    def forward(self, output: ModelOutput, batch: dict) -> dict[str, torch.Tensor]:
        values = {name: term(output, batch) for name, (_, term) in self.terms.items()}
        total: Any = sum(weight * values[name] for name, (weight, _) in self.terms.items())  # 0-dim tensor
        return {"loss": total, **{f"{name}_loss": value for name, value in values.items()}}


def make_loss(cfg: CfgNode, *, num_classes: int, feat_dim: int) -> CombinedLoss:
    """Makes the loss of the stage CFAT.STAGE, the last of CFAT.STAGES where it is empty.

    Args:
        cfg: configuration of the stage.
        num_classes, feat_dim: identities and embedding width, for terms with parameters.

    Raises:
        UserError: every weight is 0.
    """
    check(cfg)
    weights = term_weights(cfg)
    terms: dict[str, Term] = {}
    learned: dict[str, nn.Module] = {}
    if "id" in weights:
        terms |= _identity_terms(cfg)
    if "center" in weights:
        center = learned["center"] = CenterLoss(num_classes=num_classes, feat_dim=feat_dim)
        terms["center"] = lambda out, batch: center(out.embedding, _labels_for(out.embedding, batch))
    if "consistency" in weights:
        consistency = ConsistencyLoss(scale=_logit_scale(cfg))
        terms["consistency"] = lambda out, batch: consistency(out.logits[: len(batch["pids"])], out.augmented_logits)
    if "bridge_kl" in weights:
        terms |= _bridge_terms()
    if "coarse" in weights:
        terms |= _alignment_terms(cfg)
    return CombinedLoss({name: (weight, terms[name]) for name, weight in weights.items() if weight}, learned=learned)


def _logit_scale(cfg: CfgNode) -> float:
    """Factor that makes logits of the classifier's outputs: 1, or the scale of cosines."""
    return 1.0 if cfg.MODEL.ID_LOSS_TYPE == "softmax" else cfg.SOLVER.COSINE_SCALE


def _make_identity(cfg: CfgNode) -> IdentityLoss:
    margin = None
    if cfg.MODEL.ID_LOSS_TYPE != "softmax":
        margin = partial(MARGINS[cfg.MODEL.ID_LOSS_TYPE], margin=cfg.SOLVER.COSINE_MARGIN)
    smoothing = LABEL_SMOOTHING if cfg.MODEL.IF_LABELSMOOTH else 0.0
    return IdentityLoss(label_smoothing=smoothing, margin=margin, scale=_logit_scale(cfg))


def _make_metric(cfg: CfgNode) -> BatchHardTripletLoss | WeightedTripletLoss:
    if cfg.MODEL.METRIC_LOSS_TYPE == "wrtriplet":
        return WeightedTripletLoss()
    margin = None if cfg.MODEL.NO_MARGIN else cfg.SOLVER.MARGIN
    return BatchHardTripletLoss(margin=margin, hard_factor=cfg.SOLVER.HARD_FACTOR)


def _labels_for(rows: torch.Tensor, batch: dict) -> torch.Tensor:
    """Labels (N,) of N rows: the batch's, repeated where the rows hold both views."""
    return batch["pids"].repeat(len(rows) // len(batch["pids"]))


def _with_parts(loss: nn.Module, whole: torch.Tensor, parts: tuple[torch.Tensor, ...], batch: dict) -> torch.Tensor:
    """Loss of the whole image's (N, D or C), averaged with the mean loss of its local parts' where there are any."""
    labels = _labels_for(whole, batch)
    if not parts:
        return loss(whole, labels)
    local = sum(loss(part, labels) for part in parts) / len(parts)
    return (1 - PARTS_SHARE) * loss(whole, labels) + PARTS_SHARE * local


def _identity_terms(cfg: CfgNode) -> dict[str, Term]:
    identity, metric, on_neck = _make_identity(cfg), _make_metric(cfg), cfg.MODEL.TRIPLET_ON == "neck"

    def triplet(out: ModelOutput, batch: dict) -> torch.Tensor:
        if not on_neck:
            return _with_parts(metric, out.embedding, out.local_embeddings, batch)
        parts = tuple(F.normalize(part.float(), dim=1) for part in out.local_features)
        return _with_parts(metric, F.normalize(out.features.float(), dim=1), parts, batch)

    return {
        "id": lambda out, batch: _with_parts(identity, out.logits, out.local_logits, batch),
        "triplet": triplet,
    }


def _bridge_terms() -> dict[str, Term]:
    return {
        "reconstruction": lambda out, _: reconstruction_loss(out.bridge.clean_reconstruction, out.bridge.clean),
        "bridge_kl": lambda out, _: gaussian_kl(out.bridge.corrupted_latent, out.bridge.bridge_latent),
        "prior_kl": lambda out, _: standard_normal_kl(out.bridge.clean_latent),
    }


def _alignment_terms(cfg: CfgNode) -> dict[str, Term]:
    coarse = CoarseAlignmentLoss(
        temperature=cfg.CFAT.COARSE.TEMPERATURE,
        detach_weight=cfg.CFAT.COARSE.DETACH_WEIGHT,
        exclude_same_identity=cfg.CFAT.COARSE.EXCLUDE_SAME_IDENTITY,
    )
    identity, metric = _make_identity(cfg), _make_metric(cfg)
    terms: dict[str, Term] = {
        "coarse": lambda out, batch: coarse(out.clean_embedding, out.corrupted_embedding, batch["pids"]),
        "fine_id": lambda out, batch: identity(out.bridge.reconstruction_logits, batch["pids"]),
        "fine_triplet": lambda out, batch: metric(out.bridge.corrupted_reconstruction, batch["pids"]),
        "cosine_class": lambda out, _: cosine_distance(out.corrupted_embedding, out.clean_embedding),
        "cosine_patch": lambda out, _: cosine_distance(out.corrupted_patch_tokens, out.clean_patch_tokens),
        "tokens": lambda out, _: token_distance(out.corrupted_patch_tokens, out.clean_patch_tokens),
    }
    if cfg.CFAT.LOGITS.WEIGHT:
        distil = partial(distillation, temperature=cfg.CFAT.LOGITS.TEMPERATURE, scale=_logit_scale(cfg))
        terms["logits"] = lambda out, _: distil(out.corrupted_logits, out.clean_logits)
    return terms
