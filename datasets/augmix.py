"""AugMix: a picture mixed with chains of simple operations on itself.

Hendrycks et al., AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty, ICLR 2020,
arXiv 1912.02781; torchvision's implementation.
"""

import numpy as np
import torch
from torchvision.transforms import AugMix

from datasets.transforms import to_tensor

# The paper's three chains of one to three operations, with the defaults of its CIFAR experiments; all_ops would add
# brightness, color, contrast and sharpness, which resemble the test corruptions.
_AUGMIX = AugMix(severity=3, mixture_width=3, chain_depth=-1, alpha=1.0, all_ops=False)


def augmix(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mixed copy of a picture (H, W, 3) uint8; draws come from `rng` alone.

    torchvision draws from torch's global generator, whose state is put back afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the CUDA devices, which fork_rng leaves as they are
        torch.default_generator.manual_seed(int(rng.integers(2**32)))
        mixed = _AUGMIX(to_tensor(image))
    return np.ascontiguousarray(mixed.numpy().transpose(1, 2, 0))
