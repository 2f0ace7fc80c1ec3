"""All stages of CFAT, and the test, through train.py with small models of timm: tokens, a map, a map that is NHWC."""

import json

import pytest

import tests.tiny_timm  # noqa: F401
import train
from datasets.synthetic.generate import SyntheticSettings, synthesize
from utils.checkpoints import load_checkpoint

SETTINGS = {
    "MODEL.NAME": "timm",
    "MODEL.PRETRAIN_PATH": "",
    "MODEL.DEVICE": "cpu",
    "DATASETS.CHECK_COUNTS": False,
    "DATALOADER.NUM_INSTANCE": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.OPTIMIZER_NAME": "AdamW",
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_EPOCHS": 1,
    "SOLVER.EMA_DECAY": 0.9,
    "SOLVER.LAYER_DECAY": 0.8,
    "CFAT.COSINE.PATCH_WEIGHT": 0.5,
    "TEST.PROTOCOLS": ["clean"],
    "TEST.RANKED_QUERIES": 0,
}
# name -> image size, side information, a parameter of its first and of its last layer
MODELS = {
    "tiny_dinov2": ([56, 28], True, "cls_token", "blocks.1.ls2.gamma"),
    "test_convnext": ([64, 32], False, "stem.0.weight", "head.norm.weight"),
    "tiny_swin": ([64, 32], False, "patch_embed.proj.weight", "norm.weight"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    synthesize(root / "market1501", SyntheticSettings(num_identities=12, num_cameras=3, images_per_camera=2), workers=1)
    return root


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_trains(name, root, tmp_path):
    size, sides, *parameters = MODELS[name]
    settings = {
        **SETTINGS,
        "DATASETS.ROOT_DIR": root,
        "OUTPUT_DIR": tmp_path,
        "MODEL.TRANSFORMER_TYPE": name,
        "MODEL.SIE_CAMERA": sides,
        "INPUT.SIZE_TRAIN": size,
        "INPUT.SIZE_TEST": size,
    }
    train.main([str(part) for pair in settings.items() for part in pair])
    states = {
        stage: load_checkpoint(tmp_path / "checkpoints" / f"{stage}.pth")["model"]
        for stage in ("clean", "corrupted", "bridge", "align")
    }
    for parameter in (f"base.{parameter}" for parameter in parameters):
        values = [state[parameter] for state in states.values()]
        assert all(value.isfinite().all() for value in values)
        assert values[2].equal(values[1])  # stage bridge leaves the student as it is
        assert not any(values[1].equal(other) for other in (values[0], values[3]))
    assert 0 < json.loads((tmp_path / "results.json").read_text())["protocols"]["clean"]["mAP"]["mean"] <= 1
