import math

import pytest
import torch

from loss.consistency import ConsistencyLoss

BATCH, CLASSES = 4, 5


def plain_softmax(row, scale):
    powers = [math.exp(scale * value) for value in row]
    return [power / sum(powers) for power in powers]


def plain_consistency(logits, augmented, scale):
    total, views = 0.0, [logits.tolist(), *augmented.tolist()]
    for row in range(len(logits)):
        distributions = [plain_softmax(view[row], scale) for view in views]
        mixture = [min(max(sum(values) / len(views), 1e-7), 1) for values in zip(*distributions, strict=True)]
        for p in distributions:
            total += sum(a * math.log(a / m) for a, m in zip(p, mixture, strict=True)) / len(views)
    return total / len(logits)


def sample(seed, views, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1 + views, BATCH, CLASSES, generator=generator).to(dtype)
    return logits[0].requires_grad_(), logits[1:].requires_grad_()


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_loss(views, scale, dtype):
    for seed in range(3):
        logits, augmented = sample(seed, views, dtype)
        loss = ConsistencyLoss(scale=scale)(logits, augmented)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(plain_consistency(logits, augmented, scale), rel=1e-4)
        loss.backward()
        for gradient in (logits.grad, augmented.grad):
            assert torch.isfinite(gradient).all()


def test_gradient_is_that_of_the_plain_loss():
    logits, augmented = sample(0, 2)
    ConsistencyLoss(scale=2.0)(logits, augmented).backward()
    step = 1e-4
    for tensor in (logits, augmented):
        pair = []
        for sign in (1, -1):
            moved = [t.detach().double() for t in (logits, augmented)]
            moved[0 if tensor is logits else 1].view(-1)[3] += sign * step
            pair.append(plain_consistency(*moved, 2.0))
        assert tensor.grad.view(-1)[3].item() == pytest.approx((pair[0] - pair[1]) / (2 * step), rel=1e-3)


def test_equal_distributions_cost_nothing():
    logits, _ = sample(0, 1)
    shifted = logits + 2.5  # the same distribution
    assert ConsistencyLoss()(logits, torch.stack([logits, shifted])).item() == pytest.approx(0.0, abs=1e-6)


def test_two_opposite_certainties_differ_by_log_two():
    logits = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = ConsistencyLoss()(logits, torch.tensor([[[0.0, 1000.0]]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert torch.isfinite(logits.grad).all()


def test_mixture_is_clamped():
    loss = ConsistencyLoss()(torch.tensor([[0.0, -20.0]]), torch.tensor([[[0.0, -20.0]]]))
    rare = 1 / (1 + math.exp(20))  # 2e-9, held against a mixture of 1e-7
    assert loss.item() == pytest.approx(rare * math.log(rare / 1e-7), abs=1e-10, rel=1e-2)
    assert loss.item() < -1e-9
