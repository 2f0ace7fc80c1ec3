"""Milliseconds per image of every corruption: imagecorruptions 1.1.2 against the backend `fast`, on one core.

python tests/benchmarks/corruption.py [--rounds 5]

Both sides alternate in one run, on the same image at severities 1 to 5; a number is the median over the rounds.
imagecorruptions is called through the backend of that name (its own functions on today's NumPy, with the published
rain), from a RandomState as published; `fast` from a Generator. Its exact path, from a RandomState, is timed too.

A second table has the corruptions beyond the 20: those of ImageNet-C-bar, low_light and low_resolution, compiled and on
whole arrays (what runs where the extensions are not built). Their published code is not run: its loops over the pixels
take seconds.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[2]))

import cv2
import numpy as np

from corruption import CORRUPTIONS, SEVERITIES, SURVEILLANCE, UNSEEN, corrupt, level_tables, surveillance, unseen
from tests.helpers import load_golden
from utils.progress import ProgressBar
from utils.tables import make_table

SIDES = {
    "imagecorruptions": ("imagecorruptions", np.random.RandomState),
    "fast": ("fast", np.random.default_rng),
    "fast, exact": ("fast", np.random.RandomState),
}


def milliseconds(image: np.ndarray, name: str, rounds: int) -> dict[str, np.ndarray]:
    """Median milliseconds of each side, (5,) by severity; a first call of each, which fills caches, is not counted."""
    times = {side: np.empty((len(SEVERITIES), rounds)) for side in SIDES}
    generators = {side: make(0) for side, (_, make) in SIDES.items()}
    for row, severity in enumerate(SEVERITIES):
        for column in range(-1, rounds):
            for side, (backend, _) in SIDES.items():
                start = time.perf_counter()
                corrupt(image, name, severity, generators[side], backend=backend)
                times[side][row, max(column, 0)] = time.perf_counter() - start
    return {side: 1000 * np.median(values, axis=1) for side, values in times.items()}


def print_table(image: np.ndarray, rounds: int) -> None:
    print(f"\n{image.shape[0]} x {image.shape[1]}, ms per image, mean of the severities (slowest severity)\n")
    rows, means = [], {side: [] for side in SIDES}
    for name in ProgressBar("types", iterable=CORRUPTIONS):
        times = milliseconds(image, name, rounds)
        for side, values in times.items():
            means[side].append(values.mean())
        reference, fast, exact = (values[-1] for values in means.values())
        slowest = f"{fast:.3f} ({times['fast'].max():.3f})"
        rows.append((name, f"{reference:.2f}", slowest, f"{reference / fast:.1f}", f"{exact:.3f}"))
    reference, fast, exact = (np.mean(values) for values in means.values())
    rows.append(("mean", f"{reference:.2f}", f"{fast:.3f}", f"{reference / fast:.1f}", f"{exact:.3f}"))
    print(make_table(["type", "imagecorruptions", "fast (slowest)", "ratio", "fast, exact"], rows, "lr"))


@contextlib.contextmanager
def whole_arrays() -> Iterator[None]:
    """Runs what runs where the extensions are not built."""
    with (
        mock.patch.object(unseen, "_compiled", None),
        mock.patch.object(surveillance, "sample_by_level", level_tables.sample_on_arrays),
    ):
        yield


def print_further_table(image: np.ndarray, rounds: int) -> None:
    """The corruptions beyond the 20, compiled and on whole arrays in turn."""
    print(f"\n{image.shape[0]} x {image.shape[1]}, ms per image, mean of the severities (slowest severity)\n")
    sides, rng = (contextlib.nullcontext, whole_arrays), np.random.default_rng(0)
    rows, means = [], []
    for name in ProgressBar("types", iterable=(*UNSEEN, *SURVEILLANCE)):
        times = np.empty((len(sides), len(SEVERITIES), rounds))
        for row, severity in enumerate(SEVERITIES):
            for column in range(-1, rounds):  # a first call of each is not counted
                for side, context in enumerate(sides):
                    with context():
                        start = time.perf_counter()
                        corrupt(image, name, severity, rng)
                        times[side, row, max(column, 0)] = time.perf_counter() - start
        compiled, slow = 1000 * np.median(times, axis=2)
        means.append((compiled.mean(), slow.mean()))
        slowest = f"{compiled.mean():.3f} ({compiled.max():.3f})"
        rows.append((name, slowest, f"{slow.mean():.3f}", f"{slow.mean() / compiled.mean():.1f}"))
    compiled, slow = np.mean(means, axis=0)
    rows.append(("mean", f"{compiled:.3f}", f"{slow:.3f}", f"{slow / compiled:.1f}"))
    print(make_table(["type", "compiled (slowest)", "whole arrays", "ratio"], rows, "lr"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed calls per type, severity and side")
    rounds = parser.parse_args().rounds
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    small = load_golden("corruptions.npz")["image_a"]
    large = cv2.resize(small, (128, 256), interpolation=cv2.INTER_CUBIC)
    for image in (small, large):
        print_table(image, rounds)
    for image in (small, large):
        print_further_table(image, rounds)


if __name__ == "__main__":
    main()
