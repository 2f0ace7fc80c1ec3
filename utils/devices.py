"""Where to compute."""

import os

import torch

from utils.distributed import local_rank
from utils.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that MODEL.DEVICE names; "auto" is cuda where there is one, else cpu.

    Of several processes on a machine, each gets the GPU of its number.

    Raises:
        UserError: cuda asked for where torch sees none, or fewer GPUs than processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UserError(f"MODEL.DEVICE {name}: torch sees no CUDA device; set MODEL.DEVICE to auto or cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if local_rank() >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank()} of this machine has no GPU: there are {torch.cuda.device_count()}; start as "
                "many processes as GPUs (torchrun --nproc_per_node), or set MODEL.DEVICE cpu"
            )
        return torch.device("cuda", local_rank())
    return device
