"""Every hostile state and meta ends in one UserError, at once; nothing on disk changes."""

import time

import pytest
import torch
from torch import nn

from processor import do_train
from processor.resume import can_resume
from processor.train import StageTrainer
from processor.train_state import GlobalRNGs, load_state, save_state
from solver import make_scheduler
from tests.hostile.states import broken_metas, broken_states
from tests.processor.small_run import CPU, build, make_cfg, make_data
from utils.errors import UserError
from utils.stage_identity import StageIdentity, settings_of_stage
from utils.structures import TrainState

SECONDS = 5.0


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The parts of a small stage, and the content of a state that it left."""
    directory = tmp_path_factory.mktemp("stage")
    cfg = make_cfg(directory, "SOLVER.RESUME", "auto")
    model, loss = nn.Linear(4, 3), nn.Linear(3, 2)
    optimizer = torch.optim.AdamW([*model.parameters(), *loss.parameters()])
    loss(model(torch.ones(2, 4))).sum().backward()
    optimizer.step()
    parts = {
        "model": model,
        "loss": loss,
        "optimizer": optimizer,
        "scheduler": make_scheduler(cfg, optimizer),
        "scaler": torch.amp.GradScaler("cpu", enabled=False),
        "generators": GlobalRNGs(CPU),
    }
    state = TrainState("clean", epoch=2, step=1, updates=5, history=[{"loss": 1.0}, {"loss": 0.5}])
    identity = StageIdentity("clean", settings_of_stage(cfg), {"images": 12, "sha256": "a"}, {})
    meta = {"identity": identity.describe(), "config": cfg.dump(), "versions": {}}
    save_state(directory / "clean_last.pth", parts, state, {"loss": torch.tensor(1.5)}, meta)
    load_state(directory / "clean_last.pth", parts, TrainState("clean"), epochs=3)
    assert can_resume(cfg, directory / "clean_last.pth", identity)
    return cfg, parts, identity, torch.load(directory / "clean_last.pth", weights_only=True)


def refused(path, content, read):
    """The message that reading `content` ends in."""
    torch.save(content, path)
    before, started = path.read_bytes(), time.monotonic()
    with pytest.raises(UserError) as raised:
        read()
    assert time.monotonic() - started < SECONDS
    assert path.read_bytes() == before
    text = str(raised.value)
    assert path.name in text
    assert len(text) < 1500
    return text


def refused_all(path, changes, read):
    """The messages of all, by name; each change must be refused."""
    texts = {}
    for name, content in changes:
        try:
            texts[name] = refused(path, content, read)
        except pytest.fail.Exception:
            raise AssertionError(f"{name}: was accepted") from None
    return texts


@pytest.mark.parametrize("seed", [0, 1])
def test_states(stage, tmp_path, seed):
    _, parts, _, content = stage
    path = tmp_path / "clean_last.pth"
    changes = broken_states(content, seed)
    texts = refused_all(path, changes, lambda: load_state(path, parts, TrainState("clean"), epochs=3))
    assert [name for name, text in texts.items() if "not the state of this stage" not in text] == []
    assert len(texts) > 60


@pytest.mark.parametrize("seed", [0, 1])
def test_metas(stage, tmp_path, seed):
    cfg, _, identity, content = stage
    path = tmp_path / "clean.pth"
    texts = refused_all(path, broken_metas(content, seed), lambda: can_resume(cfg, path, identity))
    assert len(texts) > 25


@pytest.mark.parametrize(("name", "value"), [("epoch", 10**9), ("step", 10**9)])
def test_a_run_ends_at_once(tmp_path, name, value):
    cfg, (data, _) = make_cfg(tmp_path, "SOLVER.RESUME", "auto"), make_data()
    parts = build(cfg, data)
    trainer = StageTrainer(cfg, data, *parts, device=CPU)
    trainer.last.parent.mkdir()
    trainer._save_state()
    content = torch.load(trainer.last, weights_only=True)
    content["training"]["progress"][name] = value
    text = refused(trainer.last, content, lambda: do_train(cfg, data, *parts, device=CPU))
    assert "not the state of this stage" in text
    assert name in text
