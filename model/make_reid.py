"""Re-identification models from a configuration: one maker for each kind of backbone."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from yacs.config import CfgNode

from model.check import check_architecture
from model.clip_vit import ClipReID, ClipViT
from model.jigsaw import JigsawReID, JigsawSettings
from model.kinds import CLIP, RESNET, SWIN, TIMM, VIT, kind_of
from model.part_tokens import PartTokenReID, PartTokenViT
from model.reid import ReIDModel, TransformerReID
from model.resnet import ResNetReID, ResNetTrunk
from model.swin import Swin, SwinReID
from model.swin_sizes import SWIN_SIZES
from model.timm_backbone import DROP_PATH, make_timm_backbone
from model.timm_check import structure_of
from model.timm_reid import TimmReID
from model.vit import TransReIDViT
from model.vit_sizes import CLIP_SIZES, vit_size

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SideSizes:
    """Sizes of the side information that a model may have.

    Attributes:
        num_cameras, num_views: cameras and viewpoints of the data set.
        mean_side: a model without SIE of cameras or viewpoints gets one side vector for every image.
    """

    num_cameras: int
    num_views: int
    mean_side: bool = False


# (configuration, side information, options of ReIDModel) -> model with random weights
Maker = Callable[[CfgNode, SideSizes, dict[str, Any]], ReIDModel]


def make_reid(
    cfg: CfgNode,
    *,
    num_classes: int,
    num_cameras: int,
    num_views: int,
    train_view: str = "images",
    mean_side: bool = False,
) -> ReIDModel:
    """Makes the re-identification model that `cfg` describes, with random weights.

    Args:
        cfg: configuration.
        num_classes, num_cameras, num_views: identities, cameras and viewpoints of the training set.
        train_view: key of the batch that the training forward reads.
        mean_side: give a model without SIE of cameras or viewpoints one side vector for every image.

    Raises:
        UserError: as of `check_architecture`.
    """
    check_architecture(cfg)
    options: dict[str, Any] = {
        "num_classes": num_classes,
        "mean": tuple(cfg.INPUT.PIXEL_MEAN),
        "std": tuple(cfg.INPUT.PIXEL_STD),
        "test_feature": _test_feature(cfg),
        "flip": cfg.TEST.FLIP,
        "feat_norm": cfg.TEST.FEAT_NORM,
        "train_view": train_view,
        "cosine_classifier": cfg.MODEL.ID_LOSS_TYPE != "softmax",
        "feat_dim": cfg.MODEL.FEAT_DIM if cfg.MODEL.NAME == "transformer" and cfg.MODEL.REDUCE_FEAT_DIM else 0,
    }
    return MAKERS[kind_of(cfg)](cfg, SideSizes(num_cameras, num_views, mean_side), options)


def _make_resnet(cfg: CfgNode, sides: SideSizes, options: dict[str, Any]) -> ReIDModel:
    trunk = ResNetTrunk(
        ibn=cfg.MODEL.NAME == "resnet50_ibn_a",
        last_stride=cfg.MODEL.LAST_STRIDE,
        stem_relu=cfg.MODEL.STEM_RELU,
        stem_pool=cfg.MODEL.STEM_POOL,
    )
    return ResNetReID(trunk, gem_pool=cfg.MODEL.GEM_POOL, **options)


def _make_vit(cfg: CfgNode, sides: SideSizes, options: dict[str, Any]) -> ReIDModel:
    vit = PartTokenViT if cfg.MODEL.PART_TOKENS else TransReIDViT
    base: Any = vit(
        tuple(cfg.INPUT.SIZE_TEST),
        vit_size(cfg.MODEL.TRANSFORMER_TYPE),
        stem_conv=cfg.MODEL.STEM_CONV,
        **_vit_options(cfg, sides),
    )
    if cfg.MODEL.PART_TOKENS:
        return PartTokenReID(base, fusion=cfg.MODEL.FEAT_FUSION, multi_neck=cfg.MODEL.MULTI_NECK, **options)
    if not cfg.MODEL.JPM:
        return TransformerReID(base, pooling=cfg.MODEL.POOLING, **options)
    settings = JigsawSettings(
        rearrange=cfg.MODEL.RE_ARRANGE,
        shift=cfg.MODEL.SHIFT_NUM,
        groups=cfg.MODEL.SHUFFLE_GROUP,
        parts=cfg.MODEL.DEVIDE_LENGTH,
    )
    return JigsawReID(base, settings, **options)


def _make_swin(cfg: CfgNode, sides: SideSizes, options: dict[str, Any]) -> ReIDModel:
    base = Swin(
        SWIN_SIZES[cfg.MODEL.TRANSFORMER_TYPE],
        semantic_weight=cfg.MODEL.SEMANTIC_WEIGHT,
        drop_rate=cfg.MODEL.DROP_OUT,
        attn_drop_rate=cfg.MODEL.ATT_DROP_RATE,
        drop_path_rate=cfg.MODEL.DROP_PATH,
    )
    return SwinReID(base, **options)


def _make_clip(cfg: CfgNode, sides: SideSizes, options: dict[str, Any]) -> ReIDModel:
    base = ClipViT(tuple(cfg.INPUT.SIZE_TEST), CLIP_SIZES[cfg.MODEL.TRANSFORMER_TYPE], **_vit_options(cfg, sides))
    return ClipReID(base, **options)


def _vit_options(cfg: CfgNode, sides: SideSizes) -> dict[str, Any]:
    has_side = cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW
    return {
        "stride": tuple(cfg.MODEL.STRIDE_SIZE),
        "num_cameras": sides.num_cameras if cfg.MODEL.SIE_CAMERA else int(sides.mean_side and not has_side),
        "num_views": sides.num_views if cfg.MODEL.SIE_VIEW else 0,
        "sie_coefficient": cfg.MODEL.SIE_COE,
        "drop_rate": cfg.MODEL.DROP_OUT,
        "attn_drop_rate": cfg.MODEL.ATT_DROP_RATE,
        "drop_path_rate": cfg.MODEL.DROP_PATH,
    }


def _make_timm(cfg: CfgNode, sides: SideSizes, options: dict[str, Any]) -> ReIDModel:
    name, structure = cfg.MODEL.TRANSFORMER_TYPE, structure_of(cfg)
    if cfg.MODEL.DROP_PATH and not structure.takes.intersection(DROP_PATH):
        logger.info("MODEL.DROP_PATH %s: %s has no stochastic depth", cfg.MODEL.DROP_PATH, name)
    base = make_timm_backbone(
        name,
        tuple(cfg.INPUT.SIZE_TEST),
        structure.layout,
        side_width=structure.side_width,
        **_vit_options(cfg, sides),
    )
    return TimmReID(base, **options)


MAKERS: dict[str, Maker] = {
    VIT: _make_vit,
    RESNET: _make_resnet,
    SWIN: _make_swin,
    CLIP: _make_clip,
    TIMM: _make_timm,
}


def _test_feature(cfg: CfgNode) -> str:
    """TEST.FEATURE; "class_token" in place of "patch_mean" where the model has no such feature."""
    if cfg.TEST.FEATURE != "patch_mean" or not (kind_of(cfg) == RESNET or cfg.MODEL.JPM):
        return cfg.TEST.FEATURE
    logger.warning(
        "TEST.FEATURE patch_mean: %s has none; its feature before the neck is used (TEST.FEATURE class_token)",
        "ResNet-50" if kind_of(cfg) == RESNET else "a model with JPM",
    )
    return "class_token"
