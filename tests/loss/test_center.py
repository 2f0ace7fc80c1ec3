import pytest
import torch

from loss.center import CenterLoss

LABELS = torch.tensor([2, 0, 2, 2, 1])


def make_center(seed=0, num_classes=4, feat_dim=6):
    torch.manual_seed(seed)
    return CenterLoss(num_classes=num_classes, feat_dim=feat_dim)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_loss(dtype):
    for seed in range(3):
        center = make_center(seed)
        x = torch.randn(5, 6).to(dtype)
        loss = center(x, LABELS)
        rows, centers = x.tolist(), center.centers.tolist()
        plain = sum(
            sum((a - b) ** 2 for a, b in zip(row, centers[label], strict=True))
            for row, label in zip(rows, LABELS.tolist(), strict=True)
        )
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(plain / 5, rel=1e-5)


def test_gradients_by_hand():
    center, x = make_center(), torch.randn(5, 6, requires_grad=True)
    center(x, LABELS).backward()
    difference = (x - center.centers[LABELS]).detach()
    assert torch.allclose(x.grad, 2 / 5 * difference)
    assert torch.allclose(center.centers.grad[2], -2 / 5 * difference[[0, 2, 3]].sum(dim=0))
    assert center.centers.grad[3].eq(0).all()  # no row of that identity


def test_centers_start_from_the_standard_normal():
    centers = make_center(num_classes=200, feat_dim=500).centers
    assert centers.shape == (200, 500)
    assert centers.mean().item() == pytest.approx(0.0, abs=0.02)
    assert centers.std().item() == pytest.approx(1.0, abs=0.02)
    assert centers.abs().max() > 3.5  # no uniform distribution
