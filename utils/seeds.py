"""Seeds and random generators, all derived from the one SEED and from labels that say what they are for.

The labels are data: other labels give other corruptions and other weights. Renaming code never changes them.
"""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def derive_seed(seed: int, *labels: str | int) -> int:
    """A 64-bit seed that depends on `seed` and every label, the same on every machine and in every process."""
    text = "\x1f".join([str(seed), *map(str, labels)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def derive_generator(seed: int, *labels: str | int) -> np.random.Generator:
    """An independent NumPy generator for one purpose, e.g. derive_generator(cfg.SEED, "query", path, repeat)."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(derive_seed(seed, *labels)))


def set_global_seeds(seed: int, *labels: str | int, deterministic: bool = False) -> None:
    """Seeds the global RNGs of Python, NumPy and torch, which libraries use for initialisation and dropout.

    Args:
        seed, labels: see `derive_seed`.
        deterministic: GPU kernels give the same bits every time, and a kernel that cannot is an error. Call this before
            anything is computed on a GPU. CPU kernels always give the same bits.
    """
    import numpy as np
    import torch

    value = derive_seed(seed, *labels) % 2**32
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)  # also every CUDA device
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)
