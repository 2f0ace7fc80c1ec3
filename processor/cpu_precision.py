"""Operations that autocast leaves in float32 on a CPU, where torch's half precision kernels for them are slow."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

IMAGE_CHANNELS = 3


class SlowInHalfPrecision(TorchFunctionMode):
    """Attention, and convolutions over an image's channels (patch embeddings, stems), in float32 under autocast.

    torch's attention on a CPU takes its backward through kernels without AMX or AVX-512 BF16: on two cores of a Xeon
    with both, it took 9 times as long in bf16 as in float32 at 33 tokens, twice at 129. The same holds for the backward
    of a convolution over 3 channels. Matrix products and all other operations are as autocast has them.

    Backward needs it, too, where it recomputes a block (model.grad_checkpoint).
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu") and (
            func is F.scaled_dot_product_attention or (func is torch.conv2d and args[0].shape[1] == IMAGE_CHANNELS)
        ):
            with torch.autocast("cpu", enabled=False):
                return func(*map(_in_float32, args), **{name: _in_float32(value) for name, value in kwargs.items()})
        return func(*args, **kwargs)


def _in_float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
