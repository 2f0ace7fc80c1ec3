"""Training and test images as torch data sets: read, corrupt, transform."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from corruption import CorruptionPolicy, apply_condition, sample_condition, test_generator
from datasets.augment import augmix
from datasets.readers.validation import seed_label
from datasets.samplers import SampleKey
from datasets.transforms import TrainTransform
from utils.images import read_image
from utils.preprocessing import TestTransform
from utils.seeds import derive_generator
from utils.structures import Condition, ImageRecord

# Views that the consistency loss compares with the image: Hendrycks et al., AugMix, ICLR 2020.
NUM_AUGMENTED_VIEWS = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainImages(Dataset):
    """Training images, indexed by SampleKey; each sample has a new corruption and geometry.

    Args:
        records: the images.
        labels: identity of each, from 0.
        transform: geometry of the views.
        policy: which corruptions the corrupted view shows; None: no such view.
        with_augmented: also return further views of the clean image, each with its own geometry, as "augmented",
            (2, 3, H, W) uint8.
        augmix: AugMix, at the image's own size, of the further views where there are any; otherwise of every image
            right after reading, so that the corrupted view shows the mixed image too.
        seed: all randomness is a pure function of (seed, epoch, position in the epoch).
        read: reads the image at a path, (H, W, 3) uint8 RGB, which is not written to.
    """

    records: Sequence[ImageRecord]
    labels: Sequence[int]
    transform: TrainTransform
    policy: CorruptionPolicy | None
    seed: int
    with_augmented: bool = False
    augmix: bool = False
    read: Callable[[str], np.ndarray] = read_image

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> dict:
        record = self.records[key.index]
        rng = derive_generator(self.seed, "train", key.epoch, key.position)
        image = self.read(record.path)
        if self.augmix and not self.with_augmented:
            image = augmix(image, rng)
        corrupted = None if self.policy is None else self.policy.apply(image, rng)
        clean_view, corrupted_view = self.transform(image, corrupted, rng)
        sample = _sample(record, self.labels[key.index], clean_view)
        if corrupted_view is not None:
            sample["corrupted"] = corrupted_view
        if self.with_augmented:  # last, so that the other views are the same with and without them
            sample["augmented"] = torch.stack([self._further_view(image, rng) for _ in range(NUM_AUGMENTED_VIEWS)])
        return sample

    def _further_view(self, image: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        return self.transform.view(augmix(image, rng) if self.augmix else image, rng)


@dataclass(frozen=True, kw_only=True, eq=False)
class TestImages(Dataset):
    """Test images under a condition; an image's corruption is a pure function of (seed, split, path, repeat).

    Args:
        records: the images.
        root: directory that `validation.seed_label` takes paths relative to, so that a moved data set is corrupted
            alike.
        transform: resizes the images.
        policy: which corruptions condition "random" samples from.
        split: label that corruptions are seeded with: "query" or "gallery", with "validation " before those of a
            validation set.
        condition: clean, or which corruption.
        repeat: index of the repeat, from 0.
        seed, read: see TrainImages.
    """

    __test__ = False  # pytest would collect it by its name

    records: Sequence[ImageRecord]
    root: str
    transform: TestTransform
    policy: CorruptionPolicy
    split: str
    condition: Condition
    repeat: int
    seed: int
    read: Callable[[str], np.ndarray] = read_image

    def __len__(self) -> int:
        return len(self.records)

    def image(self, index: int) -> np.ndarray:
        """Image `index` under the condition, at its own size, (H, W, 3) uint8 RGB."""
        image = self.read(self.records[index].path)
        return apply_condition(image, self.condition, self.policy, self._generator(index))

    def corruption(self, index: int) -> tuple[str, int] | None:
        """Name and severity of the corruption of image `index`; None for a clean one."""
        return sample_condition(self.condition, self.policy, self._generator(index))

    def _generator(self, index: int) -> np.random.Generator:
        label = seed_label(self.records[index].path, self.root)
        return test_generator(self.seed, self.split, label, self.repeat)

    def __getitem__(self, index: int) -> dict:
        record = self.records[index]
        return _sample(record, record.pid, self.transform(self.image(index)))


def _sample(record: ImageRecord, label: int, images: torch.Tensor) -> dict:
    return {"images": images, "pids": label, "camids": record.camid, "viewids": record.viewid, "paths": record.path}
