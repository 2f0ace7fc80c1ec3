"""Which loss terms a stage trains with, and their weights."""

from yacs.config import CfgNode

from utils.errors import UserError
from utils.stages import current_stage


def check(cfg: CfgNode) -> None:
    """Checks that a stage has a loss.

    Raises:
        UserError: every weight is 0.
    """
    if not any(term_weights(cfg).values()):
        stage = current_stage(cfg).name
        raise UserError(f"stage {stage}: every loss weight is 0; set one, e.g. MODEL.ID_LOSS_WEIGHT 1.0")


def term_weights(cfg: CfgNode) -> dict[str, float]:
    """Weights of the terms of the stage of `cfg`, by name, in the order in which they are summed."""
    stage, model, fine = current_stage(cfg), cfg.MODEL, cfg.CFAT.FINE
    weights: dict[str, float] = {}
    if stage.has_identity_loss:
        weights |= {"id": model.ID_LOSS_WEIGHT, "triplet": model.TRIPLET_LOSS_WEIGHT}
    if stage.has_identity_loss and model.IF_WITH_CENTER:
        weights["center"] = cfg.SOLVER.CENTER_LOSS_WEIGHT
    if stage.trains == "model" and cfg.INPUT.SELF_ID:
        weights["consistency"] = model.CONSISTENCY_LOSS_WEIGHT
    if stage.trains != "model":
        weights |= {"reconstruction": fine.RECONSTRUCTION_WEIGHT, "bridge_kl": fine.KL_WEIGHT}
    if stage.trains == "bridge":  # the prior shapes the latent space in this stage only
        weights["prior_kl"] = fine.PRIOR_WEIGHT
    if stage.trains == "student":
        weights["coarse"] = cfg.CFAT.COARSE.WEIGHT
        weights |= dict.fromkeys(("fine_id", "fine_triplet"), fine.IDENTITY_WEIGHT)
        weights |= {"cosine_class": cfg.CFAT.COSINE.CLASS_WEIGHT, "cosine_patch": cfg.CFAT.COSINE.PATCH_WEIGHT}
        weights |= {"logits": cfg.CFAT.LOGITS.WEIGHT, "tokens": cfg.CFAT.TOKENS.WEIGHT}
    return weights
