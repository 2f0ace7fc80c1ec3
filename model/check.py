"""Checks the model's part of a configuration without building anything."""

from collections.abc import Callable

from yacs.config import CfgNode

from model.kinds import RESNET, TIMM, VIT, kind_of
from model.timm_backbone import ATT_DROP_RATE, DROP_OUT
from model.timm_structure import timm_structure
from model.vit_sizes import grid_of, vit_size
from utils.errors import UserError


def check(cfg: CfgNode) -> None:
    """Checks that the model of a stage can be built and trained as `cfg` says.

    Raises:
        UserError: an unknown backbone, or settings that do not go together.
    """
    check_architecture(cfg)
    if cfg.SOLVER.GRAD_CHECKPOINT and kind_of(cfg) == RESNET:
        raise UserError(
            _NO_CHECKPOINT.format("a vision transformer", "resnet50", "Set it to False, or MODEL.NAME to transformer")
        )
    if cfg.SOLVER.GRAD_CHECKPOINT and kind_of(cfg) == TIMM:
        name = cfg.MODEL.TRANSFORMER_TYPE
        found = timm_structure(name, tuple(cfg.INPUT.SIZE_TEST), tuple(cfg.MODEL.STRIDE_SIZE))
        if found.has_batch_norm:
            raise UserError(_NO_CHECKPOINT.format("a model", name, "Set it to False"))
        if not found.can_checkpoint:
            raise UserError(f"SOLVER.GRAD_CHECKPOINT True: timm cannot recompute blocks of {name}; set it to False")


_NO_CHECKPOINT = (
    "SOLVER.GRAD_CHECKPOINT True: it recomputes the blocks of {}; the BatchNorm layers of {} would count every batch "
    "twice. {}"
)


def check_architecture(cfg: CfgNode) -> None:
    """Checks that the model can be built, and that the test features and attention maps that `cfg` asks for exist.

    Raises:
        UserError: an unknown backbone, or settings that do not go together.
    """
    CHECKS[kind_of(cfg)](cfg)


def _check_resnet(cfg: CfgNode) -> None:
    if cfg.MODEL.JPM:
        raise UserError("MODEL.JPM True: the jigsaw patch module needs patches; set MODEL.NAME to transformer")
    if cfg.TEST.ATTENTION_QUERIES:
        raise UserError(
            f"TEST.ATTENTION_QUERIES {cfg.TEST.ATTENTION_QUERIES}: attention maps are those of a vision transformer, "
            "and this model is a ResNet-50; set TEST.ATTENTION_QUERIES to 0"
        )


def _check_vit(cfg: CfgNode) -> None:
    patch_size = vit_size(cfg.MODEL.TRANSFORMER_TYPE).patch_size
    if list(cfg.INPUT.SIZE_TRAIN) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"INPUT.SIZE_TRAIN {list(cfg.INPUT.SIZE_TRAIN)} and SIZE_TEST {list(cfg.INPUT.SIZE_TEST)} differ; "
            "a vision transformer has one table of position embeddings: set both to the same size"
        )
    if min(cfg.INPUT.SIZE_TEST) < patch_size:
        raise UserError(
            f"INPUT.SIZE_TEST {list(cfg.INPUT.SIZE_TEST)}: smaller than a patch of {cfg.MODEL.TRANSFORMER_TYPE}, "
            f"{patch_size} x {patch_size} pixels"
        )
    if max(cfg.MODEL.STRIDE_SIZE) > patch_size:
        raise UserError(
            f"MODEL.STRIDE_SIZE {list(cfg.MODEL.STRIDE_SIZE)}: expected at most {patch_size}, the patch size of "
            f"{cfg.MODEL.TRANSFORMER_TYPE}; the model would not see the pixels between the patches"
        )
    rows, columns = grid_of(tuple(cfg.INPUT.SIZE_TEST), patch_size, tuple(cfg.MODEL.STRIDE_SIZE))
    if cfg.MODEL.JPM and rows * columns < cfg.MODEL.DEVIDE_LENGTH:
        raise UserError(
            f"MODEL.DEVIDE_LENGTH {cfg.MODEL.DEVIDE_LENGTH}: an image of {list(cfg.INPUT.SIZE_TEST)} has only "
            f"{rows * columns} patches to divide"
        )


def _check_timm(cfg: CfgNode) -> None:
    model, stride = cfg.MODEL, tuple(cfg.MODEL.STRIDE_SIZE)
    name, size = model.TRANSFORMER_TYPE, list(cfg.INPUT.SIZE_TEST)
    found = timm_structure(name, tuple(size), stride)
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


_NO_TOKENS = "side information is added to tokens after their position embedding, and it has none"
_NO_ATTENTION_DROP = "its attention has no dropout"
_NO_ROLLOUT = "attention maps need a class token as feature, and blocks with timm's plain attention"

CHECKS: dict[str, Callable[[CfgNode], None]] = {VIT: _check_vit, RESNET: _check_resnet, TIMM: _check_timm}
