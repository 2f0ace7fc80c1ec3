"""Chooses the device to compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utils.distributed import local_rank, world_size
from utils.errors import UserError

if TYPE_CHECKING:
    import torch


def pick_device(name: str) -> torch.device:
    """The device that MODEL.DEVICE names; "auto" is cuda where torch sees a GPU, else cpu.

    In a distributed run, each process gets the GPU of its local rank, which becomes torch's current device.

    Raises:
        UserError: cuda is asked for and torch sees no GPU, or there are fewer GPUs than processes.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise UserError(f"MODEL.DEVICE {name}: torch sees no CUDA device; set MODEL.DEVICE to auto or cpu")
    if world_size() > 1:
        if local_rank() >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank()} of this machine has no GPU: there are {torch.cuda.device_count()}; start as "
                "many processes as GPUs (torchrun --nproc_per_node), or set MODEL.DEVICE cpu"
            )
        device = torch.device("cuda", local_rank())
        torch.cuda.set_device(device)  # nccl uses the current device
    return device
