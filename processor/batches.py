"""Moving batches to the device."""

import torch


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on `device` and its pictures, uint8 on the way, as float in [0, 1]."""
    moved = {}
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            value = value.to(device, non_blocking=True)
            if value.dtype == torch.uint8:
                value = value.float() / 255
        moved[key] = value
    return moved
