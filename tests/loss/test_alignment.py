import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from loss.alignment import (
    CoarseAlignmentLoss,
    cosine_distance,
    distillation,
    gaussian_kl,
    reconstruction_loss,
    standard_normal_kl,
    token_distance,
)
from tests.helpers import load_golden
from utils.structures import Gaussian

GOLDEN = load_golden("cfat_tiny.npz")
CLEAN, CORRUPTED = torch.tensor(GOLDEN["coarse/clean"]), torch.tensor(GOLDEN["coarse/corrupt"])


def plain_coarse(clean, corrupted, temperature, labels=None):
    """The coarse term by loops, from the equation; with labels, other images of an identity leave the sum."""
    units = [v / np.linalg.norm(v) for v in (*clean, *corrupted)]
    count, total = len(clean), 0.0
    for a in range(2 * count):
        partner = (a + count) % (2 * count)
        kept = [k for k in range(2 * count) if k != a]
        if labels is not None:
            kept = [k for k in kept if k == partner or labels[k % count] != labels[a % count]]
        denominator = sum(math.exp(float(units[a] @ units[k]) / temperature) for k in kept)
        positive = float(units[a] @ units[partner])
        total += (1 - positive) * -math.log(math.exp(positive / temperature) / denominator)
    return total / (2 * count)


def test_coarse_golden():
    temperature = float(GOLDEN["coarse/temperature"])
    found = CoarseAlignmentLoss(temperature=temperature)(CLEAN, CORRUPTED)
    assert found.item() == pytest.approx(float(GOLDEN["coarse/loss"]), abs=1e-5)


@pytest.mark.parametrize("exclude", [False, True])
def test_coarse_plain(exclude):
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])
    scaled = 3 * CORRUPTED  # embeddings come unnormalised
    found = CoarseAlignmentLoss(temperature=0.2, exclude_same_identity=exclude)(CLEAN, scaled, labels)
    expected = plain_coarse(CLEAN.numpy(), CORRUPTED.numpy(), 0.2, labels.tolist() if exclude else None)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_coarse_detached_weight_changes_only_the_gradient():
    values, gradients = [], []
    for detach in (False, True):
        corrupted = CORRUPTED.clone().requires_grad_()
        loss = CoarseAlignmentLoss(detach_weight=detach)(CLEAN, corrupted)
        loss.backward()
        values.append(loss.item())
        gradients.append(corrupted.grad)
    assert values[0] == values[1]
    assert not torch.allclose(gradients[0], gradients[1], atol=1e-4)


def random_gaussian(seed, rows=5, dimensions=3):
    generator = torch.Generator().manual_seed(seed)
    return Gaussian(*torch.randn(2, rows, dimensions, generator=generator, dtype=torch.float64))


def test_gaussian_kl_is_torchs():
    q, p = random_gaussian(0), random_gaussian(1)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(
        normal(q.mean, (q.log_var / 2).exp()), normal(p.mean, (p.log_var / 2).exp())
    )
    assert gaussian_kl(q, p).item() == pytest.approx(divergence.sum(dim=1).mean().item())
    assert gaussian_kl(q, q).item() == pytest.approx(0.0, abs=1e-12)


def test_standard_normal_kl_by_hand():
    q = Gaussian(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, math.log(4.0)]]))
    assert standard_normal_kl(q).item() == pytest.approx(0.5 * 1 + 0.5 * (4 - 1 - math.log(4)))


def test_reconstruction_sums_over_dimensions():
    assert reconstruction_loss(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.zeros(2, 2)).item() == 2.5


@pytest.mark.parametrize("shape", [(4, 6), (4, 7, 6)])
def test_cosine_distance(shape):
    torch.manual_seed(0)
    a, b = torch.randn(shape), torch.randn(shape)
    rows = zip(a.reshape(-1, 6), b.reshape(-1, 6), strict=True)
    expected = np.mean([1 - float(u @ v / (u.norm() * v.norm())) for u, v in rows])
    assert cosine_distance(a, b).item() == pytest.approx(expected, rel=1e-5)
    assert cosine_distance(a, F.normalize(a, dim=-1)).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_distillation_equals_plain_loops(scale):
    student, teacher = np.random.default_rng(0).normal(size=(2, 4, 5))
    temperature, total = 4.0, 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        p = np.exp(scale * theirs / temperature)
        q = np.exp(scale * ours / temperature)
        p, q = p / p.sum(), q / q.sum()
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = distillation(torch.tensor(student), torch.tensor(teacher), temperature=temperature, scale=scale)
    assert found.item() == pytest.approx(temperature**2 * total / 4, rel=1e-5)
    assert distillation(torch.tensor(teacher), torch.tensor(teacher), temperature=temperature).item() == 0


def test_token_distance_equals_plain_loops():
    student, teacher = np.random.default_rng(0).normal(size=(2, 3, 4, 5)) * np.array([1, 2, 0.1, 30, 0])
    student[..., 4] = 0
    deviation = teacher.reshape(-1, 5).std(axis=0) + 1e-4
    distances = np.abs(student - teacher) / deviation
    expected = np.where(distances < 1, distances**2 / 2, distances - 0.5).mean()
    found = token_distance(torch.tensor(student, requires_grad=True), torch.tensor(teacher))
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
