"""Models from a configuration: for training a stage, and for testing a checkpoint file."""

import logging

from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.jigsaw import JigsawReID, JigsawSettings
from model.reid import ReIDModel, TransformerReID
from model.resnet import ResNetReID, ResNetTrunk
from model.training import set_up_training
from model.vit import TransReIDViT, grid_of
from model.vit_sizes import ViTSize, vit_size
from model.weights.pixel_stats import pixels_of_file
from model.weights.released import config_of_file, mean_side_row
from model.weights.stored_config import stored_config
from model.weights.strict import load_strictly
from utils.checkpoints import check_is_file, load_checkpoint
from utils.errors import UserError
from utils.stages import current_stage
from utils.state_dicts import model_state, num_rows

logger = logging.getLogger(__name__)


def make_model(cfg, *, num_classes: int, num_cameras: int, num_views: int) -> ReIDModel | CFAT:
    """Model of cfg.CFAT.STAGE (the last of cfg.CFAT.STAGES where it is empty), with random weights.

    Stages clean and corrupted train a ReIDModel, bridge and align a CFAT; `load_initial_weights` loads what they start from.

    Raises:
        UserError: an unknown backbone, or settings that do not go together.
    """
    stage = current_stage(cfg)
    counts = {"num_classes": num_classes, "num_cameras": num_cameras, "num_views": num_views}
    if stage.trains == "model":
        model = _make_reid(cfg, **counts, train_view=stage.views[0])
        return set_up_training(cfg, model)
    student, teacher = _make_reid(cfg, **counts), _make_reid(cfg, **counts)
    bridge = BridgeVAE(
        student.embed_dim,
        hidden_dim=cfg.CFAT.FINE.HIDDEN_DIM,
        latent_dim=cfg.CFAT.FINE.LATENT_DIM,
        bridge_t=cfg.CFAT.FINE.BRIDGE_T,
        noise=cfg.CFAT.FINE.NOISE,
        released=cfg.CFAT.FINE.RELEASED,
    )
    model = CFAT(student, teacher, bridge, student_views=cfg.CFAT.STUDENT_VIEWS, freeze_student=stage.trains == "bridge")
    return set_up_training(cfg, model)


def check_weight(path: str) -> None:
    """Raises UserError where no checkpoint is given or there is no such file; for before the data are read."""
    if not path:
        raise UserError(
            "TEST.WEIGHT is empty: give the checkpoint to test, e.g. TEST.WEIGHT logs/demo/checkpoints/align.pth"
        )
    check_is_file(path)


def load_model(cfg, path: str, *, num_cameras: int, num_views: int) -> ReIDModel:
    """The model in the checkpoint `path`, ready to extract test features.

    What it is made of is read from the file, whatever the configuration says (one log line tells where they disagree);
    the picture size is the configuration's, and must fit. The identity classifiers are left out: no test feature needs
    them. With MODEL.SIE_CAMERA and SIE_VIEW False, a file with side information gets the mean of its vectors for every
    picture.

    Raises:
        UserError: no file given or found; no re-identification model in it; another data set's side information.
    """
    check_weight(path)
    content = load_checkpoint(path)
    state = model_state(content, path, entry=cfg.MODEL.CHECKPOINT_ENTRY)
    file_cfg = config_of_file(cfg, stored_config(content, path), state, path)
    state = pixels_of_file(cfg, state, path)
    classifiers = tuple(name for name in state if name.startswith("classifier"))
    state = {name: value for name, value in state.items() if name not in classifiers}
    table = state.get("base.sie_embed")
    if table is not None and not num_rows(table):
        raise UserError(f"checkpoint {path}: base.sie_embed has no rows; the file is broken, fetch it anew")
    if table is not None and not (file_cfg.MODEL.SIE_CAMERA or file_cfg.MODEL.SIE_VIEW):
        state["base.sie_embed"] = mean_side_row(table)
        logger.warning(
            "checkpoint %s: MODEL.SIE_CAMERA and SIE_VIEW are False, so every picture gets the mean of the file's %d "
            "side vectors%s", path, len(table), _fitting_sides(len(table), num_cameras, num_views),
        )  # fmt: skip
    elif table is not None:
        _check_side_table(file_cfg, path, len(table), num_cameras, num_views)
    model = _make_reid(
        file_cfg,
        num_classes=0,
        num_cameras=num_cameras,
        num_views=num_views,
        mean_side=table is not None,
    )
    load_strictly(model, state, source=f"checkpoint {path}", optional=("normalize.",), left_out=classifiers)
    return model.eval()


def check_backbone(cfg) -> None:
    """Makes sure that the backbone of cfg can be built, and has what the test asks of it.

    Raises:
        UserError: an unknown name, or settings that do not go together.
    """
    if cfg.MODEL.NAME == "transformer":
        _check_transformer(cfg, vit_size(cfg.MODEL.TRANSFORMER_TYPE))
    elif cfg.MODEL.JPM:
        raise UserError("MODEL.JPM True: the jigsaw patch module needs patches; set MODEL.NAME to transformer")
    elif cfg.TEST.ATTENTION_QUERIES:
        raise UserError(
            f"TEST.ATTENTION_QUERIES {cfg.TEST.ATTENTION_QUERIES}: attention maps are those of a vision transformer, "
            "and this model is a ResNet-50; set TEST.ATTENTION_QUERIES to 0"
        )


def _make_reid(
    cfg, *, num_classes: int, num_cameras: int, num_views: int, train_view: str = "images", mean_side: bool = False
) -> ReIDModel:
    """The model that cfg describes; `mean_side`: with one side vector where cfg has neither cameras nor viewpoints."""
    check_backbone(cfg)
    test_feature = cfg.TEST.FEATURE
    if test_feature == "patch_mean" and (cfg.MODEL.NAME == "resnet50" or cfg.MODEL.JPM):
        test_feature = "class_token"
        logger.warning(
            "TEST.FEATURE patch_mean: %s has none; its feature before the neck is used (TEST.FEATURE class_token)",
            "ResNet-50" if cfg.MODEL.NAME == "resnet50" else "a model with JPM",
        )
    options = {
        "num_classes": num_classes,
        "mean": tuple(cfg.INPUT.PIXEL_MEAN),
        "std": tuple(cfg.INPUT.PIXEL_STD),
        "test_feature": test_feature,
        "feat_norm": cfg.TEST.FEAT_NORM,
        "train_view": train_view,
        "cosine_classifier": cfg.MODEL.ID_LOSS_TYPE != "softmax",
    }
    if cfg.MODEL.NAME == "resnet50":
        trunk = ResNetTrunk(
            last_stride=cfg.MODEL.LAST_STRIDE, stem_relu=cfg.MODEL.STEM_RELU, stem_pool=cfg.MODEL.STEM_POOL
        )
        return ResNetReID(trunk, gem_pool=cfg.MODEL.GEM_POOL, **options)
    sides = cfg.MODEL.SIE_CAMERA or cfg.MODEL.SIE_VIEW
    base = TransReIDViT(
        tuple(cfg.INPUT.SIZE_TEST),
        vit_size(cfg.MODEL.TRANSFORMER_TYPE),
        stride=tuple(cfg.MODEL.STRIDE_SIZE),
        num_cameras=num_cameras if cfg.MODEL.SIE_CAMERA else int(mean_side and not sides),
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


def _check_transformer(cfg, size: ViTSize) -> None:
    if list(cfg.INPUT.SIZE_TRAIN) != list(cfg.INPUT.SIZE_TEST):
        raise UserError(
            f"INPUT.SIZE_TRAIN {list(cfg.INPUT.SIZE_TRAIN)} and SIZE_TEST {list(cfg.INPUT.SIZE_TEST)} differ; "
            "a vision transformer has one position table: set both alike"
        )
    if min(cfg.INPUT.SIZE_TEST) < size.patch_size:
        raise UserError(
            f"INPUT.SIZE_TEST {list(cfg.INPUT.SIZE_TEST)}: smaller than a patch of {cfg.MODEL.TRANSFORMER_TYPE}, "
            f"{size.patch_size} x {size.patch_size} pixels"
        )
    if max(cfg.MODEL.STRIDE_SIZE) > size.patch_size:
        raise UserError(
            f"MODEL.STRIDE_SIZE {list(cfg.MODEL.STRIDE_SIZE)}: expected at most {size.patch_size}, the patch size of "
            f"{cfg.MODEL.TRANSFORMER_TYPE}; pixels between the patches would never be seen"
        )
    rows, columns = grid_of(tuple(cfg.INPUT.SIZE_TEST), size.patch_size, tuple(cfg.MODEL.STRIDE_SIZE))
    patches = rows * columns
    if cfg.MODEL.JPM and patches < cfg.MODEL.DEVIDE_LENGTH:
        raise UserError(
            f"MODEL.DEVIDE_LENGTH {cfg.MODEL.DEVIDE_LENGTH}: a picture of {list(cfg.INPUT.SIZE_TEST)} has only "
            f"{patches} patches to divide"
        )


def _check_side_table(cfg, path: str, rows: int, num_cameras: int, num_views: int) -> None:
    expected = (num_cameras if cfg.MODEL.SIE_CAMERA else 1) * (num_views if cfg.MODEL.SIE_VIEW else 1)
    if rows != expected:
        raise UserError(
            f"checkpoint {path}: side information for {rows} camera/viewpoint combinations, but the data set has "
            f"{expected}{_fitting_sides(rows, num_cameras, num_views)}; test on the data set that the file was trained "
            "on, or set MODEL.SIE_CAMERA and SIE_VIEW to False: every picture then gets the mean of the file's vectors"
        )


def _fitting_sides(rows: int, num_cameras: int, num_views: int) -> str:
    """Which sides of the data set would make a table of that many rows, for a message; empty where none does."""
    sizes = {
        "MODEL.SIE_CAMERA True": num_cameras,
        "MODEL.SIE_VIEW True": num_views,
        "MODEL.SIE_CAMERA True and SIE_VIEW True": num_cameras * num_views,
    }
    fitting = next((keys for keys, size in sizes.items() if size == rows), "")
    return f"; {fitting} would fit, if that is how it was trained" if fitting else ""
