"""Where to compute."""

import torch

from utils.distributed import local_rank, world_size
from utils.errors import UserError


def pick_device(name: str) -> torch.device:
    """The device that MODEL.DEVICE names; "auto" is cuda where there is one, else cpu.

    Of several processes on a machine, each gets the GPU of its number, which becomes torch's current one.

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
    if world_size() > 1:
        if local_rank() >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank()} of this machine has no GPU: there are {torch.cuda.device_count()}; start as "
                "many processes as GPUs (torchrun --nproc_per_node), or set MODEL.DEVICE cpu"
            )
        device = torch.device("cuda", local_rank())
        torch.cuda.set_device(device)  # nccl takes it from there
    return device
