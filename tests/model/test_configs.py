"""Every experiment in configs/ builds its model, loss and optimizer; those of released files load them."""

import logging

import pytest
import torch

from config import load_cfg, stage_cfg
from loss import make_loss
from model import load_model, make_model
from solver import make_optimizer, make_scheduler
from tests.helpers import REPOSITORY
from tests.model.test_checkpoints import MODELS, random_state

EXPERIMENTS = sorted(
    str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "configs").rglob("*.yml") if path.parent.name != "base"
)
COUNTS = {"num_classes": 10, "num_cameras": 6, "num_views": 1}
DATASETS = {"Market": "market1501", "MSMT17": "msmt17", "CUHK03": "cuhk03", "Synthetic": "synthetic"}


def test_every_family_has_its_file_for_every_data_set():
    families = ("cfat", "vit_base", "vit_transreid", "vit_transreid_stride", "deit_small", "resnet50")
    wanted = {f"configs/{folder}/{name}.yml" for folder in ("Market", "MSMT17", "CUHK03") for name in families}
    assert wanted <= set(EXPERIMENTS)


@pytest.mark.parametrize("path", EXPERIMENTS)
def test_builds(path):
    cfg = load_cfg(str(REPOSITORY / path))
    expected = DATASETS[path.split("/")[1]]
    assert expected == cfg.DATASETS.NAMES
    for stage in cfg.CFAT.STAGES:
        staged = stage_cfg(cfg, stage)
        with torch.device("meta"):  # every layer, without filling them with numbers
            model = make_model(staged, **COUNTS)
            loss_fn = make_loss(staged, num_classes=10, feat_dim=model.embed_dim)
        make_scheduler(staged, make_optimizer(staged, model, loss_fn))
        # nothing about test features had to be put right
        assert getattr(model, "student", model).test_feature == cfg.TEST.FEATURE


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
