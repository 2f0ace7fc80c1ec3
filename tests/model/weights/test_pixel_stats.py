"""Pixel mean and deviation of half precision files."""

import logging

import pytest
import torch

from config import load_cfg
from model.weights.pixel_stats import CLIP, HALF, IMAGENET, with_pixel_stats

OWN = ((0.4, 0.41, 0.39), (0.21, 0.2, 0.19))
CFG = load_cfg(opts=["INPUT.PIXEL_MEAN", str(list(OWN[0])), "INPUT.PIXEL_STD", str(list(OWN[1]))])


def state_of(pair, dtype, kept=torch.float32):
    tensors = (torch.tensor(each, dtype=torch.float64).to(dtype).to(kept) for each in pair)
    return dict(zip(("normalize.mean", "normalize.std"), tensors, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("pair", [IMAGENET, HALF, CLIP, OWN])
def test_rounded_values_become_exact(pair, dtype, caplog):
    for kept in (torch.float32, dtype):  # a file may have been turned back to float32
        with caplog.at_level(logging.WARNING):
            state = with_pixel_stats(CFG, state_of(pair, dtype, kept), "a.pth")
        for name, exact in zip(("normalize.mean", "normalize.std"), pair, strict=True):
            assert torch.equal(state[name], torch.tensor(exact)), name
    assert ("which are used, not the configured" in caplog.text) == (pair is not OWN)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("pair", [IMAGENET, CLIP, OWN])
def test_rounded_statistics_are_logged(pair, dtype, caplog):
    with caplog.at_level(logging.INFO):
        with_pixel_stats(CFG, state_of(pair, dtype, dtype), "a.pth")
    assert ("are rounded to half precision" in caplog.text) == (dtype == torch.float16)


def test_others_stay_as_they_are():
    near = ((0.484375, 0.456, 0.4), IMAGENET[1])  # one of three as bfloat16 rounds it
    state = with_pixel_stats(CFG, state_of(near, torch.float32), "a.pth")
    assert torch.equal(state["normalize.mean"], torch.tensor(near[0]))
