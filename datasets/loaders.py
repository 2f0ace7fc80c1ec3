"""Loaders of the test images, and the settings that all loaders share."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from corruption import CorruptionPolicy, make_test_policy
from datasets.image_dataset import TestImages
from utils.images import read_image
from utils.preprocessing import TestTransform
from utils.sharding import shard
from utils.structures import Condition, DatasetSplits

Reader = Callable[[str], np.ndarray]


def make_loader(images: Dataset, num_workers: int, **options: Any) -> DataLoader:
    """A DataLoader over `num_workers` processes that leaves the global RNG alone; `options` are DataLoader's."""
    return DataLoader(
        images,
        generator=torch.Generator(),  # without its own, a loader takes its seed from the global RNG, as training does
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        **options,
    )


def _start_worker(worker_id: int) -> None:
    cv2.setNumThreads(0)  # one thread a worker
    # Its own process group: Ctrl-C and torchrun's SIGTERM reach the main process alone, which saves its state first.
    os.setpgid(0, 0)


def make_test_loaders(cfg: CfgNode, splits: DatasetSplits, read: Reader = read_image) -> "TestLoaders":
    """The test loaders of a configuration."""
    return TestLoaders(
        splits=splits,
        transform=TestTransform(tuple(cfg.INPUT.SIZE_TEST)),
        policy=make_test_policy(cfg),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED,
        read=read,
    )


@dataclass(frozen=True)
class TestLoaders:
    """Makes the test loaders of a DataBundle: (split, condition, repeat) -> DataLoader."""

    __test__ = False  # pytest would collect it by its name

    splits: DatasetSplits
    transform: TestTransform
    policy: CorruptionPolicy
    batch_size: int
    num_workers: int
    seed: int
    read: Reader

    def _images(self, split: str, condition: Condition, repeat: int) -> TestImages:
        label = f"validation {split}" if self.splits.is_validation else split
        return TestImages(
            records=getattr(self.splits, split),
            root=self.splits.root,
            transform=self.transform,
            policy=self.policy,
            split=label,
            condition=condition,
            repeat=repeat,
            seed=self.seed,
            read=self.read,
        )

    def __call__(self, split: str, condition: Condition, repeat: int) -> DataLoader:
        images = self._images(split, condition, repeat)
        sampler = shard(len(images))
        return make_loader(images, self.num_workers, batch_size=self.batch_size, sampler=sampler)

    def image(self, split: str, index: int, condition: Condition, repeat: int) -> np.ndarray:
        """One image under a condition, at its own size, (H, W, 3) uint8 RGB."""
        return self._images(split, condition, repeat).image(index)

    def corruptions(self, split: str, condition: Condition, repeat: int) -> list[tuple[str, int] | None]:
        """Name and severity of the corruption of every image; None for a clean one."""
        images = self._images(split, condition, repeat)
        return [images.corruption(index) for index in range(len(images))]
