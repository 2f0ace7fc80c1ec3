"""The rates shown before a stage are those of its training, which showing them does not touch."""

import copy
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from config import load_cfg
from loss import make_loss
from processor.lr_preview import LRCurve, preview
from processor.plots import save_lr_preview
from solver import make_optimizer, make_scheduler
from tests.solver.test_layer_decay import make_vit

OPTS = [
    "CFAT.STAGE", "clean", "MODEL.IF_WITH_CENTER", "True", "SOLVER.MAX_EPOCHS", "6", "SOLVER.WARMUP_EPOCHS", "2",
    "SOLVER.OPTIMIZER_NAME", "AdamW", "SOLVER.CENTER_LR", "0.01", "SOLVER.BASE_LR", "0.04", "MODEL.DEVICE", "cpu",
    "SOLVER.STEPS", "[3, 4]",
]  # fmt: skip


def make(*opts):
    cfg = load_cfg(opts=[*OPTS, *opts])
    torch.manual_seed(0)
    model = make_vit()
    loss_fn = make_loss(cfg, num_classes=3, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    return model, loss_fn, optimizer, make_scheduler(cfg, optimizer)


def train(model, loss_fn, optimizer, scheduler, steps, start=0):
    images, labels = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 0, 1, 1])
    for step in range(start, steps):
        scheduler.step(step / 3)
        output = model.encode(images, torch.tensor([0, 1, 0, 1]))
        optimizer.zero_grad(set_to_none=True)
        loss_fn(output, {"pids": labels})["loss"].backward()
        optimizer.step()
    return [parameter.detach().clone() for part in (model, loss_fn) for parameter in part.parameters()]


@pytest.mark.parametrize("schedule", ["cosine", "multistep"])
def test_curves_are_the_rates_of_training(schedule):
    _, _, optimizer, scheduler = make("SOLVER.SCHEDULER", schedule, "SOLVER.LAYER_DECAY", "0.5")
    epochs, curves = preview(optimizer, scheduler, 6, 3)
    assert epochs.tolist() == [epoch + step / 3 for epoch in range(6) for step in range(3)]
    for position, epoch in enumerate(epochs):
        scheduler.step(epoch)
        rates = {group["lr"] for group in optimizer.param_groups}
        assert {curve.rates[position] for curve in curves} == rates
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sum(curve.tensors for curve in curves) == len(learning)
    assert sum(curve.parameters for curve in curves) == sum(parameter.numel() for parameter in learning)
    by_layer = [1, 2, 1 / 2, 1, 1 / 4, 1 / 2, 1 / 8, 1 / 4, 1 / 16, 1 / 8]  # from the top, weights before biases
    assert [curve.factor for curve in curves] == [*by_layer, None]


def test_groups_with_one_curve_are_shown_once():
    _, _, optimizer, scheduler = make("SOLVER.BIAS_LR_FACTOR", "1", "SOLVER.WEIGHT_DECAY_BIAS", "0.5")
    assert len(optimizer.param_groups) == 3
    _, (curve, centers) = preview(optimizer, scheduler, 6, 3)
    learning, biases, last = optimizer.param_groups
    assert curve.factor == 1
    assert curve.tensors == len(learning["params"]) + len(biases["params"])
    assert (centers.factor, centers.parameters, set(centers.rates)) == (None, last["params"][0].numel(), {0.01})


@pytest.mark.parametrize(
    ("steps", "points", "second"), [(1, 1, 1), (20, 20, 0.05), (21, 11, 2 / 21), (999, 20, 50 / 999)]
)
def test_long_epochs_are_looked_at_in_places(steps, points, second):
    _, _, optimizer, scheduler = make()
    epochs, (curve, *_) = preview(optimizer, scheduler, 6, steps)
    assert len(epochs) == len(curve.rates) == 6 * points
    assert epochs[1] == pytest.approx(second)
    assert set(range(6)) <= set(epochs)


@pytest.mark.parametrize("before", [0, 4])
def test_training_after_a_preview_is_the_same_to_the_last_bit(before):
    plain, shown = make("SOLVER.LAYER_DECAY", "0.7"), make("SOLVER.LAYER_DECAY", "0.7")
    for parts in (plain, shown):
        train(*parts, steps=before)
    states = [copy.deepcopy(part.state_dict()) for part in plain[2:]]
    preview(*shown[2:], 6, 3)
    optimizer_state, scheduler_state = (part.state_dict() for part in shown[2:])
    assert optimizer_state["param_groups"] == states[0]["param_groups"]
    assert scheduler_state == states[1]
    found, expected = train(*shown, steps=before + 3, start=before), train(*plain, steps=before + 3, start=before)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_failing_schedule_leaves_the_rates_alone():
    _, _, optimizer, scheduler = make()
    before = [group["lr"] for group in optimizer.param_groups]

    class Failing:
        def step(self, epoch):
            scheduler.step(epoch)
            if epoch > 2:
                raise RuntimeError("no more")

        state_dict, load_state_dict = scheduler.state_dict, scheduler.load_state_dict

    with pytest.raises(RuntimeError, match="no more"):
        preview(optimizer, Failing(), 6, 3)
    assert [group["lr"] for group in optimizer.param_groups] == before


def draw(path, monkeypatch, epochs, curves):
    figures = []
    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("error")
        patched.setattr(plt, "close", figures.append)
        save_lr_preview(path, epochs, curves, "stage clean")
    plt.close(figures[0])
    return figures[0]


class TestPicture:
    EPOCHS = np.linspace(0, 6, 100)

    def test_lines_and_legend(self, tmp_path, monkeypatch):
        low, high = np.linspace(0.01, 0, 100), np.linspace(0.02, 0, 100)
        curves = [LRCurve(low, 0.5, 3, 999), LRCurve(np.full(100, 0.015), None, 1, 12_345_678),
                  LRCurve(high, 1.0, 2, 45_600)]  # fmt: skip
        figure = draw(tmp_path / "rates.png", monkeypatch, self.EPOCHS, curves)
        (axis,) = figure.axes
        assert (axis.get_xlabel(), axis.get_ylabel()) == ("epoch", "learning rate")
        assert axis.get_xscale() == axis.get_yscale() == "linear"
        assert figure.get_suptitle() == "stage clean"
        labels = ["1 x, 45.6 k parameters", "constant 0.015, 12.3 M parameters", "0.5 x, 999 parameters"]
        assert [text.get_text() for text in axis.get_legend().get_texts()] == labels
        for line, rates in zip(axis.lines, (high, curves[1].rates, low), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), self.EPOCHS)
            np.testing.assert_array_equal(line.get_ydata(), rates)
        assert len({str(line.get_color()) for line in axis.lines}) == 3
        with Image.open(tmp_path / "rates.png") as picture:
            assert picture.size == (935, 462)

    def test_a_constant_rate_far_above_does_not_press_the_others_down(self, tmp_path, monkeypatch):
        curves = [LRCurve(np.linspace(0.1, 0, 100), 1.0, 1, 5), LRCurve(np.full(100, 1000.0), None, 1, 6)]
        (axis,) = draw(tmp_path / "rates.png", monkeypatch, self.EPOCHS, curves).axes
        assert axis.get_ylim() == pytest.approx((0, 0.105))
        assert axis.get_legend().get_texts()[0].get_text() == "constant 1000, above the axis, 6 parameters"

    def test_many_lines_fit_the_legend(self, tmp_path, monkeypatch):
        curves = [LRCurve(np.linspace(0.8**number, 0, 100), 0.8**number, 1, 5) for number in range(40)]
        figure = draw(tmp_path / "rates.png", monkeypatch, self.EPOCHS, curves)
        (axis,) = figure.axes
        box = axis.get_legend().get_window_extent()
        assert 0 < box.y0 < box.y1 < figure.bbox.height
        assert box.x0 > axis.bbox.x1
        assert box.x1 <= figure.bbox.width

    def test_a_stage_of_one_step(self, tmp_path, monkeypatch):
        figure = draw(tmp_path / "rates.png", monkeypatch, np.zeros(1), [LRCurve(np.full(1, 0.1), 1.0, 1, 5)])
        assert figure.axes[0].lines[0].get_marker() == "."  # a line of one point could not be seen
        pixels = np.asarray(Image.open(tmp_path / "rates.png").convert("RGB")).astype(int)
        assert (pixels.sum(axis=2) < 600).sum() > 1000

    def test_only_constant_rates(self, tmp_path, monkeypatch):
        (axis,) = draw(
            tmp_path / "rates.png", monkeypatch, self.EPOCHS, [LRCurve(np.full(100, 0.5), None, 1, 5)]
        ).axes
        assert axis.get_ylim() == pytest.approx((0, 0.525))
