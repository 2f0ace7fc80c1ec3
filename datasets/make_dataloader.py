"""Makes the loaders of a configuration."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch.utils.data import DataLoader
from yacs.config import CfgNode

from corruption import make_corruption_set, make_train_policy
from datasets.corrupted_copy import original_of
from datasets.decoding import cached
from datasets.image_dataset import TrainImages
from datasets.loaders import Reader, make_loader, make_test_loaders
from datasets.readers.registry import read_dataset
from datasets.readers.validation import count_sides, labels_of
from datasets.sampled_gallery import sample_gallery
from datasets.samplers import make_batch_sampler
from datasets.several_sets import parts_of, set_of_images
from datasets.transforms import TrainTransform
from utils.images import read_image
from utils.seeds import derive_seed
from utils.side_numbers import find_sides
from utils.stages import current_stage
from utils.structures import DataBundle, DatasetSplits, Sides

logger = logging.getLogger(__name__)


def make_dataloader(cfg: CfgNode, *, with_train: bool = True, splits: DatasetSplits | None = None) -> DataBundle:
    """Makes the loaders for cfg.CFAT.STAGE (the last of cfg.CFAT.STAGES where it is empty) and for testing.

    Args:
        cfg: configuration.
        with_train: also make the training loader.
        splits: what `read_dataset(cfg)` returned; None: the data sets are read here.

    Raises:
        UserError: images are missing or damaged, or the training set is too small for a batch.
    """
    splits = splits or read_dataset(cfg, with_train=with_train)
    tests = splits.tests or ((splits,) if splits.query else ())  # none where validation alone was read
    for tested in tests:
        _warn_of_corrupted_copy(cfg, tested.name)
    read: Reader = read_image
    if cfg.DATALOADER.CACHE == "ram":
        records = [
            splits.train if with_train else (),
            *(one for tested in (*tests, *splits.validation) for one in (tested.query, tested.gallery)),
        ]
        read = cached([record.path for part in records for record in part])
    bundle = _make_bundle(cfg, splits, read)
    if splits.tests:
        bundle = replace(bundle, tests=tuple(_make_bundle(cfg, tested, read) for tested in tests))
    validation = zip(splits.validation, _sides_of(splits.validation, splits), strict=True)
    bundle = replace(
        bundle, validation=tuple(replace(_make_bundle(cfg, one, read), sides=sides) for one, sides in validation)
    )
    if not with_train:
        return bundle
    bundle = bundle.with_sides(_sides_of(tests, splits))
    return replace(bundle, train=_make_train_loader(cfg, splits, read))


def _sides_of(tested: Sequence[DatasetSplits], train: DatasetSplits) -> list[Sides | None]:
    """Where the cameras of each test set begin among those of the training sets."""
    found = [find_sides(one.name, parts_of(train)) for one in tested]
    return [one and one.sides for one in found]


def _warn_of_corrupted_copy(cfg: CfgNode, name: str) -> None:
    if original_of(name) and (list(cfg.TEST.PROTOCOLS) != ["clean"] or cfg.TEST.MATRIX):
        logger.warning(
            "%s is corrupted already, and TEST.PROTOCOLS or TEST.MATRIX would corrupt it once more; "
            "its own results are those of TEST.PROTOCOLS \"['clean']\"",
            name,
        )


def _make_bundle(cfg: CfgNode, splits: DatasetSplits, read: Reader) -> DataBundle:
    """The loaders of a data set, without that of its training set."""
    loaders, (num_cameras, num_views) = make_test_loaders(cfg, splits, read), count_sides(splits)
    return DataBundle(
        splits=splits,
        train=None,
        test_loader=loaders,
        read_test_image=loaders.image,
        test_corruptions=loaders.corruptions,
        num_classes=len({record.pid for record in splits.train}),
        num_cameras=num_cameras,
        num_views=num_views,
        corruptions=make_corruption_set(cfg, loaders.policy),
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
    batches = make_batch_sampler(cfg, labels, seed, set_of_images(splits))
    return make_loader(images, workers, batch_sampler=batches, persistent_workers=workers > 0)
