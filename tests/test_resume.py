"""Runs that are killed, interrupted, or cannot write, and resumed with SOLVER.RESUME auto."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from datasets.synthetic.generate import SyntheticSettings, synthesize
from tests import commands
from utils.checkpoints import load_checkpoint

SETTINGS = {
    "MODEL.PRETRAIN_PATH": "",
    "MODEL.DROP_PATH": 0.1,
    "MODEL.DEVICE": "cpu",
    "MODEL.IF_WITH_CENTER": True,
    "MODEL.TRANSFORMER_TYPE": "vit_tiny_patch16_128_TransReID",
    "INPUT.SIZE_TRAIN": [32, 32],
    "INPUT.SIZE_TEST": [32, 32],
    "INPUT.AUGMIX": True,
    "DATASETS.CHECK_COUNTS": False,
    "DATALOADER.NUM_INSTANCE": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_EPOCHS": 3,
    "SOLVER.OPTIMIZER_NAME": "AdamW",
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.EMA_DECAY": 0.9,
    "SOLVER.CENTER_LR": 0.01,
    "TEST.REPEATS": 1,
    "TEST.PROTOCOLS": ["clean"],
}
STEPS = 12  # of an epoch, at most


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    synthesize(root / "market1501", SyntheticSettings(num_identities=24, num_cameras=3, images_per_camera=3), workers=1)
    return root


class Run:
    """`python train.py` into a directory, its output in a file."""

    def __init__(self, root: Path, out: Path, *opts: str, max_file_bytes: int | None = None) -> None:
        settings = {**SETTINGS, "DATASETS.ROOT_DIR": root, "OUTPUT_DIR": out}
        flat = [str(part) for pair in settings.items() for part in pair]
        out.mkdir(exist_ok=True)
        self.out, self.log = out, out.with_suffix(f".{time.monotonic_ns()}.log")
        self.log.touch()
        self.process = commands.Command(
            "train.py", *flat, *opts, stdout=self.log, stderr=self.log, max_file_bytes=max_file_bytes
        )

    def wait_for(self, text: str) -> "Run":
        return self.wait_until(lambda: text in self.log.read_text())

    def wait_until(self, happened) -> "Run":
        deadline = time.monotonic() + 120
        while not happened():
            assert self.process.returncode is None, f"ended before it happened:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.001)
        return self

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(timeout=240)


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Of every stage, by stage and name."""
    return {
        f"{path.stem}.{part}.{name}": value
        for path in sorted((out / "checkpoints").glob("*.pth"))
        for part, state in load_checkpoint(path).items()
        if part != "meta"
        for name, value in state.items()
    }


def check_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []


@pytest.fixture(scope="module")
def expected(root, tmp_path_factory):
    """The directory of a run that nothing interrupted."""
    run = Run(root, tmp_path_factory.mktemp("runs") / "whole", "DATALOADER.NUM_WORKERS", "2")
    assert run.end() == 0, run.log.read_text()
    return run.out


def test_a_run_killed_again_and_again_ends_with_the_same_bits(root, expected, tmp_path):
    out = tmp_path / "killed"
    checkpoints = out / "checkpoints"

    def writing(name: str) -> bool:
        return checkpoints.is_dir() and any(path.startswith(f".{name}") for path in os.listdir(checkpoints))

    def resume(*opts: str) -> Run:
        return Run(root, out, "SOLVER.RESUME", "auto", *opts)

    Run(root, out).wait_for("stage clean: 3 epochs").end(signal.SIGKILL)  # before anything is on disk
    resume().wait_until(lambda: writing("clean_last")).end(signal.SIGKILL)  # the first state half written
    resume("DATALOADER.NUM_WORKERS", "1").wait_for(" clean 2/3: ").end(signal.SIGKILL)
    resume().wait_for("stage clean: done").end(signal.SIGKILL)  # between stages
    resume().wait_for(" bridge 1/3: ").end(signal.SIGKILL)
    resume().wait_until(lambda: writing("align.pth")).end(signal.SIGKILL)  # what is to be tested half written
    run = resume("DATALOADER.NUM_WORKERS", "2")
    assert run.end() == 0, run.log.read_text()
    log = run.log.read_text()
    assert "stage clean: finished by an earlier run" in log
    assert "stage align: resumed from" in log
    assert sorted(os.listdir(checkpoints)) == sorted(
        os.listdir(expected / "checkpoints")
    )  # nothing half written is left
    check_equal(weights(out), weights(expected))
    results = [json.loads((directory / "results.json").read_text())["protocols"] for directory in (out, expected)]
    assert results[0] == results[1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_saves_its_state_first(root, expected, tmp_path, number, status):
    out = tmp_path / "stopped"
    last = out / "checkpoints" / "clean_last.pth"
    run = Run(root, out, "CFAT.STAGES", "['clean']", "DATALOADER.NUM_WORKERS", "1").wait_until(last.exists)
    time.sleep(0.15)  # into the second epoch
    assert run.end(number) == status, run.log.read_text()
    progress = load_checkpoint(last)["training"]["progress"]
    assert 0 < progress["updates"] < 3 * STEPS
    message = f"interrupted; the state after {progress['epoch']} epochs and {progress['step']} steps is in {last}"
    assert message in run.log.read_text()
    assert "Traceback" not in run.log.read_text()
    resumed = Run(root, out, "CFAT.STAGES", "['clean']", "SOLVER.RESUME", "auto")
    assert resumed.end() == 0, resumed.log.read_text()
    check_equal(weights(out), {name: value for name, value in weights(expected).items() if name.startswith("clean.")})


@pytest.fixture(scope="module")
def half(root, tmp_path_factory):
    """The directory of a run of stage clean that was killed in its second epoch or later."""
    run = Run(root, tmp_path_factory.mktemp("half") / "run", "CFAT.STAGES", "['clean']")
    run.wait_for(" clean 2/3: ").end(signal.SIGKILL)
    return run.out


def test_states_that_do_not_fit_are_errors(root, half, tmp_path):
    out = shutil.copytree(half, tmp_path / "other")
    last = out / "checkpoints" / "clean_last.pth"
    options = ["CFAT.STAGES", "['clean']", "SOLVER.RESUME", "auto"]
    other = Run(root, out, *options, "SOLVER.BASE_LR", "0.002")
    assert other.end() == 1
    text = " ".join(other.log.read_text().split())
    assert "was trained with other settings: SOLVER.BASE_LR 0.001 there, 0.002 here" in text
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # one bit, in a tensor
    last.write_bytes(content)
    damaged = Run(root, out, *options)
    assert damaged.end() == 1
    assert "clean_last.pth: cannot be read" in damaged.log.read_text()
    assert "Traceback" not in damaged.log.read_text()
    assert last.read_bytes() == content


def test_a_full_disk_loses_nothing(root, half, tmp_path):
    out = shutil.copytree(half, tmp_path / "full")
    last = out / "checkpoints" / "clean_last.pth"
    before = last.read_bytes()
    full = Run(root, out, "CFAT.STAGES", "['clean']", "SOLVER.RESUME", "auto", max_file_bytes=len(before) // 4)
    assert full.end() == 1, full.log.read_text()
    assert "could not be written" in full.log.read_text()
    assert "what was there before is not lost" in full.log.read_text()
    assert "Traceback" not in full.log.read_text()
    assert last.read_bytes() == before
    assert [path.name for path in last.parent.iterdir()] == [last.name]
