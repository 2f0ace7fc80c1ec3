import math

import pytest
import torch

from loss.triplet import BatchHardTripletLoss, WeightedTripletLoss

# a full batch, an odd last one with a single image of one identity, and batches without any valid anchor
BATCHES = [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2, 3], [0, 1, 2], [5, 5, 5], [4]]
INVALID = [[0, 1, 2], [5, 5, 5], [4]]
LOSSES = [BatchHardTripletLoss(), BatchHardTripletLoss(margin=0.3, hard_factor=0.2), WeightedTripletLoss()]


def anchors(x, labels):
    """Distances to positives and negatives of every anchor that has both, by loops."""
    for a in range(len(x)):
        positive = [float((x[a] - x[k]).norm()) for k in range(len(x)) if k != a and labels[k] == labels[a]]
        negative = [float((x[a] - x[k]).norm()) for k in range(len(x)) if labels[k] != labels[a]]
        if positive and negative:
            yield positive, negative


def plain_mean(terms):
    return sum(terms) / max(len(terms), 1)


def plain_triplet(x, labels, margin, hard_factor=0.0):
    terms = []
    for positive, negative in anchors(x, labels):
        gap = (1 + hard_factor) * max(positive) - (1 - hard_factor) * min(negative)
        terms.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return plain_mean(terms)


def plain_weighted(x, labels):
    terms = []
    for positive, negative in anchors(x, labels):
        d_p = sum(math.exp(d) * d for d in positive) / sum(math.exp(d) for d in positive)
        d_n = sum(math.exp(-d) * d for d in negative) / sum(math.exp(-d) for d in negative)
        terms.append(math.log1p(math.exp(d_p - d_n)))
    return plain_mean(terms)


def sample(labels, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(labels), 5, generator=generator, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("labels", BATCHES)
@pytest.mark.parametrize("margin", [None, 0.3])
@pytest.mark.parametrize("hard_factor", [0.0, 0.25])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_hard(labels, margin, hard_factor, dtype):
    for seed in range(3):
        x = sample(labels, seed, dtype)
        loss = BatchHardTripletLoss(margin=margin, hard_factor=hard_factor)(x, torch.tensor(labels))
        assert loss.item() == pytest.approx(plain_triplet(x.detach(), labels, margin, hard_factor), rel=1e-4)
        loss.backward()
        assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("labels", BATCHES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weighted(labels, dtype):
    for seed in range(3):
        x = sample(labels, seed, dtype)
        loss = WeightedTripletLoss()(x, torch.tensor(labels))
        assert loss.item() == pytest.approx(plain_weighted(x.detach(), labels), rel=1e-4)
        loss.backward()
        assert torch.isfinite(x.grad).all()


def test_weighted_gradient():
    x, labels = sample(BATCHES[1], seed=0, dtype=torch.float64), torch.tensor(BATCHES[1])
    assert torch.autograd.gradcheck(lambda rows: WeightedTripletLoss()(rows, labels), x)


def test_weighted_of_far_rows_is_batch_hard():
    x, labels = 1000 * sample(BATCHES[1], seed=0), torch.tensor(BATCHES[1])  # exp(d) would overflow
    assert WeightedTripletLoss()(x, labels).item() == pytest.approx(BatchHardTripletLoss()(x, labels).item(), rel=1e-6)


@pytest.mark.parametrize("loss_fn", LOSSES)
@pytest.mark.parametrize("labels", INVALID)
def test_batch_without_valid_anchor_gives_zero(loss_fn, labels):
    x = sample(labels, seed=0)
    loss = loss_fn(x, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0.0
    assert x.grad.eq(0).all()


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_a_far_image_alone_in_its_identity_changes_nothing(loss_fn):
    """It is no anchor, and as a negative of the others the least of all."""
    x, labels = sample([0, 0, 1, 1, 2], seed=1).detach(), torch.tensor([0, 0, 1, 1, 2])
    x[4] = 1e4
    expected = loss_fn(x[:4], labels[:4]).item()
    assert expected > 0
    assert loss_fn(x, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_equal_embeddings_have_a_finite_gradient(loss_fn):
    x = torch.ones(4, 3, requires_grad=True)
    loss_fn(x, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("loss_fn", "plain"),
    [
        (BatchHardTripletLoss(), lambda x, labels: plain_triplet(x, labels, None)),
        (WeightedTripletLoss(), plain_weighted),
    ],
)
def test_half_precision_computes_in_float32(loss_fn, plain, dtype):
    x, labels = sample(BATCHES[0], seed=0).detach().to(dtype), BATCHES[0]
    half = loss_fn(x, torch.tensor(labels))
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(plain(x.float(), labels), rel=1e-4)


@pytest.mark.parametrize("offset", [0.0, 3.0, 10.0, 100.0, 1000.0])
def test_what_all_embeddings_share_costs_no_digits(offset):
    generator = torch.Generator().manual_seed(0)
    embeddings = (offset + 2 * torch.randn(24, 32, generator=generator)).requires_grad_()
    exact = embeddings.detach().double().requires_grad_()
    labels = torch.arange(24) // 4
    found, expected = (BatchHardTripletLoss()(rows, labels) for rows in (embeddings, exact))
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=0)
    found.backward()
    expected.backward()
    torch.testing.assert_close(embeddings.grad.double(), exact.grad, rtol=0, atol=1e-4)
