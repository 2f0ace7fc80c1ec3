"""Makes the loaders of a configuration."""

import logging
from functools import partial

from torch.utils.data import DataLoader
from yacs.config import CfgNode

from corruption import make_corruption_set, make_train_policy
from datasets.corrupted_copy import original_of
from datasets.decoding import cached
from datasets.image_dataset import TrainImages
from datasets.loaders import Reader, make_loader, make_test_loaders
from datasets.readers.registry import read_dataset
from datasets.readers.validation import all_records, labels_of
from datasets.sampled_gallery import sample_gallery
from datasets.samplers import make_batch_sampler
from datasets.transforms import TrainTransform
from utils.images import read_image
from utils.seeds import derive_seed
from utils.stages import current_stage
from utils.structures import DataBundle, DatasetSplits

logger = logging.getLogger(__name__)


def make_dataloader(cfg: CfgNode, *, with_train: bool = True, splits: DatasetSplits | None = None) -> DataBundle:
    """Makes the loaders for cfg.CFAT.STAGE (the last of cfg.CFAT.STAGES where it is empty) and for testing.

    Args:
        cfg: configuration.
        with_train: also make the training loader.
        splits: what `read_dataset(cfg)` returned; None: the data set is read here.

    Raises:
        UserError: images are missing or damaged, or the training set is too small for a batch.
    """
    splits = splits or read_dataset(cfg, with_train=with_train)
    if original_of(splits.name) and (list(cfg.TEST.PROTOCOLS) != ["clean"] or cfg.TEST.MATRIX):
        logger.warning(
            "%s is corrupted already, and TEST.PROTOCOLS or TEST.MATRIX would corrupt it once more; "
            "its own results are those of TEST.PROTOCOLS \"['clean']\"",
            splits.name,
        )
    records = all_records(splits)
    used = records if with_train else (*splits.query, *splits.gallery)
    read: Reader = cached([record.path for record in used]) if cfg.DATALOADER.CACHE == "ram" else read_image
    test_loaders = make_test_loaders(cfg, splits, read)
    return DataBundle(
        splits=splits,
        train=_make_train_loader(cfg, splits, read) if with_train else None,
        test_loader=test_loaders,
        read_test_image=test_loaders.image,
        num_classes=len({record.pid for record in splits.train}),
        num_cameras=1 + max(record.camid for record in records),
        num_views=1 + max(record.viewid for record in records),
        corruptions=make_corruption_set(cfg, test_loaders.policy),
        sample_gallery=partial(sample_gallery, splits.gallery, cfg.SEED) if splits.samples_gallery else None,
    )


def _make_train_loader(cfg: CfgNode, splits: DatasetSplits, read: Reader) -> DataLoader:
    stage = current_stage(cfg)
    seed, labels = derive_seed(cfg.SEED, stage.name), labels_of(splits)
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
    images = TrainImages(
        records=splits.train,
        labels=labels,
        transform=transform,
        policy=make_train_policy(cfg) if stage.sees_corrupted else None,
        with_augmented=with_augmented,
        augmix=cfg.INPUT.AUGMIX and (with_augmented or not cfg.INPUT.SELF_ID),
        seed=seed,
        read=read,
    )
    workers = cfg.DATALOADER.NUM_WORKERS
    batches = make_batch_sampler(cfg, labels, seed)
    return make_loader(images, workers, batch_sampler=batches, persistent_workers=workers > 0)
