"""From a configuration to batches."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from corruption import CorruptionPolicy, make_corruption_set, make_test_policy, make_train_policy
from datasets.cache import cached
from datasets.corrupted_copy import original_of
from datasets.image_dataset import TestImages, TrainImages
from datasets.readers.registry import read_dataset
from datasets.readers.validation import all_records
from datasets.samplers import EpochBatchSampler, IdentityBatchSampler, RandomBatchSampler, Share
from datasets.transforms import TestTransform, TrainTransform
from utils import distributed
from utils.images import read_image
from utils.seeds import derive_seed
from utils.stages import current_stage
from utils.structures import Condition, DataBundle, DatasetSplits

logger = logging.getLogger(__name__)

Reader = Callable[[str], np.ndarray]


def make_dataloader(cfg, *, with_train: bool = True, splits: DatasetSplits | None = None) -> DataBundle:
    """Loaders for cfg.CFAT.STAGE (the last of cfg.CFAT.STAGES where it is empty) and for testing.

    Args:
        cfg: configuration.
        with_train: also make the training loader.
        splits: the data set, read and checked before (by another stage, say); None: read here.

    Raises:
        UserError: data missing or damaged.
    """
    splits = splits or read_dataset(cfg, with_train=with_train)
    if original_of(splits.name) and (list(cfg.TEST.PROTOCOLS) != ["clean"] or cfg.TEST.MATRIX):
        logger.warning(
            "%s is corrupted already, and TEST.PROTOCOLS or TEST.MATRIX would corrupt it once more; "
            "its own numbers are those of TEST.PROTOCOLS \"['clean']\"",
            splits.name,
        )
    used = all_records(splits) if with_train else (*splits.query, *splits.gallery)
    read = cached(tuple(record.path for record in used)) if cfg.DATALOADER.CACHE == "ram" else read_image
    pids = sorted({record.pid for record in splits.train})
    test = TestLoaders(
        splits=splits,
        transform=TestTransform(tuple(cfg.INPUT.SIZE_TEST)),
        policy=make_test_policy(cfg),
        batch_size=cfg.TEST.IMS_PER_BATCH,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        seed=cfg.SEED,
        read=read,
    )
    label_of = {pid: label for label, pid in enumerate(pids)}
    return DataBundle(
        splits=splits,
        train=_make_train_loader(cfg, splits, label_of, read) if with_train else None,
        test_loader=test,
        read_test_image=test.picture,
        num_classes=len(pids),
        num_cameras=1 + max(record.camid for record in all_records(splits)),
        num_views=1 + max(record.viewid for record in all_records(splits)),
        corruptions=make_corruption_set(cfg, test.policy),
    )


def _make_train_loader(cfg, splits: DatasetSplits, label_of: dict[int, int], read: Reader) -> DataLoader:
    stage = current_stage(cfg)
    seed = derive_seed(cfg.SEED, stage.name)
    labels = [label_of[record.pid] for record in splits.train]
    transform = TrainTransform(
        tuple(cfg.INPUT.SIZE_TRAIN),
        flip_prob=cfg.INPUT.PROB,
        padding=cfg.INPUT.PADDING,
        erasing_prob=cfg.INPUT.RE_PROB,
        erasing_type=cfg.INPUT.ERASING_TYPE,
        mixing_coeff=tuple(cfg.INPUT.MIXING_COEFF),
        paired=cfg.INPUT.PAIRED_GEOMETRY,
    )
    with_augmented = stage.trains == "model" and cfg.INPUT.SELF_ID
    pictures = TrainImages(
        splits.train,
        labels,
        transform,
        make_train_policy(cfg) if stage.sees_corrupted else None,
        with_augmented=with_augmented,
        augmix=cfg.INPUT.AUGMIX and (with_augmented or not cfg.INPUT.SELF_ID),
        seed=seed,
        read=read,
    )
    batch_size, share = cfg.SOLVER.IMS_PER_BATCH, Share(distributed.rank(), distributed.world_size())
    sampler: EpochBatchSampler
    if cfg.DATALOADER.SAMPLER == "softmax_triplet":
        sampler = IdentityBatchSampler(labels, batch_size, cfg.DATALOADER.NUM_INSTANCE, seed, share)
    else:
        sampler = RandomBatchSampler(len(labels), batch_size, seed, share)
    workers = cfg.DATALOADER.NUM_WORKERS
    return _loader(pictures, workers, batch_sampler=sampler, persistent_workers=workers > 0)


def _loader(pictures, num_workers: int, **options) -> DataLoader:
    return DataLoader(
        pictures,
        generator=torch.Generator(),  # of its own: the global one, which training draws from, must not feel the loaders
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        **options,
    )


def _start_worker(worker_id: int) -> None:
    cv2.setNumThreads(0)  # one thread a worker: more of them would only fight for the cores
    # A group of its own: Ctrl-C, and torchrun's SIGTERM, are for the main process, which saves its state first.
    os.setpgid(0, 0)


@dataclass(frozen=True)
class TestLoaders:
    """Makes the test loaders of a DataBundle: (split, condition, repeat) -> DataLoader."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    splits: DatasetSplits
    transform: TestTransform
    policy: CorruptionPolicy
    batch_size: int
    num_workers: int
    seed: int
    read: Reader

    def _pictures(self, split: str, condition: Condition, repeat: int) -> TestImages:
        return TestImages(
            getattr(self.splits, split),
            self.splits.root,
            self.transform,
            self.policy,
            split=split,
            condition=condition,
            repeat=repeat,
            seed=self.seed,
            read=self.read,
        )

    def __call__(self, split: str, condition: Condition, repeat: int) -> DataLoader:
        pictures = self._pictures(split, condition, repeat)
        share = distributed.shard(len(pictures))
        return _loader(pictures, self.num_workers, batch_size=self.batch_size, sampler=share)

    def picture(self, split: str, index: int, condition: Condition, repeat: int) -> np.ndarray:
        """One picture under a condition, at its own size, (H, W, 3) uint8 RGB."""
        return self._pictures(split, condition, repeat).picture(index)
