"""One SEED; every random draw of the project comes from a generator derived from it and from what the draw is for."""

import hashlib
import os
import random

import numpy as np
import torch


def derive_seed(seed: int, *labels: str | int) -> int:
    """A 64-bit seed that depends on `seed` and every label, the same on every machine and in every process."""
    text = "\x1f".join([str(seed), *map(str, labels)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def derive_generator(seed: int, *labels: str | int) -> np.random.Generator:
    """An independent NumPy generator for one purpose, e.g. derive_generator(cfg.SEED, "query", path, repeat)."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *labels)))


def set_global_seeds(seed: int, *labels: str | int, deterministic: bool = False) -> None:
    """Seeds the global generators that libraries draw from (weight initialisation, dropout) for one purpose.

    With `deterministic`, GPU kernels give the same bits every time, and one that cannot is an error; call it before
    anything is computed on a GPU. On a CPU they always do.
    """
    value = derive_seed(seed, *labels) % 2**32
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)  # also every CUDA device
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(deterministic)
