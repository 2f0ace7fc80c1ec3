"""Every experiment in configs/ builds its model, loss and optimizer; those of released files load them."""

import logging

import pytest
import torch

from config import load_cfg, stage_cfg
from loss import make_loss
from model import load_model, make_model
from model.heads import CosineClassifier
from model.jigsaw import JigsawSettings
from solver import make_optimizer, make_scheduler
from tests.helpers import REPOSITORY
from tests.model.weights.test_load_model import MODELS, random_state

EXPERIMENTS = sorted(
    str(path.relative_to(REPOSITORY))
    for path in (REPOSITORY / "configs").rglob("*.yml")
    if path.parent.name != "base" and path.name != "ablation.yml"
)
COUNTS = {"num_classes": 10, "num_cameras": 6, "num_views": 1}
DATASETS = {
    "Market": ("market1501",),
    "MSMT17": ("msmt17",),
    "CUHK03": ("cuhk03",),
    "DukeMTMC": ("dukemtmc",),
    "OCC_Duke": ("occluded_duke",),
    "VeRi": ("veri",),
    "VehicleID": ("vehicleid",),
    "Synthetic": ("synthetic",),
    "Own": ("folder", "csv"),
}


def test_every_model_has_its_file_for_every_data_set():
    models = ("cfat", "vit_base", "vit_transreid", "vit_transreid_stride", "deit_small", "resnet50")
    wanted = {f"configs/{folder}/{name}.yml" for folder in ("Market", "MSMT17", "CUHK03") for name in models}
    assert wanted <= set(EXPERIMENTS)


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_builds(path):
    cfg = load_cfg(str(REPOSITORY / path))
    assert set(cfg.DATASETS.NAMES) <= set(DATASETS[path.split("/")[1]])
    for stage in cfg.CFAT.STAGES:
        staged = stage_cfg(cfg, stage)
        with torch.device("meta"):  # every layer, without filling them with numbers
            model = make_model(staged, **COUNTS)
            loss_fn = make_loss(staged, num_classes=10, feat_dim=model.embed_dim)
        make_scheduler(staged, make_optimizer(staged, model, loss_fn))
        # nothing about test features had to be put right
        assert getattr(model, "student", model).test_feature == cfg.TEST.FEATURE


def built(*opts):
    with torch.device("meta"):
        return make_model(load_cfg(opts=["CFAT.STAGE", "clean", "TEST.FEATURE", "class_token", *opts]), **COUNTS)


def test_every_setting_reaches_the_model():
    vit = built(
        *("MODEL.SIE_COE", "1.5", "MODEL.DROP_OUT", "0.1", "MODEL.ATT_DROP_RATE", "0.2", "MODEL.DROP_PATH", "0.3"),
        *("MODEL.JPM", "True", "MODEL.RE_ARRANGE", "False", "MODEL.SHIFT_NUM", "3", "MODEL.SHUFFLE_GROUP", "4"),
        *("MODEL.DEVIDE_LENGTH", "2", "TEST.FEAT_NORM", "False", "MODEL.STRIDE_SIZE", "[16, 8]"),
    )
    assert vit.base.sie_coefficient == 1.5
    assert vit.base.patch_embed.grid_size == (16, 15)
    attention = vit.base.blocks[-1].attn
    drops = (vit.base.pos_drop.p, attention.proj_drop.p, attention.attn_drop.p, vit.b2[0].drop_path1.drop_prob)
    assert drops == (0.1, 0.1, 0.2, 0.3)
    assert vit.settings == JigsawSettings(rearrange=False, shift=3, groups=4, parts=2)
    assert not vit.feat_norm
    resnet = built("MODEL.NAME", "resnet50", "MODEL.LAST_STRIDE", "2", "MODEL.STEM_RELU", "True")
    assert resnet.base.layer4[0].conv2.stride == resnet.base.layer4[0].downsample[0].stride == (2, 2)
    assert resnet.base.stem_relu
    assert resnet.feat_norm
    assert type(resnet.classifier) is not CosineClassifier
    assert type(built("MODEL.ID_LOSS_TYPE", "circle").classifier) is CosineClassifier


def test_classifiers_are_initialised_as_in_transreid():
    torch.manual_seed(0)
    spread = {}
    for kind in ("softmax", "arcface"):
        opts = ["CFAT.STAGE", "clean", "MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_128_TransReID", "MODEL.ID_LOSS_TYPE"]
        model = make_model(load_cfg(opts=[*opts, kind]), num_classes=300, num_cameras=1, num_views=1)
        spread[kind] = model.classifier.weight.std().item()
    assert spread["softmax"] == pytest.approx(0.001, rel=0.05)
    assert spread["arcface"] == pytest.approx((2 / (300 + 192)) ** 0.5, rel=0.05)  # Xavier's


RELEASED = dict(
    zip(MODELS, ("vit_base", "vit_transreid_stride", "deit_small", "vit_small", "cfat", "resnet50"), strict=True)
)


@pytest.mark.parametrize("name", MODELS)
def test_the_experiment_of_a_released_file_agrees_with_it(name, tmp_path, caplog):
    torch.save(random_state(name), tmp_path / "released.pth")
    cfg = load_cfg(str(REPOSITORY / f"configs/Market/{RELEASED[name]}.yml"))
    with caplog.at_level(logging.INFO):
        load_model(cfg, str(tmp_path / "released.pth"), num_cameras=6, num_views=1)
    assert "not the configured one" not in caplog.text
    assert "751 classes" in caplog.text
