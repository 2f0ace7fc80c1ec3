import pytest
import torch

from utils.collapse import collapse_statistics


def test_equals_plain_loops():
    torch.manual_seed(0)
    features, labels = torch.randn(7, 5) + 1, torch.tensor([0, 0, 1, 1, 1, 2, 3])
    units = [row / row.norm() for row in features]
    same, different = [], []
    for one, left in enumerate(units):
        for other, right in enumerate(units):
            if one != other:
                (same if labels[one] == labels[other] else different).append(left @ right)
    found = collapse_statistics(features, labels)
    torch.testing.assert_close(found["cosine_same"], torch.stack(same).mean())
    torch.testing.assert_close(found["cosine_different"], torch.stack(different).mean())
    torch.testing.assert_close(found["mean_direction"], (sum(units) / 7).norm())


def test_a_collapsed_feature_is_seen():
    torch.manual_seed(0)
    spread = torch.randn(16, 64)
    labels = torch.arange(16) // 4
    collapsed = collapse_statistics(spread + 100, labels)
    assert collapsed["mean_direction"] > 0.999
    assert collapsed["cosine_different"] > 0.999
    assert collapse_statistics(spread, labels)["cosine_different"].abs() < 0.05


@pytest.mark.parametrize("labels", [torch.arange(4), torch.zeros(4, dtype=torch.long)])
def test_a_batch_without_pairs_of_a_kind_gives_0(labels):
    found = collapse_statistics(torch.randn(4, 3), labels)
    assert all(value.isfinite() for value in found.values())
    assert 0.0 in (found["cosine_same"].item(), found["cosine_different"].item())
