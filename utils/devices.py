"""Where to compute."""

import os

import torch

from utils.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that MODEL.DEVICE names; "auto" is cuda where there is one, else cpu.

    Raises:
        UserError: cuda asked for where torch sees none, or one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "started as one of several processes (WORLD_SIZE > 1), but training over several is not built in this "
            "version; start it with python, without torchrun"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"MODEL.DEVICE {name}: torch sees no CUDA device; set MODEL.DEVICE to auto or cpu")
    return device
