"""Checks what a configuration asks of a model of timm, without building it."""

from yacs.config import CfgNode

from model.timm_backbone import ATT_DROP_RATE, DROP_OUT
from model.timm_structure import TimmStructure, timm_structure
from utils.errors import UserError

_NO_TOKENS = "side information is added to tokens after their position embedding, and it has none"
_NO_ATTENTION_DROP = "its attention has no dropout"
_NO_ROLLOUT = "attention maps need a class token as feature, and blocks with timm's plain attention"


def check_timm(cfg: CfgNode) -> None:
    """Checks that the model can be built for the images, and can do what is asked of it.

    Raises:
        UserError: as of `timm_structure`, or every key that it cannot follow.
    """
    model, found = cfg.MODEL, structure_of(cfg)
    name, size = model.TRANSFORMER_TYPE, list(cfg.INPUT.SIZE_TEST)
    if found.has_image_size and list(cfg.INPUT.SIZE_TRAIN) != size:
        raise UserError(
            f"INPUT.SIZE_TRAIN {list(cfg.INPUT.SIZE_TRAIN)} and SIZE_TEST {size} differ; {name} is made for images of "
            "one size: set both to the same size"
        )
    rows = (
        ("MODEL.JPM", model.JPM, False, "the jigsaw patch module is for MODEL.NAME transformer", False),
        ("MODEL.SIE_CAMERA", model.SIE_CAMERA, found.side_width, _NO_TOKENS, False),
        ("MODEL.SIE_VIEW", model.SIE_VIEW, found.side_width, _NO_TOKENS, False),
        ("MODEL.DROP_OUT", model.DROP_OUT, found.takes.intersection(DROP_OUT), "it has no dropout", 0.0),
        ("MODEL.ATT_DROP_RATE", model.ATT_DROP_RATE, found.takes.intersection(ATT_DROP_RATE), _NO_ATTENTION_DROP, 0.0),
        ("TEST.ATTENTION_QUERIES", cfg.TEST.ATTENTION_QUERIES, found.has_rollout, _NO_ROLLOUT, 0),
        ("SOLVER.LAYER_DECAY", cfg.SOLVER.LAYER_DECAY != 1, found.can_decay, "timm gives no order of its layers", 1.0),
    )
    wrong = [f"{key} to {off} ({reason})" for key, asked, possible, reason, off in rows if asked and not possible]
    if wrong:
        raise UserError(f"MODEL.TRANSFORMER_TYPE {name}, with MODEL.NAME timm: set {'; '.join(wrong)}")


def check_timm_training(cfg: CfgNode) -> None:
    """Checks that the model can be trained as `cfg` says.

    Raises:
        UserError: gradient checkpointing of a model that cannot have it.
    """
    if not cfg.SOLVER.GRAD_CHECKPOINT:
        return
    name, found = cfg.MODEL.TRANSFORMER_TYPE, structure_of(cfg)
    if found.has_batch_norm:
        raise UserError(
            f"SOLVER.GRAD_CHECKPOINT True: it recomputes blocks; the BatchNorm layers of {name} would count every "
            "batch twice. Set it to False"
        )
    if not found.can_checkpoint:
        raise UserError(f"SOLVER.GRAD_CHECKPOINT True: timm cannot recompute the blocks of {name}; set it to False")


def structure_of(cfg: CfgNode) -> TimmStructure:
    """The structure of the timm model that a configuration asks for."""
    return timm_structure(cfg.MODEL.TRANSFORMER_TYPE, tuple(cfg.INPUT.SIZE_TEST), tuple(cfg.MODEL.STRIDE_SIZE))
