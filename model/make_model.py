"""Models from a configuration, with random weights."""

import logging
from functools import partial
from typing import Any

from yacs.config import CfgNode

from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.check import check, check_architecture
from model.jigsaw import JigsawReID, JigsawSettings
from model.reid import ReIDModel, TransformerReID
from model.resnet import ResNetReID, ResNetTrunk
from model.training import set_up_training
from model.vit import TransReIDViT
from model.vit_sizes import vit_size
from utils.stages import current_stage

logger = logging.getLogger(__name__)


def make_model(cfg: CfgNode, *, num_classes: int, num_cameras: int, num_views: int) -> ReIDModel | CFAT:
    """Makes the model that a stage trains, with random weights; `load_initial_weights` loads what it starts from.

    Args:
        cfg: configuration of the stage CFAT.STAGE, the last of CFAT.STAGES where it is empty.
        num_classes, num_cameras, num_views: identities, cameras and viewpoints of the training set.

    Returns:
        A ReIDModel in stages clean and corrupted, a CFAT in bridge and align.

    Raises:
        UserError: an unknown backbone, or settings that do not go together.
    """
    check(cfg)
    stage = current_stage(cfg)
    make = partial(make_reid, cfg, num_classes=num_classes, num_cameras=num_cameras, num_views=num_views)
    if stage.trains == "model":
        return set_up_training(cfg, make(train_view=stage.views[0]))
    student, teacher = make(), make()
    bridge = BridgeVAE(
        student.embed_dim,
        hidden_dim=cfg.CFAT.FINE.HIDDEN_DIM,
        latent_dim=cfg.CFAT.FINE.LATENT_DIM,
        bridge_t=cfg.CFAT.FINE.BRIDGE_T,
        noise=cfg.CFAT.FINE.NOISE,
        released=cfg.CFAT.FINE.RELEASED,
    )
    model = CFAT(
        student, teacher, bridge, student_views=cfg.CFAT.STUDENT_VIEWS, freeze_student=stage.trains == "bridge"
    )
    return set_up_training(cfg, model)


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
        cfg, num_classes, num_cameras, num_views: as of `make_model`.
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
    }
    if cfg.MODEL.NAME == "resnet50":
        trunk = ResNetTrunk(
            last_stride=cfg.MODEL.LAST_STRIDE, stem_relu=cfg.MODEL.STEM_RELU, stem_pool=cfg.MODEL.STEM_POOL
        )
        return ResNetReID(trunk, gem_pool=cfg.MODEL.GEM_POOL, **options)
    has_side = cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW
    base = TransReIDViT(
        tuple(cfg.INPUT.SIZE_TEST),
        vit_size(cfg.MODEL.TRANSFORMER_TYPE),
        stride=tuple(cfg.MODEL.STRIDE_SIZE),
        num_cameras=num_cameras if cfg.MODEL.SIE_CAMERA else int(mean_side and not has_side),
        num_views=num_views if cfg.MODEL.SIE_VIEW else 0,
        sie_coefficient=cfg.MODEL.SIE_COE,
        drop_rate=cfg.MODEL.DROP_OUT,
        attn_drop_rate=cfg.MODEL.ATT_DROP_RATE,
        drop_path_rate=cfg.MODEL.DROP_PATH,
    )
    if not cfg.MODEL.JPM:
        return TransformerReID(base, **options)
    settings = JigsawSettings(
        rearrange=cfg.MODEL.RE_ARRANGE,
        shift=cfg.MODEL.SHIFT_NUM,
        groups=cfg.MODEL.SHUFFLE_GROUP,
        parts=cfg.MODEL.DEVIDE_LENGTH,
    )
    return JigsawReID(base, settings, **options)


def _test_feature(cfg: CfgNode) -> str:
    """TEST.FEATURE; "class_token" in place of "patch_mean" where the model has no such feature."""
    if cfg.TEST.FEATURE != "patch_mean" or not (cfg.MODEL.NAME == "resnet50" or cfg.MODEL.JPM):
        return cfg.TEST.FEATURE
    logger.warning(
        "TEST.FEATURE patch_mean: %s has none; its feature before the neck is used (TEST.FEATURE class_token)",
        "ResNet-50" if cfg.MODEL.NAME == "resnet50" else "a model with JPM",
    )
    return "class_token"
