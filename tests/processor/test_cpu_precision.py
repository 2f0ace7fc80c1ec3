"""What autocast leaves in float32 on a CPU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from processor.batches import to_device
from processor.cpu_precision import keep_slow_in_float32
from processor.step import TrainStep
from tests.processor.small_run import CPU, build, make_cfg, make_data


def attend(query, key, value, mask):
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)


@pytest.fixture
def tokens():
    return torch.randn(4, 2, 3, 5, 8, generator=torch.Generator().manual_seed(0))  # query, key, value, mask


@pytest.mark.parametrize("masked", [False, True])
def test_attention(tokens, masked):
    keep_slow_in_float32()
    mask = tokens[3][..., :5] if masked else None
    half_mask = None if mask is None else mask.bfloat16()
    expected = attend(*tokens[:3], mask)
    assert attend(*tokens[:3].bfloat16(), half_mask).dtype is torch.bfloat16  # without autocast, nothing changes
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(*tokens[:3], mask), expected)
        half = attend(*tokens[:3].bfloat16(), half_mask)
        assert half.dtype is torch.float32
        assert torch.is_autocast_enabled("cpu")
    assert torch.allclose(half, expected, atol=0.05)


def test_attention_with_options(tokens):
    keep_slow_in_float32()
    allowed = tokens[3][..., :5] > -1
    for options in ({"attn_mask": allowed}, {"is_causal": True, "scale": 0.5}):
        expected = F.scaled_dot_product_attention(*tokens[:3], **options)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(F.scaled_dot_product_attention(*tokens[:3], **options), expected)


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
    keep_slow_in_float32()
    convolution = nn.Conv2d(channels, 4, kernel, stride)
    with torch.autocast("cpu", torch.bfloat16):
        assert convolution(torch.rand(2, channels, 32, 16)).dtype is expected
        assert nn.functional.linear(torch.rand(2, 3), torch.rand(4, 3)).dtype is torch.bfloat16  # as before


def test_other_convolutions_are_those_of_autocast():
    """Compared with a convolution of tensors that are converted by hand."""
    keep_slow_in_float32()
    images, convolution = torch.rand(2, 8, 6, 5), nn.Conv2d(8, 4, 3, stride=2, padding=1, dilation=2, groups=2)
    with torch.autocast("cpu", torch.bfloat16):
        found = convolution(images)
    found.float().sum().backward()
    assert convolution.weight.grad.dtype is torch.float32
    assert torch.equal(found, copy.deepcopy(convolution).bfloat16()(images.bfloat16()))


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
