"""One update: precision, clipping, overflow, moving averages."""

import copy
import math

import pytest
import torch
from torch import nn

from loss import make_loss
from model import make_ema, make_model
from processor import do_train
from processor.batches import to_device
from processor.step import TrainStep, resolve_amp
from solver import make_optimizer
from tests.processor.small_run import CPU, build, make_cfg, make_data
from utils.checkpoints import load_checkpoint
from utils.seeds import set_global_seeds


@pytest.fixture
def batch():
    return to_device(next(iter(make_data()[0].train)), CPU)


def make(tmp_path, *opts):
    cfg = make_cfg(tmp_path, *opts)
    torch.manual_seed(0)
    model = make_model(cfg, num_classes=4, num_cameras=3, num_views=1).train()
    loss_fn = make_loss(cfg, num_classes=4, feat_dim=model.embed_dim)
    return model, loss_fn, make_optimizer(cfg, model, loss_fn)


class Spy(nn.Module):
    """A loss that keeps the dtypes of its inputs."""

    def __init__(self, loss_fn, factor=1.0):
        super().__init__()
        self.loss_fn, self.factor, self.seen = loss_fn, factor, set()

    def forward(self, output, batch):
        self.seen |= {value.dtype for value in output if isinstance(value, torch.Tensor)}
        if output.bridge is not None:
            self.seen |= {value.dtype for value in (output.bridge.clean, *output.bridge.clean_latent)}
        assert not torch.is_autocast_enabled("cpu")
        losses = self.loss_fn(output, batch)
        return {**losses, "loss": losses["loss"] * self.factor}


def test_auto_precision(monkeypatch):
    cuda = torch.device("cuda")
    assert resolve_amp("auto", CPU) == "off"
    for has_bf16, expected in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True, has=has_bf16: has or including_emulation
        )
        assert resolve_amp("auto", cuda) == expected
    assert [resolve_amp(amp, device) for amp in ("off", "fp16") for device in (CPU, cuda)] == ["off"] * 2 + ["fp16"] * 2


@pytest.mark.parametrize("stage", ["clean", "align"])
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_losses_are_float32_and_close_to_full_precision(tmp_path, batch, stage, amp):
    found = {}
    for precision in ("off", amp):
        model, loss_fn, optimizer = make(tmp_path, "CFAT.STAGE", stage)
        spy = Spy(loss_fn)
        halves, heads = set(), set()
        trained = model.get_submodule("student" if stage == "align" else "")
        parts = [(trained.base.blocks[0].attn.qkv, halves), (trained.bottleneck, heads), (trained.classifier, heads)]
        if stage == "align":
            parts += [(model.bridge.encoder.linear, heads), (model.bridge.decoder.linear2, heads)]
        for part, seen in parts:
            part.register_forward_hook(lambda module, inputs, output, seen=seen: seen.add(output.dtype))
        torch.manual_seed(1)
        found[precision] = TrainStep(model, spy, optimizer, device=CPU, amp=precision)(batch)["loss"]
        assert spy.seen == heads == {torch.float32}
        assert halves == {{"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert found[amp].dtype == torch.float32
    assert found[amp].item() == pytest.approx(found["off"].item(), rel=0.03)
    assert found[amp].item() != found["off"].item()


def test_a_step_that_overflows_is_skipped_and_counted(tmp_path, batch):
    model, loss_fn, optimizer = make(tmp_path)
    step = TrainStep(model, spy := Spy(loss_fn, factor=1e36), optimizer, device=CPU, amp="fp16")
    weights, skipped = dict(model.named_parameters()), 0
    for factor in (1e36, 1.0, 1.0, 1.0, 1.0):
        spy.factor, before = factor, copy.deepcopy(model.state_dict())
        assert math.isfinite(step(batch)["loss"])  # the scaled one may not be
        same = [torch.equal(value, before[name]) for name, value in weights.items() if value.requires_grad]
        assert any(same) == all(same)
        skipped += all(same)
        assert step.overflows == skipped
    assert 1 <= skipped < 5  # the scale has come down


def test_large_gradients_are_clipped(tmp_path, batch):
    norms = {}
    for limit in (0.0, 0.5):
        model, loss_fn, optimizer = make(tmp_path)
        norm = TrainStep(model, loss_fn, optimizer, device=CPU, grad_clip=limit)(batch)["grad_norm"]
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()
        norms[limit] = (norm.item(), gradients.norm().item())
    assert norms[0.0][0] == pytest.approx(norms[0.0][1], rel=1e-5)
    assert norms[0.5][0] == pytest.approx(norms[0.0][0], rel=1e-5)  # before clipping
    assert norms[0.5][1] == pytest.approx(0.5, rel=1e-4)
    assert norms[0.0][0] > 0.5


def test_clipping_leaves_the_centers_alone(tmp_path, batch):
    moved, norms = {}, {}
    for limit in (0.0, 0.1):
        model, loss_fn, optimizer = make(
            tmp_path, "MODEL.IF_WITH_CENTER", "True", "SOLVER.OPTIMIZER_NAME", "SGD", "SOLVER.CENTER_LOSS_WEIGHT", "5.0"
        )
        centers = next(parameter for name, parameter in loss_fn.named_parameters() if name.endswith("centers"))
        before = centers.detach().clone()
        norms[limit] = TrainStep(model, loss_fn, optimizer, device=CPU, grad_clip=limit)(batch)["grad_norm"].item()
        moved[limit] = (centers.detach() - before).norm().item()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()
        assert gradients.norm().item() == pytest.approx(limit or norms[limit], rel=1e-4)
    assert moved[0.1] == pytest.approx(moved[0.0], rel=1e-6) != 0
    assert norms[0.1] == norms[0.0]


def test_the_moving_average_is_tested_and_kept(tmp_path):
    data, _ = make_data()
    cfg = make_cfg(tmp_path, "SOLVER.EMA_DECAY", "0.5", "SOLVER.MAX_EPOCHS", "2")
    model, *rest = build(cfg, data)
    ema = make_ema(cfg, model)
    seen = []
    ema_update = ema.update

    def update(model, step):
        ema_update(model, step)
        seen.append((ema.get_decay(step), model.classifier.weight.detach().clone()))

    ema.update = update
    do_train(cfg, data, model, *rest, device=CPU, ema=ema)
    average = None
    for decay, weights in seen:  # by hand
        average = weights if average is None else decay * average + (1 - decay) * weights
    kept = load_checkpoint(tmp_path / "checkpoints" / "clean.pth")["model"]
    torch.testing.assert_close(kept["classifier.weight"], average, atol=1e-6, rtol=0)
    assert not torch.allclose(kept["classifier.weight"], model.classifier.weight)
    assert max(decay for decay, _ in seen) == 0.5
    assert make_ema(make_cfg(tmp_path), model) is None


def test_losses_are_checked_at_the_log_period(tmp_path, monkeypatch):
    """On a GPU, losses are read every LOG_PERIOD steps only."""
    data, _ = make_data()
    cfg = make_cfg(tmp_path, "SOLVER.LOG_PERIOD", "2")
    checked = []
    monkeypatch.setattr("processor.train.check_finite", lambda values, *rest, **options: checked.append(len(values)))
    do_train(cfg, data, *build(cfg, data), device=CPU)
    assert checked == [1] * 6  # a CPU has nothing to wait for


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("stage", ["clean", "align"])
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_step_on_a_gpu_never_waits_for_it(tmp_path, stage, amp):
    cuda = torch.device("cuda", 0)
    model, loss_fn, optimizer = make(tmp_path, "CFAT.STAGE", stage, "MODEL.DEVICE", "cuda")
    step = TrainStep(model.to(cuda), loss_fn.to(cuda), optimizer, device=cuda, amp=amp)
    batch = to_device(next(iter(make_data()[0].train)), cuda)
    step(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_gpu
def test_deterministic_training_on_a_gpu(tmp_path):
    cuda, found = torch.device("cuda", 0), []
    for run in ("a", "b"):
        data, _ = make_data()
        cfg = make_cfg(tmp_path / run, "SOLVER.DETERMINISTIC", "True", "MODEL.DEVICE", "cuda", "CFAT.STAGE", "align")
        set_global_seeds(1, deterministic=True)
        try:
            parts = build(cfg, data)
            do_train(cfg, data, *parts, device=cuda)
        finally:
            set_global_seeds(1)
        found.append(parts[0].state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
