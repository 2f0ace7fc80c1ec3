"""What autocast leaves in float32 on a CPU."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from processor.batches import to_device
from processor.cpu_precision import SlowInHalfPrecision
from processor.step import TrainStep
from tests.processor.small_run import CPU, build, make_cfg, make_data


def attend(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


@pytest.fixture
def tokens():
    return torch.randn(4, 2, 3, 5, 8, generator=torch.Generator().manual_seed(0))  # query, key, value, mask


@pytest.mark.parametrize("masked", [False, True])
def test_attention(tokens, masked):
    mask = tokens[3][..., :5] if masked else None
    with SlowInHalfPrecision():
        expected = attend(*tokens[:3], mask)
        assert expected.dtype is torch.float32  # without autocast, nothing changes
        assert attend(*tokens[:3].bfloat16(), None if mask is None else mask.bfloat16()).dtype is torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(attend(*tokens[:3], mask), expected)
            half = attend(*tokens[:3].bfloat16(), mask)
            assert half.dtype is torch.float32
            assert torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(*tokens[:3], mask).dtype is torch.bfloat16
    assert torch.allclose(half, expected, atol=0.02)
    allowed = tokens[3][..., :5] > 0
    with SlowInHalfPrecision(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(
            attend(*tokens[:3], allowed), attend(*tokens[:3], torch.zeros(2, 3, 5, 5).masked_fill(~allowed, -torch.inf))
        )


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "expected"),
    [
        (3, 16, 16, torch.float32),
        (3, 16, 12, torch.float32),
        (3, 8, 8, torch.float32),
        (3, 7, 2, torch.bfloat16),
        (3, 4, 4, torch.bfloat16),
        (64, 8, 8, torch.bfloat16),
    ],
)
def test_patches(channels, kernel, stride, expected):
    convolution = nn.Conv2d(channels, 4, kernel, stride)
    with SlowInHalfPrecision(), torch.autocast("cpu", torch.bfloat16):
        assert convolution(torch.rand(2, channels, 32, 16)).dtype is expected


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_recomputed_blocks_give_the_same_gradients(tmp_path, amp):
    """Backward recomputes attention as forward computed it."""
    data = make_data()[0]
    batch = to_device(next(iter(data.train)), CPU)
    found = []
    for recompute in ("False", "True"):
        cfg = make_cfg(tmp_path, "SOLVER.GRAD_CHECKPOINT", recompute)
        model, loss_fn, optimizer, _ = build(cfg, data)
        TrainStep(model, loss_fn, optimizer, device=CPU, amp=amp)(batch)
        found.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert len(found[0]) > 10
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
