"""What several test folders share."""

from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
REPOSITORY = Path(__file__).parents[1]


def load_golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name) as arrays:
        return {key: arrays[key] for key in arrays.files}


def golden_state(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    """The arrays below `prefix` as a state dict."""
    return {name[len(prefix) :]: torch.tensor(value) for name, value in arrays.items() if name.startswith(prefix)}
