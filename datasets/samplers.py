"""Which pictures make a training batch; every epoch's batches are a pure function of (seed, epoch)."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from utils.errors import UserError
from utils.seeds import derive_generator


class SampleKey(NamedTuple):
    """What the sampler asks the data set for: picture `index`, as draw number `position` of `epoch`."""

    index: int
    epoch: int
    position: int


class EpochBatchSampler(Sampler, ABC):
    """Base of the batch samplers: call set_epoch before each epoch; yields lists of SampleKey."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draws the batches of `epoch`, counted from 0."""
        self.epoch = epoch
        self.batches = self.draw_batches(derive_generator(self.seed, "sampler", epoch))
        if not self.batches:
            raise UserError("the training set gives no batch of two or more pictures; raise SOLVER.IMS_PER_BATCH")

    @abstractmethod
    def draw_batches(self, rng: np.random.Generator) -> list[list[int]]:
        """The epoch's batches of picture indices."""

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        position = 0
        for batch in self.batches:
            yield [SampleKey(index, self.epoch, position + offset) for offset, index in enumerate(batch)]
            position += len(batch)


class RandomBatchSampler(EpochBatchSampler):
    """Every picture once an epoch, in random order; a last batch of one picture is left out (BatchNorm needs two)."""

    def __init__(self, num_pictures: int, batch_size: int, seed: int) -> None:
        self.num_pictures, self.batch_size = num_pictures, batch_size
        super().__init__(seed)

    def draw_batches(self, rng: np.random.Generator) -> list[list[int]]:
        order = rng.permutation(self.num_pictures).tolist()
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [batch for batch in batches if len(batch) > 1]


class IdentityBatchSampler(EpochBatchSampler):
    """P identities x K pictures (Hermans et al., 2017), as the TransReID family draws them.

    An epoch cuts each identity's shuffled pictures into groups of K (an identity with fewer than K repeats some; what
    is left over waits for the next epoch) and deals groups of P different identities until fewer than P are left.

    Args:
        labels: identity of every picture.
        batch_size: P x K.
        num_instances: K.
    """

    def __init__(self, labels: Sequence[int], batch_size: int, num_instances: int, seed: int) -> None:
        labels = np.asarray(labels)
        self.num_identities, self.num_instances = batch_size // num_instances, num_instances
        self.indices = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
        if len(self.indices) < self.num_identities:
            raise UserError(
                f"the training set has {len(self.indices)} identities, a batch of {batch_size} = "
                f"{self.num_identities} identities x {num_instances} pictures needs {self.num_identities}; "
                "lower SOLVER.IMS_PER_BATCH or raise DATALOADER.NUM_INSTANCE"
            )
        super().__init__(seed)

    def draw_batches(self, rng: np.random.Generator) -> list[list[int]]:
        groups = {label: self._groups(indices, rng) for label, indices in self.indices.items()}
        batches = []
        while len(groups) >= self.num_identities:
            chosen = rng.choice(list(groups), self.num_identities, replace=False).tolist()
            batches.append([index for label in chosen for index in groups[label].pop()])
            groups = {label: rest for label, rest in groups.items() if rest}
        return batches

    def _groups(self, indices: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        if len(indices) < self.num_instances:
            repeated = rng.choice(indices, self.num_instances - len(indices), replace=True)
            indices = np.concatenate([indices, repeated])
        order = rng.permutation(indices).tolist()
        size = self.num_instances
        return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
