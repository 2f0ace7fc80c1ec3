"""Operations that autocast leaves in float32 on a CPU, where torch's half precision kernels for them are slow."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

IMAGE_CHANNELS = 3
# Pixels of a convolution over an image. On a Xeon with AMX, float32 took 0.45 times as long as bf16 for 16 x 16 patches
# of 128 x 64 images, 0.76 for 8 x 8 and for 16 x 16 of 256 x 128, but 1.4 and 1.8 for ResNet's 7 x 7 and Swin's 4 x 4.
LARGE_PATCH = 8


class SlowInHalfPrecision(TorchFunctionMode):
    """Attention and embeddings of large patches in float32, where autocast would compute them in half precision.

    torch's backward of attention on a CPU is slow in half precision: on a Xeon with AMX, forward and backward took 4
    times as long in bf16 as in float32 at 33 tokens, twice at 129. Everything else is as autocast has it.

    Backward needs the context, too, where it recomputes a block (model.grad_checkpoint).
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu") and (
            func is F.scaled_dot_product_attention or (func is torch.conv2d and _embeds_large_patches(*args[:2]))
        ):
            with torch.autocast("cpu", enabled=False):
                return func(*map(_in_float32, args), **{name: _in_float32(value) for name, value in kwargs.items()})
        return func(*args, **kwargs)


def _embeds_large_patches(images: torch.Tensor, weight: torch.Tensor) -> bool:
    return images.shape[1] == IMAGE_CHANNELS and min(weight.shape[2:]) >= LARGE_PATCH


def _in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
