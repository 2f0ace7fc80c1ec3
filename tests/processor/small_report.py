"""The report of a small test: rendered images, a matrix of two types, a history, and a model that looks somewhere."""

import dataclasses

import torch

from config import get_defaults
from corruption import PROTOCOLS, make_corruption_set, make_matrix, make_test_policy
from processor import do_test
from processor.history import write_history
from processor.report import About
from tests.processor.small_run import CPU, MeanColour, make_cfg, make_data
from utils.files import write_text
from utils.structures import TrainState

OPTS = (
    *("TEST.MATRIX", "corrupted_query", "TEST.REPEATS", "2"),
    *(
        "CORRUPTION.TRAIN",
        "['fog']",
        "CORRUPTION.TEST",
        "['fog', 'rain', 'pixelate']",
        "CORRUPTION.SEVERITIES",
        "[1, 4]",
    ),
)
COMMAND = """python train.py --config_file configs/a.yml TEST.PROTOCOLS "['clean']" OUTPUT_DIR 'a & <b>'"""
SAMPLED = (("fog", 1), ("pixelate", 4), ("rain", 4), ("fog", 4))


class Looking(MeanColour):
    """Attention that falls from the first patch to the last."""

    def attend(self, images, camids, viewids):
        return torch.softmax(images.mean(dim=(1, 2, 3))[:, None, None] * torch.arange(4.0, 0, -1).view(1, 2, 2), 2)


def small_data(cfg):
    """Data of small_run that tells its corruptions."""
    data, _ = make_data()

    def test_corruptions(split, condition, repeat):
        images = range(len(getattr(data.splits, split)))
        return [None if condition.is_clean else SAMPLED[(index + repeat) % len(SAMPLED)] for index in images]

    corruptions = make_corruption_set(cfg, make_test_policy(cfg))
    return dataclasses.replace(data, corruptions=corruptions, test_corruptions=test_corruptions)


def write_small_report(directory, *opts, model=None, protocols=("clean", "corrupted", "corrupted_query")):
    """Tests and returns the content of results.json; report.html lies in `directory`."""
    cfg = make_cfg(directory, *OPTS, *opts)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / "config.yml", cfg.dump())
    rows = [{"lr": 0.1 / epoch, "loss": 3.0 / epoch, "id_loss": 2.0 / epoch, "grad_norm": 1.0} for epoch in (1, 2, 3)]
    evaluations = [{"epoch": 2, "clean": 0.4}, {"epoch": 3, "clean": 0.5}]
    state = TrainState("clean", history=[{**row, "accuracy": 0.5} for row in rows], evaluations=evaluations)
    write_history(directory, state, ([0, 1, 2], [0.1, 0.05, 0.03]))
    return do_test(
        cfg,
        small_data(cfg),
        model or Looking(),
        tuple(PROTOCOLS[name] for name in protocols),
        device=CPU,
        weight="checkpoints/<i>clean</i>.pth",
        matrix=make_matrix(cfg),
        about=About(COMMAND, get_defaults().dump()),
    )
