"""Models from a configuration, with random weights."""

from functools import partial

from yacs.config import CfgNode

from model.bridge import BridgeVAE
from model.cfat import CFAT
from model.check import check
from model.make_reid import make_reid
from model.reid import ReIDModel
from model.training import set_up_training
from utils.stages import current_stage


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
    if stage.trains == "student" and not any(
        (cfg.CFAT.FINE.IDENTITY_WEIGHT, cfg.CFAT.FINE.KL_WEIGHT, cfg.CFAT.FINE.RECONSTRUCTION_WEIGHT)
    ):
        bridge.requires_grad_(False)  # no term trains it
    model = CFAT(
        student,
        teacher,
        bridge,
        student_views=cfg.CFAT.STUDENT_VIEWS,
        freeze_student=stage.trains == "bridge",
        teacher_decay=cfg.CFAT.TEACHER_DECAY if stage.trains == "student" else 1.0,
        align_on=cfg.CFAT.ALIGN_ON,
    )
    return set_up_training(cfg, model)
