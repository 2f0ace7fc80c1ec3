"""Models from a configuration: for training a stage, and for testing a checkpoint file."""

import logging

from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.loading import check_training_settings, load_strictly
from model.reid import ReIDModel
from model.vit import VIT_SIZES, TransReIDViT
from utils.checkpoints import load_checkpoint, model_state
from utils.errors import UserError
from utils.stages import current_stage

logger = logging.getLogger(__name__)


def make_model(cfg, *, num_classes: int, num_cameras: int, num_views: int) -> ReIDModel | CFAT:
    """Model of cfg.CFAT.STAGE (the last of cfg.CFAT.STAGES where it is empty), with random weights.

    Stages clean and corrupted train a ReIDModel, bridge and align a CFAT; `load_start` loads what they start from.

    Raises:
        UserError: a backbone or module that is not built yet.
    """
    _refuse_unbuilt(cfg)
    stage = current_stage(cfg)
    counts = {"num_classes": num_classes, "num_cameras": num_cameras, "num_views": num_views}
    if stage in ("clean", "corrupted"):
        return _make_reid(cfg, **counts, train_view="images" if stage == "clean" else "corrupted")
    student, teacher = _make_reid(cfg, **counts), _make_reid(cfg, **counts)
    bridge = BridgeVAE(
        student.embed_dim,
        hidden_dim=cfg.CFAT.FINE.HIDDEN_DIM,
        latent_dim=cfg.CFAT.FINE.LATENT_DIM,
        bridge_t=cfg.CFAT.FINE.BRIDGE_T,
        noise=cfg.CFAT.FINE.NOISE,
    )
    return CFAT(student, teacher, bridge, student_views=cfg.CFAT.STUDENT_VIEWS, freeze_student=stage == "bridge")


def load_model(cfg, path: str, *, num_cameras: int, num_views: int) -> ReIDModel:
    """The model in the checkpoint `path`, ready to extract test features.

    Whether there is side information is read from the file; the camera and viewpoint counts of the data set at hand
    must fit its table. The identity classifier is left out: no test feature needs it.

    Raises:
        UserError: no file given or found, or names and shapes that do not fit the configuration.
    """
    _refuse_unbuilt(cfg)
    if not path:
        raise UserError(
            "TEST.WEIGHT is empty: give the checkpoint to test, e.g. TEST.WEIGHT logs/demo/checkpoints/align.pth"
        )
    content = load_checkpoint(path)
    state = model_state(content, path)
    state.pop("classifier.weight", None)
    if "normalize.mean" not in state:
        logger.warning(
            "checkpoint %s holds no pixel mean: INPUT.PIXEL_MEAN %s and PIXEL_STD %s of the configuration are used; "
            "TransReID's and CIL-ReID's ViT files were trained with 0.5 for both",
            path,
            list(cfg.INPUT.PIXEL_MEAN),
            list(cfg.INPUT.PIXEL_STD),
        )
    sie_sizes = {"num_cameras": num_cameras, "num_views": num_views}
    table = state.get("base.sie_embed")
    if table is None:
        if cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW:
            logger.info("%s holds no side information embedding: MODEL.SIE_CAMERA and SIE_VIEW are ignored", path)
        sie_sizes = {"num_cameras": 0, "num_views": 0}
    else:
        _check_side_table(cfg, path, len(table), num_cameras, num_views)
    model = _make_reid(cfg, num_classes=0, **sie_sizes)
    load_strictly(model, state, source=f"checkpoint {path}", optional=("normalize.",))
    check_training_settings(cfg, content, path)
    return model.eval()


def _make_reid(cfg, *, num_classes: int, num_cameras: int, num_views: int, train_view: str = "images") -> ReIDModel:
    base = TransReIDViT(
        tuple(cfg.INPUT.SIZE_TRAIN),
        VIT_SIZES[cfg.MODEL.TRANSFORMER_TYPE],
        stride=tuple(cfg.MODEL.STRIDE_SIZE),
        num_cameras=num_cameras if cfg.MODEL.SIE_CAMERA else 0,
        num_views=num_views if cfg.MODEL.SIE_VIEW else 0,
        sie_coefficient=cfg.MODEL.SIE_COE,
        drop_rate=cfg.MODEL.DROP_OUT,
        attn_drop_rate=cfg.MODEL.ATT_DROP_RATE,
        drop_path_rate=cfg.MODEL.DROP_PATH,
    )
    return ReIDModel(
        base,
        num_classes=num_classes,
        mean=tuple(cfg.INPUT.PIXEL_MEAN),
        std=tuple(cfg.INPUT.PIXEL_STD),
        test_feature=cfg.TEST.FEATURE,
        feat_norm=cfg.TEST.FEAT_NORM,
        train_view=train_view,
    )


def _refuse_unbuilt(cfg) -> None:
    if cfg.MODEL.NAME != "transformer":
        raise UserError(f"MODEL.NAME {cfg.MODEL.NAME}: not built in this version; use transformer")
    if cfg.MODEL.TRANSFORMER_TYPE not in VIT_SIZES:
        raise UserError(
            f"MODEL.TRANSFORMER_TYPE {cfg.MODEL.TRANSFORMER_TYPE}: not built in this version; "
            f"use one of {', '.join(VIT_SIZES)}"
        )
    if cfg.MODEL.JPM:
        raise UserError("MODEL.JPM True: the jigsaw patch module is not built in this version; set it to False")
    if list(cfg.INPUT.SIZE_TRAIN) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"INPUT.SIZE_TRAIN {list(cfg.INPUT.SIZE_TRAIN)} and SIZE_TEST {list(cfg.INPUT.SIZE_TEST)} differ; "
            "a vision transformer has one position table: set both alike"
        )


def _check_side_table(cfg, path: str, rows: int, num_cameras: int, num_views: int) -> None:
    expected = (num_cameras if cfg.MODEL.SIE_CAMERA else 1) * (num_views if cfg.MODEL.SIE_VIEW else 1)
    if not (cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW):
        raise UserError(
            f"checkpoint {path}: holds a side information embedding of {rows} rows, but MODEL.SIE_CAMERA and "
            "MODEL.SIE_VIEW are False; set the one it was trained with to True"
        )
    if rows != expected:
        raise UserError(
            f"checkpoint {path}: side information for {rows} camera/viewpoint combinations, but the data set has "
            f"{expected}; test on the data set that the file was trained on"
        )
