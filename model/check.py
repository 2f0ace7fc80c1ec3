"""Checks the model's part of a configuration without building anything."""

from collections.abc import Callable

from yacs.config import CfgNode

from model.kinds import CLIP, RESNET, SWIN, TIMM, VIT, kind_of
from model.pooling import GROUP
from model.timm_check import check_timm, check_timm_training
from model.vit_sizes import CLIP_SIZES, grid_of, vit_size
from utils.errors import UserError


def check(cfg: CfgNode) -> None:
    """Checks that the model of a stage can be built and trained as `cfg` says.

    Raises:
        UserError: an unknown backbone, or settings that do not go together.
    """
    check_architecture(cfg)
    if cfg.SOLVER.GRAD_CHECKPOINT and kind_of(cfg) == RESNET:
        raise UserError(
            "SOLVER.GRAD_CHECKPOINT True: it recomputes the blocks of a vision transformer; the BatchNorm layers of "
            "resnet50 would count every batch twice. Set it to False, or MODEL.NAME to transformer"
        )
    if kind_of(cfg) == TIMM:
        check_timm_training(cfg)


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
    size = vit_size(cfg.MODEL.TRANSFORMER_TYPE)
    patch_size = size.patch_size
    rows, columns = _check_grid(cfg, patch_size)
    if cfg.MODEL.JPM and rows * columns < cfg.MODEL.DEVIDE_LENGTH:
        raise UserError(
            f"MODEL.DEVIDE_LENGTH {cfg.MODEL.DEVIDE_LENGTH}: an image of {list(cfg.INPUT.SIZE_TEST)} has only "
            f"{rows * columns} patches to divide"
        )
    if cfg.MODEL.POOLING == "avg_max" and rows * columns % GROUP:
        raise UserError(
            f"MODEL.POOLING avg_max: it groups patches by {GROUP}, and an image of {list(cfg.INPUT.SIZE_TEST)} has "
            f"{rows * columns}; set INPUT.SIZE_TRAIN and SIZE_TEST to a size with a multiple of {GROUP}, or another "
            "MODEL.POOLING"
        )
    if size.stem and cfg.MODEL.STEM_CONV:
        raise UserError(
            f"MODEL.STEM_CONV True: {cfg.MODEL.TRANSFORMER_TYPE} has convolutions of its own; set it to False"
        )
    if cfg.MODEL.STEM_CONV:
        _check_stem(cfg, patch_size, "MODEL.STEM_CONV True", lambda side: side % patch_size == patch_size - 1)
    if size.stem:
        _check_stem(cfg, patch_size, cfg.MODEL.TRANSFORMER_TYPE, lambda side: side % patch_size > 0)
    _check_combination(cfg)


def _check_grid(cfg: CfgNode, patch_size: int) -> tuple[int, int]:
    """Checks that image size and stride go together; returns the rows and columns of patches."""
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
    return grid_of(tuple(cfg.INPUT.SIZE_TEST), patch_size, tuple(cfg.MODEL.STRIDE_SIZE))


def _check_stem(cfg: CfgNode, patch_size: int, owner: str, rounds_up: Callable[[int], bool]) -> None:
    """Checks stride and image size for convolutions that embed patches.

    Args:
        cfg, patch_size: of the model.
        owner: what brings the convolutions, for messages.
        rounds_up: whether they make one patch more of a side of that many pixels.
    """
    if list(cfg.MODEL.STRIDE_SIZE) != [patch_size, patch_size]:
        raise UserError(
            f"MODEL.STRIDE_SIZE {list(cfg.MODEL.STRIDE_SIZE)}: with {owner} patches do not overlap; set it to "
            f"[{patch_size}, {patch_size}]"
        )
    if any(map(rounds_up, cfg.INPUT.SIZE_TEST)):
        raise UserError(
            f"INPUT.SIZE_TEST {list(cfg.INPUT.SIZE_TEST)}: not whole patches of {patch_size} pixels, which {owner} "
            f"needs; set INPUT.SIZE_TRAIN and SIZE_TEST to multiples of {patch_size}"
        )


def _check_combination(cfg: CfgNode) -> None:
    """Checks that the parts of the model go together; the codebases that have them do not combine them either."""
    model = cfg.MODEL
    without = "MODEL.PART_TOKENS" if model.PART_TOKENS else "MODEL.JPM"
    options = [
        f"MODEL.POOLING {model.POOLING} (set it to class_token)" if model.POOLING != "class_token" else "",
        "MODEL.REDUCE_FEAT_DIM True (set it to False)" if model.REDUCE_FEAT_DIM else "",
    ]
    if model.PART_TOKENS:
        switches = [key for key in ("JPM", "SIE_CAMERA", "SIE_VIEW") if model[key]]
        options += [f"MODEL.{key} True (set it to False)" for key in switches]
    excluded = [option for option in options if option]
    if excluded and (model.PART_TOKENS or model.JPM):
        raise UserError(f"{without} True does not go with {', '.join(excluded)}")


def _check_swin(cfg: CfgNode) -> None:
    model, name = cfg.MODEL, cfg.MODEL.TRANSFORMER_TYPE
    if model.SIE_CAMERA or model.SIE_VIEW:
        raise UserError(
            f"MODEL.SIE_CAMERA {model.SIE_CAMERA}, SIE_VIEW {model.SIE_VIEW}: {name} has no side information of "
            "cameras and viewpoints; set both to False"
        )
    _check_absent(cfg, ("JPM", "STEM_CONV", "PART_TOKENS", "POOLING"))
    if cfg.TEST.ATTENTION_QUERIES:
        raise UserError(
            f"TEST.ATTENTION_QUERIES {cfg.TEST.ATTENTION_QUERIES}: attention maps are those of a class token, and "
            f"{name} has none; set TEST.ATTENTION_QUERIES to 0"
        )


def _check_clip(cfg: CfgNode) -> None:
    _check_grid(cfg, CLIP_SIZES[cfg.MODEL.TRANSFORMER_TYPE].vit.patch_size)
    _check_absent(cfg, ("JPM", "STEM_CONV", "PART_TOKENS", "POOLING", "REDUCE_FEAT_DIM"))


def _check_absent(cfg: CfgNode, keys: tuple[str, ...]) -> None:
    """Checks that the keys, parts of other vision transformers, are at the values that mean none."""
    asked = [f"MODEL.{key} {cfg.MODEL[key]}" for key in keys if cfg.MODEL[key] not in (False, "class_token")]
    if asked:
        raise UserError(
            f"{', '.join(asked)}: for other vision transformers, not for {cfg.MODEL.TRANSFORMER_TYPE}; leave it out"
        )


CHECKS: dict[str, Callable[[CfgNode], None]] = {
    VIT: _check_vit,
    RESNET: _check_resnet,
    SWIN: _check_swin,
    CLIP: _check_clip,
    TIMM: check_timm,
}
