"""Operations that autocast leaves in float32 on a CPU, where torch's half precision kernels for them are slow."""

import functools
import warnings
from typing import Any

import torch
import torch.nn.functional as F

IMAGE_CHANNELS = 3
# Pixels of a convolution over an image. On a Xeon with AMX, float32 took 0.45 times as long as bf16 for 16 x 16 patches
# of 128 x 64 images, 0.76 for 8 x 8 and for 16 x 16 of 256 x 128, but 1.4 and 1.8 for ResNet's 7 x 7 and Swin's 4 x 4.
LARGE_PATCH = 8


@functools.cache
def keep_slow_in_float32() -> torch.library.Library:
    """Lets autocast on a CPU leave attention and embeddings of large patches in float32, in the whole process.

    torch's backward of attention on a CPU is slow in half precision: on a Xeon with AMX, forward and backward took 4
    times as long in bf16 as in float32 at 33 tokens, twice at 129. Everything else is as torch's autocast has it. The
    kernels are torch.library's, so that they hold where backward recomputes a block, and in compiled code.

    Returns:
        What keeps the kernels registered.
    """
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Warning only once for all operators")  # they replace autocast's own
        library.impl("scaled_dot_product_attention", _attend, "AutocastCPU")
        library.impl("conv2d", _convolve, "AutocastCPU")
    return library


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        inputs = [_cast(tensor, torch.float32) for tensor in (query, key, value, attn_mask)]
        return F.scaled_dot_product_attention(*inputs, *args, **kwargs)


def _convolve(
    images: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *args: Any, **kwargs: Any
) -> torch.Tensor:
    large = images.shape[-3] == IMAGE_CHANNELS and min(weight.shape[2:]) >= LARGE_PATCH
    dtype = torch.float32 if large else torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        return F.conv2d(*(_cast(tensor, dtype) for tensor in (images, weight, bias)), *args, **kwargs)


def _cast(tensor: Any, dtype: torch.dtype) -> Any:
    """A tensor or None as autocast converts it: float64 and what is not floating point stay."""
    if tensor is None or not tensor.is_floating_point() or tensor.dtype is torch.float64:
        return tensor
    return tensor.to(dtype)
