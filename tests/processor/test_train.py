"""Training a stage: what learns, what is written, what ends it."""

import math

import pytest
import torch

from corruption import PROTOCOLS
from datasets.samplers import RandomBatchSampler
from processor import do_train
from processor.batches import to_device
from processor.history import read_history
from processor.step import TrainStep
from tests.processor.small_run import CPU, build, make_cfg, make_data
from utils.checkpoints import load_checkpoint
from utils.errors import UserError


@pytest.mark.parametrize("stage", ["clean", "corrupted", "align", "bridge"])
def test_steps_change_what_is_trainable_and_lower_the_loss(tmp_path, stage):
    data, _ = make_data()
    model, loss_fn, optimizer, _ = build(make_cfg(tmp_path, "CFAT.STAGE", stage), data)
    batch = to_device(next(iter(data.train)), CPU)
    assert batch["images"].max() <= 1
    before = {name: value.clone() for name, value in model.named_parameters()}
    model.train()
    step = TrainStep(model, loss_fn, optimizer, device=CPU)
    losses = [step(batch)["loss"].item() for _ in range(12)]
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        # cameras of this batch only, and nothing that is frozen
        assert torch.equal(before[name], parameter) != parameter.requires_grad or "sie_embed" in name, name


def test_training_writes_checkpoints_history_and_tensorboard(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path, "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.EVAL_PERIOD", "3")
    state = do_train(cfg, data, *build(cfg, data), device=CPU, protocols=(PROTOCOLS["clean"],))
    assert state.epoch == 3
    collapse = {"cosine_same", "cosine_different", "mean_direction"}
    logged = {
        "loss",
        "id_loss",
        "triplet_loss",
        "grad_norm",
        "accuracy",
        *collapse,
        *(f"neck_{key}" for key in collapse),
    }
    assert [set(row) for row in state.history] == [{"lr", *logged}] * 3
    (history,) = read_history(tmp_path).values()
    assert history["epochs"] == [{"epoch": epoch, **row} for epoch, row in enumerate(state.history, start=1)]
    assert history["evaluations"] == state.evaluations
    assert [row["epoch"] for row in state.evaluations] == [3]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [
        "clean.pth",
        "clean_2.pth",
        "clean_best.pth",
    ]
    content = load_checkpoint(state.checkpoint)
    assert content["meta"]["stage"] == "clean"
    assert (content["meta"]["epoch"], content["meta"]["num_classes"]) == (3, 4)
    assert "CFAT" in content["meta"]["config"]
    assert list((tmp_path / "tensorboard" / "clean").iterdir())


def test_training_is_deterministic(tmp_path):
    states = []
    for run in ("a", "b"):
        data, _ = make_data()
        cfg = make_cfg(tmp_path / run)
        parts = build(cfg, data)
        do_train(cfg, data, *parts, device=CPU)
        states.append(parts[0].state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_loss_that_is_not_finite_ends_training_with_its_terms(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path)
    model, loss_fn, optimizer, scheduler = build(cfg, data)
    model.classifier.weight.data.fill_(math.nan)
    with pytest.raises(
        UserError, match=r"stage clean, epoch 1, step 1: the loss is not finite \(loss nan, id_loss nan"
    ) as error:
        do_train(cfg, data, model, loss_fn, optimizer, scheduler, device=CPU)
    assert "Lower SOLVER.BASE_LR, raise SOLVER.WARMUP_EPOCHS" in str(error.value)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    saved = torch.load(tmp_path / "not_finite_clean_epoch1_step1.pth", weights_only=True)
    assert (saved["epoch"], saved["step"], len(saved["batch"]["paths"])) == (0, 0, 6)
    first = next(iter(make_data()[0].train))
    assert saved["batch"]["paths"] == first["paths"]
    assert torch.equal(saved["batch"]["images"], first["images"])


class UnevenSampler(RandomBatchSampler):
    """Epochs of different lengths, as identities with many images cause them."""

    def sample_batches(self, rng):
        return super().sample_batches(rng)[: 1 + (self.epoch + 1) % 2]


def test_epochs_of_different_lengths(tmp_path):
    data, _ = make_data()
    data.train.batch_sampler = UnevenSampler(12, 6, 0)
    cfg = make_cfg(tmp_path)
    state = do_train(cfg, data, *build(cfg, data), device=CPU)
    assert (state.epoch, state.updates) == (3, 2 + 1 + 2)
