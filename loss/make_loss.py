"""The sum of weighted terms that a configuration and its CFAT stage ask for."""

from collections.abc import Callable

import torch
from torch import nn

from loss.alignment import (
    CoarseAlignmentLoss,
    cosine_distance,
    gaussian_kl,
    reconstruction_loss,
    standard_normal_kl,
)
from loss.identity import LABEL_SMOOTHING, IdentityLoss
from loss.triplet import BatchHardTripletLoss
from utils.errors import UserError
from utils.stages import current_stage
from utils.structures import ModelOutput

Term = Callable[[ModelOutput, dict], torch.Tensor]


class CombinedLoss(nn.Module):
    """Weighted sum of named terms, each a function (output, batch) -> scalar; terms of weight 0 are left out.

    A term with parameters of its own must also be registered here as a submodule, or the optimizer never sees it.

    Returns:
        {"loss": weighted total, "<name>_loss": each term, unweighted}.
    """

    def __init__(self, terms: dict[str, tuple[float, Term]]) -> None:
        super().__init__()
        self.terms = {name: (weight, term) for name, (weight, term) in terms.items() if weight}

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
        UserError: a loss that is not built yet, or a configuration that leaves no term.
    """
    _refuse_unbuilt(cfg)
    stage = current_stage(cfg)
    terms = _bridge_terms(cfg) if stage == "bridge" else _identity_terms(cfg)
    if stage == "align":
        terms |= _alignment_terms(cfg)
    if not any(weight for weight, _ in terms.values()):
        raise UserError(f"stage {stage}: every loss weight is 0; set one, e.g. MODEL.ID_LOSS_WEIGHT 1.0")
    return CombinedLoss(terms)


def _refuse_unbuilt(cfg) -> None:
    if cfg.MODEL.ID_LOSS_TYPE != "softmax":
        raise UserError(f"MODEL.ID_LOSS_TYPE {cfg.MODEL.ID_LOSS_TYPE}: not built in this version; use softmax")
    if cfg.MODEL.METRIC_LOSS_TYPE != "triplet":
        raise UserError(f"MODEL.METRIC_LOSS_TYPE {cfg.MODEL.METRIC_LOSS_TYPE}: not built in this version; use triplet")
    if cfg.MODEL.IF_WITH_CENTER:
        raise UserError("MODEL.IF_WITH_CENTER True: the center loss is not built in this version; set it to False")


def _make_identity(cfg) -> IdentityLoss:
    return IdentityLoss(label_smoothing=LABEL_SMOOTHING if cfg.MODEL.IF_LABELSMOOTH else 0.0)


def _make_triplet(cfg) -> BatchHardTripletLoss:
    return BatchHardTripletLoss(margin=None if cfg.MODEL.NO_MARGIN else cfg.SOLVER.MARGIN)


def _labels_for(rows: torch.Tensor, batch: dict) -> torch.Tensor:
    """Labels of N rows: the batch's, repeated where the rows hold both views."""
    return batch["pids"].repeat(len(rows) // len(batch["pids"]))


def _identity_terms(cfg) -> dict[str, tuple[float, Term]]:
    identity, triplet = _make_identity(cfg), _make_triplet(cfg)
    return {
        "id": (cfg.MODEL.ID_LOSS_WEIGHT, lambda out, batch: identity(out.logits, _labels_for(out.logits, batch))),
        "triplet": (
            cfg.MODEL.TRIPLET_LOSS_WEIGHT,
            lambda out, batch: triplet(out.embedding, _labels_for(out.embedding, batch)),
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
    identity, triplet = _make_identity(cfg), _make_triplet(cfg)
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
            lambda out, batch: triplet(out.bridge.corrupted_reconstruction, batch["pids"]),
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
