"""Clean/corrupted training pairs per second, and where the time goes, in one run.

python tests/benchmarks/loader.py

Images are rendered pedestrians, JPEGs of Market-1501's size (128 x 64) and of twice that. The first table has
milliseconds per pair in one process, step by step; the second, pairs per second of whole epochs from the loader.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate

from config import load_cfg
from corruption import CorruptionPolicy
from datasets import make_dataloader
from datasets.synthetic.generate import SyntheticSettings, synthesize
from datasets.transforms import TrainTransform
from utils.images import read_image
from utils.tables import make_table

SMALL, LARGE = (128, 64), (256, 128)
EPOCHS = 2  # measured, after a first one that starts the workers
BATCH = 64


def configure(root: Path, size: tuple[int, int], *opts: str):
    """CFAT's released training pipeline on the images below `root`."""
    settings = {
        "DATASETS.ROOT_DIR": root,
        "DATASETS.CHECK_COUNTS": False,
        "INPUT.SIZE_TRAIN": list(size),
        "SOLVER.IMS_PER_BATCH": BATCH,
        "CORRUPTION.CLEAN_PROB": 0.0,
    }
    return load_cfg(opts=[*(str(part) for pair in settings.items() for part in pair), *opts])


def write_images(root: Path) -> dict[tuple[int, int], Path]:
    """size -> root directory of the pedestrians at that size."""
    roots = {SMALL: root / "small", LARGE: root / "large"}
    made = synthesize(roots[SMALL] / "market1501", SyntheticSettings(num_identities=60))
    for path in sorted(Path(made).glob("*/*.jpg")):
        copy = roots[LARGE] / "market1501" / path.relative_to(made)
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize(LARGE[::-1], Image.Resampling.BICUBIC).save(copy, quality=95)
    return roots


def milliseconds(function: Callable, items: list) -> tuple[float, list]:
    """Per item, and what came out."""
    start = time.perf_counter()
    results = [function(item) for item in items]
    return 1000 * (time.perf_counter() - start) / len(items), results


def breakdown(root: Path, size: tuple[int, int]) -> list[float]:
    """Milliseconds per pair: decode, corrupt, geometry of both views, collate."""
    paths = [str(path) for path in sorted((root / "market1501" / "bounding_box_train").glob("*.jpg"))]
    policy, rng = CorruptionPolicy(), np.random.default_rng(0)
    cfg = configure(root, size)
    transform = TrainTransform(
        size, flip_prob=cfg.INPUT.PROB, padding=cfg.INPUT.PADDING, erasing_prob=cfg.INPUT.RE_PROB
    )
    read_image(paths[0])
    policy.apply(read_image(paths[0]), rng)
    decode, images = milliseconds(read_image, paths)
    corrupt, corrupted = milliseconds(lambda image: policy.apply(image, rng), images)
    geometry, pairs = milliseconds(lambda views: transform(*views, rng), list(zip(images, corrupted, strict=True)))
    samples = [{"images": image, "corrupted": other, "pids": 0} for image, other in pairs]
    batches = [samples[start : start + BATCH] for start in range(0, len(samples), BATCH)]
    collate = milliseconds(default_collate, batches)[0] * len(batches) / len(samples)
    return [decode, corrupt, geometry, collate]


def pairs_per_second(root: Path, size: tuple[int, int], *opts: str) -> float:
    loader = make_dataloader(configure(root, size, *opts)).train
    pairs, start = 0, 0.0
    for epoch in range(1 + EPOCHS):
        if epoch == 1:
            pairs, start = 0, time.perf_counter()
        loader.batch_sampler.set_epoch(epoch)
        pairs += sum(len(batch["pids"]) for batch in loader)
    return pairs / (time.perf_counter() - start)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    logging.disable(logging.WARNING)  # every loader would warn that the rendered sets are not Market-1501
    with tempfile.TemporaryDirectory() as directory:
        roots = write_images(Path(directory))
        sizes = [(SMALL, SMALL), (SMALL, LARGE), (LARGE, LARGE)]  # of the images, of the batch
        titles = [f"{a[0]} x {a[1]} -> {b[0]} x {b[1]}" for a, b in sizes]
        torch.set_num_threads(1)
        rows = []
        for title, (found, size) in zip(titles, sizes, strict=True):
            steps = breakdown(roots[found], size)
            rows.append((title, *(f"{step:.2f}" for step in (*steps, sum(steps))), f"{1000 / sum(steps):.0f}"))
        header = ["ms per pair, one process", "decode", "corrupt", "geometry", "collate", "sum", "pairs/s"]
        print(make_table(header, rows, "lr"), flush=True)
        rows = []
        for title, (found, size) in zip(titles, sizes, strict=True):
            for workers in ("1", "2"):
                options = (
                    ["DATALOADER.CACHE", "none"],
                    ["DATALOADER.CACHE", "ram"],
                    ["CORRUPTION.BACKEND", "imagecorruptions"],
                )
                speeds = [
                    pairs_per_second(roots[found], size, "DATALOADER.NUM_WORKERS", workers, *opts) for opts in options
                ]
                rows.append((title, workers, *(f"{speed:.0f}" for speed in speeds)))
        header = ["pairs/s from the loader", "workers", "fast", "fast, cached", "imagecorruptions"]
        print(f"\n{make_table(header, rows, 'lr')}")


if __name__ == "__main__":
    main()
