"""Pictures as torch data sets: read, corrupt, transform."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from corruption import CorruptionPolicy, apply_condition, test_generator
from datasets.augmix import augmix
from datasets.readers.validation import seed_label
from datasets.samplers import SampleKey
from datasets.transforms import TestTransform, TrainTransform
from utils.images import read_image
from utils.seeds import derive_generator
from utils.structures import Condition, ImageRecord

# Views that the consistency loss compares with the picture: Hendrycks et al., AugMix, ICLR 2020.
NUM_AUGMENTED_VIEWS = 2


class TrainImages(Dataset):
    """Training pictures, indexed by SampleKey; each reading draws its corruption and geometry afresh.

    Args:
        records: pictures.
        labels: identity of each, from 0.
        policy: which corruptions the corrupted view shows; None: no such view.
        with_augmented: also give further views of the clean picture, each with a geometry of its own, as "augmented",
            (2, 3, H, W) uint8.
        augmix: AugMix, at the picture's own size, of the further views where there are any; otherwise of every picture
            right after reading, so that the corrupted view shows the mixed picture too.
        seed: draws are a pure function of (seed, epoch, position in the epoch).
        read: gives the picture of a path, (H, W, 3) uint8 RGB, which is not written to.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        labels: Sequence[int],
        transform: TrainTransform,
        policy: CorruptionPolicy | None,
        *,
        with_augmented: bool = False,
        augmix: bool = False,
        seed: int,
        read: Callable[[str], np.ndarray] = read_image,
    ) -> None:
        self.records, self.labels = records, labels
        self.transform, self.policy, self.read = transform, policy, read
        self.with_augmented, self.augmix, self.seed = with_augmented, augmix, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> dict:
        record = self.records[key.index]
        rng = derive_generator(self.seed, "train", key.epoch, key.position)
        image = self.read(record.path)
        if self.augmix and not self.with_augmented:
            image = augmix(image, rng)
        corrupted = None if self.policy is None else self.policy.apply(image, rng)
        images, corrupted = self.transform(image, corrupted, rng)
        sample = _sample(record, self.labels[key.index], images)
        if corrupted is not None:
            sample["corrupted"] = corrupted
        if self.with_augmented:  # drawn last, so that the other views are the same with and without them
            sample["augmented"] = torch.stack([self._further_view(image, rng) for _ in range(NUM_AUGMENTED_VIEWS)])
        return sample

    def _further_view(self, image: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        return self.transform.view(augmix(image, rng) if self.augmix else image, rng)


class TestImages(Dataset):
    """Test pictures under a condition; what a picture looks like is a pure function of (seed, split, path, repeat).

    Args:
        root: directory that `records.seed_label` takes paths relative to, so that a copy elsewhere is corrupted alike.
        split: "query" or "gallery".
        condition: how the pictures look.
        repeat: number of the draw, from 0.
        read: see TrainImages.
    """

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(
        self,
        records: Sequence[ImageRecord],
        root: str,
        transform: TestTransform,
        policy: CorruptionPolicy,
        *,
        split: str,
        condition: Condition,
        repeat: int,
        seed: int,
        read: Callable[[str], np.ndarray] = read_image,
    ) -> None:
        self.records, self.root, self.transform, self.policy = records, root, transform, policy
        self.split, self.condition, self.repeat, self.seed, self.read = split, condition, repeat, seed, read

    def __len__(self) -> int:
        return len(self.records)

    def picture(self, index: int) -> np.ndarray:
        """Picture `index` under the condition, at its own size."""
        path = self.records[index].path
        rng = test_generator(self.seed, self.split, seed_label(path, self.root), self.repeat)
        return apply_condition(self.read(path), self.condition, self.policy, rng)

    def __getitem__(self, index: int) -> dict:
        record = self.records[index]
        return _sample(record, record.pid, self.transform(self.picture(index)))


def _sample(record: ImageRecord, label: int, images: torch.Tensor) -> dict:
    return {"images": images, "pids": label, "camids": record.camid, "viewids": record.viewid, "paths": record.path}
