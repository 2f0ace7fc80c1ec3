import math
from functools import partial

import pytest
import torch

from loss.identity import IdentityLoss
from loss.margins import MARGINS

ROWS, CLASSES, SCALE, MARGIN = 6, 5, 30.0, 0.4


def draw_cosines(seed, dtype=torch.float32):
    """Cosines and labels; the first two labels have an angle that the margin drives past pi, the third one of 0."""
    generator = torch.Generator().manual_seed(seed)
    cosines = 2 * torch.rand(ROWS, CLASSES, generator=generator, dtype=torch.float64) - 1
    labels = torch.randint(CLASSES, (ROWS,), generator=generator)
    cosines[[0, 1, 2], labels[:3]] = torch.tensor([-0.97, -1.0, 1.0], dtype=torch.float64)
    return cosines.to(dtype), labels


def plain_arcface(cosine, is_label, margin):
    if not is_label:
        return cosine
    if cosine > math.cos(math.pi - margin):
        return math.cos(math.acos(cosine) + margin)
    return cosine - margin * math.sin(math.pi - margin)


def plain_cosface(cosine, is_label, margin):
    return cosine - margin if is_label else cosine


def plain_circle(cosine, is_label, margin):
    if is_label:
        return max(0, 1 + margin - cosine) * (cosine - (1 - margin))
    return max(0, cosine + margin) * (cosine - margin)


PLAIN = {"arcface": plain_arcface, "cosface": plain_cosface, "amsoftmax": plain_cosface, "circle": plain_circle}


def plain_cross_entropy(logits, labels, smoothing):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        for k, value in enumerate(row):
            target = smoothing / len(row) + (1 - smoothing) * (k == label)
            total -= target * (value - log_sum)
    return total / len(labels)


def plain_margin_loss(name, cosines, labels, margin, smoothing):
    rows = zip(cosines.tolist(), labels.tolist(), strict=True)
    logits = [[SCALE * PLAIN[name](c, k == label, margin) for k, c in enumerate(row)] for row, label in rows]
    return plain_cross_entropy(logits, labels.tolist(), smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_softmax(smoothing, dtype):
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        logits = (3 * torch.randn(ROWS, CLASSES, generator=generator)).to(dtype)
        labels = torch.randint(CLASSES, (ROWS,), generator=generator)
        loss = IdentityLoss(label_smoothing=smoothing)(logits, labels)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(plain_cross_entropy(logits.tolist(), labels.tolist(), smoothing), rel=1e-5)


def test_margin_tests_reach_both_branches_of_arcface():
    cosines, labels = draw_cosines(0)
    passed = [cosines[row, labels[row]].item() > math.cos(math.pi - MARGIN) for row in range(ROWS)]
    assert passed[:3] == [False, False, True]


@pytest.mark.parametrize("name", MARGINS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_margins(name, smoothing, dtype):
    loss_fn = IdentityLoss(label_smoothing=smoothing, margin=partial(MARGINS[name], margin=MARGIN), scale=SCALE)
    for seed in range(3):
        cosines, labels = draw_cosines(seed, dtype)
        cosines.requires_grad_()
        loss = loss_fn(cosines, labels)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(plain_margin_loss(name, cosines, labels, MARGIN, smoothing), rel=1e-4)
        loss.backward()
        assert torch.isfinite(cosines.grad).all()


@pytest.mark.parametrize("name", MARGINS)
def test_a_margin_raises_the_loss(name):
    cosines, labels = draw_cosines(0)
    values = [
        IdentityLoss(margin=partial(MARGINS[name], margin=margin), scale=SCALE)(cosines, labels).item()
        for margin in (0.0, MARGIN)
    ]
    if name == "circle":  # its margin is a width: the smaller, the stricter
        values.reverse()
    assert values[0] < values[1]


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_without_margin_the_cosines_stay(name):
    cosines, labels = draw_cosines(0)
    assert torch.allclose(MARGINS[name](cosines, labels, margin=0.0), cosines, atol=1e-6)


@pytest.mark.parametrize("name", ["arcface", "cosface"])
def test_gradient_of_margins(name):
    cosines, labels = draw_cosines(1, torch.float64)
    inside = (0.99 * cosines).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: MARGINS[name](x, labels, margin=MARGIN), inside)


def test_gradient_of_circle_takes_its_weights_as_constants():
    cosines, labels = draw_cosines(1)
    cosines.requires_grad_()
    MARGINS["circle"](cosines, labels, margin=MARGIN).sum().backward()
    for row in range(ROWS):
        for k in range(CLASSES):
            cosine = cosines[row, k].item()
            weight = 1 + MARGIN - cosine if k == labels[row] else cosine + MARGIN
            assert cosines.grad[row, k].item() == pytest.approx(max(0.0, weight), abs=1e-6)


def test_arcface_of_cosines_beyond_one_by_rounding_is_finite():
    cosines = torch.tensor([[1.0000002, 0.0], [0.0, -1.0000002]], requires_grad=True)
    loss = IdentityLoss(margin=partial(MARGINS["arcface"], margin=0.5), scale=64.0)(cosines, torch.tensor([0, 1]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(cosines.grad).all()
