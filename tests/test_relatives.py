"""train.py and test.py from a person-pretrained file, whose structure the configuration does not name."""

import json
import logging

import pytest
import torch

from config import load_cfg
from datasets.synthetic.generate import SyntheticSettings, synthesize
from model.part_tokens import PartTokenViT
from model.vit_sizes import vit_size
from test import main as run_test
from train import main as run_train

SETTINGS = {
    "MODEL.PRETRAIN_PATH": "pretrained.pth",
    "MODEL.TRANSFORMER_TYPE": "test_vit",
    "MODEL.SIE_CAMERA": False,
    "MODEL.DEVICE": "cpu",
    "INPUT.SIZE_TRAIN": [64, 32],
    "INPUT.SIZE_TEST": [64, 32],
    "DATASETS.ROOT_DIR": "data",
    "DATASETS.CHECK_COUNTS": False,
    "DATALOADER.NUM_INSTANCE": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_EPOCHS": 1,
    "SOLVER.WARMUP_EPOCHS": 0,
    "TEST.PROTOCOLS": ["clean"],
    "TEST.FEATURE": "neck",
    "OUTPUT_DIR": "run",
}
OPTS = [str(part) for pair in SETTINGS.items() for part in pair]

pytestmark = pytest.mark.usefixtures("restored_logging")


def test_all_stages_from_part_tokens(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    synthesize("data/market1501", SyntheticSettings(num_identities=8, num_cameras=3, images_per_camera=2), workers=1)
    backbone = PartTokenViT((64, 32), vit_size("test_vit"))
    teacher = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    torch.save({"student": {}, "teacher": teacher, "epoch": 100}, "pretrained.pth")
    with caplog.at_level(logging.WARNING):
        run_train(OPTS)
    assert "MODEL.PRETRAIN_PATH pretrained.pth decides: MODEL.PART_TOKENS True (configured False)" in caplog.text
    assert load_cfg("run/config.yml").MODEL.PART_TOKENS is True
    trained = json.loads((tmp_path / "run/results.json").read_text())["protocols"]["clean"]
    run_test(["TEST.WEIGHT", "run/checkpoints/align.pth", *OPTS, "OUTPUT_DIR", "tested", "MODEL.PRETRAIN_PATH", ""])
    tested = json.loads((tmp_path / "tested/results.json").read_text())["protocols"]["clean"]
    assert tested == trained
