"""Time and peak memory of a call, and random features, for the benchmarks."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utils.structures import FeatureSet


class Measured(NamedTuple):
    """`seconds` of a call and the MiB by which it raised the process above what was there before it."""

    seconds: float
    mebibytes: float


def _kibibytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


def measure(function: Callable[[], object]) -> Measured:
    """Calls `function` once. Linux only: the kernel's high-water mark of resident memory is reset before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _kibibytes("VmRSS:")
    start = time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    return Measured(seconds, (_kibibytes("VmHWM:") - before) / 1024)


def wait_for(device: str | torch.device) -> None:
    """Until a GPU has finished what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def best(function: Callable[[], object], rounds: int) -> Measured:
    """The fastest of some calls, with the largest of their peaks."""
    measured = [measure(function) for _ in range(rounds)]
    return Measured(min(m.seconds for m in measured), max(m.mebibytes for m in measured))


def random_features(count: int, dimensions: int, identities: int, seed: int) -> FeatureSet:
    """Unit features in clusters, one for each of `identities`, by six cameras."""
    rng = np.random.default_rng(seed)
    centres = torch.from_numpy(
        np.random.default_rng(99).standard_normal((identities + 1, dimensions), dtype=np.float32)
    )
    pids = rng.integers(0, identities + 1, count)
    features = centres[pids] + 1.5 * torch.from_numpy(rng.standard_normal((count, dimensions), dtype=np.float32))
    return FeatureSet(torch.nn.functional.normalize(features, dim=1), pids, rng.integers(0, 6, count))
