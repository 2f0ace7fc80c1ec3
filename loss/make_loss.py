"""The sum of weighted terms that a configuration and its CFAT stage ask for."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from loss.alignment import (
    CoarseAlignmentLoss,
    cosine_distance,
    gaussian_kl,
    reconstruction_loss,
    standard_normal_kl,
)
from loss.center import CenterLoss
from loss.consistency import ConsistencyLoss
from loss.identity import LABEL_SMOOTHING, IdentityLoss
from loss.margins import MARGINS
from loss.triplet import BatchHardTripletLoss, WeightedTripletLoss
from utils.errors import UserError
from utils.stages import current_stage
from utils.structures import ModelOutput

PARTS_SHARE = 0.5  # of the local parts in a term that has any, as in TransReID's loss/make_loss.py

Term = Callable[[ModelOutput, dict], torch.Tensor]


class CombinedLoss(nn.Module):
    """Weighted sum of named terms, each a function (output, batch) -> scalar; terms of weight 0 are left out.

    Args:
        terms: name -> (weight, term).
        learned: those modules of the terms that have parameters; the optimizer and the device move find them here.

    Returns:
        {"loss": weighted total, "<name>_loss": each term, unweighted}.
    """

    def __init__(self, terms: dict[str, tuple[float, Term]], *, learned: dict[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.terms = {name: (weight, term) for name, (weight, term) in terms.items() if weight}
        self.learned = nn.ModuleDict(learned)

    def forward(self, output: ModelOutput, batch: dict) -> dict[str, torch.Tensor]:
        values = {name: term(output, batch) for name, (_, term) in self.terms.items()}
        total = sum(weight * values[name] for name, (weight, _) in self.terms.items())
        return {"loss": total, **{f"{name}_loss": value for name, value in values.items()}}


def make_loss(cfg, *, num_classes: int, feat_dim: int) -> CombinedLoss:
    """Loss of cfg.CFAT.STAGE (the last of cfg.CFAT.STAGES where it is empty).

    Args:
        cfg: configuration.
        num_classes, feat_dim: identities and embedding width; terms with weights of their own need them.

    Raises:
        UserError: a configuration that leaves no term.
    """
    stage = current_stage(cfg)
    terms = _identity_terms(cfg) if stage.has_identity_loss else _bridge_terms(cfg)
    learned = {}
    if stage.has_identity_loss and cfg.MODEL.IF_WITH_CENTER:
        center = learned["center"] = CenterLoss(num_classes=num_classes, feat_dim=feat_dim)
        terms["center"] = (
            cfg.SOLVER.CENTER_LOSS_WEIGHT,
            lambda out, batch: center(out.embedding, _labels_for(out.embedding, batch)),
        )
    if stage.trains == "model" and cfg.INPUT.SELF_ID:
        consistency = ConsistencyLoss(scale=_logit_scale(cfg))
        terms["consistency"] = (
            cfg.MODEL.CONSISTENCY_LOSS_WEIGHT,
            lambda out, batch: consistency(out.logits[: len(batch["pids"])], out.augmented_logits),
        )
    if stage.trains == "student":
        terms |= _alignment_terms(cfg)
    if not any(weight for weight, _ in terms.values()):
        raise UserError(f"stage {stage.name}: every loss weight is 0; set one, e.g. MODEL.ID_LOSS_WEIGHT 1.0")
    return CombinedLoss(terms, learned=learned)


def check_losses(stage_cfgs: list) -> None:
    """Makes sure, before any stage is trained, that each has a loss.

    Raises:
        UserError: every weight of a stage is 0.
    """
    for cfg in stage_cfgs:
        make_loss(cfg, num_classes=0, feat_dim=0)


def _logit_scale(cfg) -> float:
    """What turns the classifier's outputs into logits: 1, or the scale of cosines."""
    return 1.0 if cfg.MODEL.ID_LOSS_TYPE == "softmax" else cfg.SOLVER.COSINE_SCALE


def _make_identity(cfg) -> IdentityLoss:
    margin = None
    if cfg.MODEL.ID_LOSS_TYPE != "softmax":
        margin = partial(MARGINS[cfg.MODEL.ID_LOSS_TYPE], margin=cfg.SOLVER.COSINE_MARGIN)
    smoothing = LABEL_SMOOTHING if cfg.MODEL.IF_LABELSMOOTH else 0.0
    return IdentityLoss(label_smoothing=smoothing, margin=margin, scale=_logit_scale(cfg))


def _make_metric(cfg) -> BatchHardTripletLoss | WeightedTripletLoss:
    if cfg.MODEL.METRIC_LOSS_TYPE == "wrtriplet":
        return WeightedTripletLoss()
    margin = None if cfg.MODEL.NO_MARGIN else cfg.SOLVER.MARGIN
    return BatchHardTripletLoss(margin=margin, hard_factor=cfg.SOLVER.HARD_FACTOR)


def _labels_for(rows: torch.Tensor, batch: dict) -> torch.Tensor:
    """Labels of N rows: the batch's, repeated where the rows hold both views."""
    return batch["pids"].repeat(len(rows) // len(batch["pids"]))


def _with_parts(loss: nn.Module, whole: torch.Tensor, parts: tuple[torch.Tensor, ...], batch: dict) -> torch.Tensor:
    """Loss of the whole picture's (N, D or C), averaged with the mean loss of its local parts' where there are any."""
    labels = _labels_for(whole, batch)
    if not parts:
        return loss(whole, labels)
    local = sum(loss(part, labels) for part in parts) / len(parts)
    return (1 - PARTS_SHARE) * loss(whole, labels) + PARTS_SHARE * local


def _identity_terms(cfg) -> dict[str, tuple[float, Term]]:
    identity, metric = _make_identity(cfg), _make_metric(cfg)
    return {
        "id": (
            cfg.MODEL.ID_LOSS_WEIGHT,
            lambda out, batch: _with_parts(identity, out.logits, out.local_logits, batch),
        ),
        "triplet": (
            cfg.MODEL.TRIPLET_LOSS_WEIGHT,
            lambda out, batch: _with_parts(metric, out.embedding, out.local_embeddings, batch),
        ),
    }


def _bridge_terms(cfg) -> dict[str, tuple[float, Term]]:
    fine = cfg.CFAT.FINE
    return {
        "reconstruction": (
            fine.RECONSTRUCTION_WEIGHT,
            lambda out, batch: reconstruction_loss(out.bridge.clean_reconstruction, out.bridge.clean),
        ),
        "bridge_kl": (
            fine.KL_WEIGHT,
            lambda out, batch: gaussian_kl(out.bridge.corrupted_latent, out.bridge.bridge_latent),
        ),
        "prior_kl": (fine.PRIOR_WEIGHT, lambda out, batch: standard_normal_kl(out.bridge.clean_latent)),
    }


def _alignment_terms(cfg) -> dict[str, tuple[float, Term]]:
    coarse = CoarseAlignmentLoss(
        temperature=cfg.CFAT.COARSE.TEMPERATURE,
        detach_weight=cfg.CFAT.COARSE.DETACH_WEIGHT,
        exclude_same_identity=cfg.CFAT.COARSE.EXCLUDE_SAME_IDENTITY,
    )
    identity, metric = _make_identity(cfg), _make_metric(cfg)
    fine, cosine = cfg.CFAT.FINE, cfg.CFAT.COSINE
    bridge_terms = _bridge_terms(cfg)
    del bridge_terms["prior_kl"]  # the prior shapes the latent space in stage bridge only
    return {
        **bridge_terms,
        "coarse": (
            cfg.CFAT.COARSE.WEIGHT,
            lambda out, batch: coarse(out.clean_embedding, out.corrupted_embedding, batch["pids"]),
        ),
        "fine_id": (
            fine.IDENTITY_WEIGHT,
            lambda out, batch: identity(out.bridge.reconstruction_logits, batch["pids"]),
        ),
        "fine_triplet": (
            fine.IDENTITY_WEIGHT,
            lambda out, batch: metric(out.bridge.corrupted_reconstruction, batch["pids"]),
        ),
        "cosine_class": (
            cosine.CLASS_WEIGHT,
            lambda out, batch: cosine_distance(out.corrupted_embedding, out.clean_embedding),
        ),
        "cosine_patch": (
            cosine.PATCH_WEIGHT,
            lambda out, batch: cosine_distance(out.corrupted_patch_tokens, out.clean_patch_tokens),
        ),
    }
