"""Floor 1: loss terms. Each is embeddings or logits and labels -> scalar; make_loss weighs and sums what a stage needs.

identity: IdentityLoss   margins: arcface, cosface, circle   triplet: BatchHardTripletLoss, WeightedTripletLoss
center: CenterLoss   consistency: ConsistencyLoss   alignment: CFAT's coarse and fine terms   make_loss: the sum
"""

import utils  # noqa: F401  first, for the environment
from loss.make_loss import CombinedLoss, check_losses, make_loss

__all__ = ["CombinedLoss", "check", "check_losses", "make_loss"]


def check(cfg) -> None:
    """Raises UserError where every loss weight of the stage of cfg is 0."""
    check_losses([cfg])
