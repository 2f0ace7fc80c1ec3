"""Which pictures make a training batch; every epoch's batches are a pure function of (seed, epoch).

With several processes, each takes its share of the same batches that one process would draw, and every picture is
drawn as it would be there: which process a picture falls to changes nothing about it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Share:
    """Process `rank` of `world_size`, which works on its share of every batch."""

    rank: int = 0
    world_size: int = 1


class EpochBatchSampler(Sampler, ABC):
    """Base of the batch samplers: yields this process's share of every batch, lists of SampleKey.

    Call set_epoch before each epoch. What it yields depends on the arguments, the epoch and the first batch alone, so
    that these two numbers are its whole state.

    Args:
        batch_size: pictures of a batch, over all processes.
        seed: of the draws.
        share: which process this is.
    """

    def __init__(self, batch_size: int, seed: int, share: Share) -> None:
        if batch_size % share.world_size:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH {batch_size} is the batch of all {share.world_size} processes; expected a "
                f"multiple of {share.world_size}, e.g. {-(-batch_size // share.world_size) * share.world_size}"
            )
        self.batch_size, self.seed, self.share = batch_size, seed, share
        self.set_epoch(0)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Draws the batches of `epoch`, counted from 0; iteration starts at `first_batch` of them, to go on in the
        middle of an epoch."""
        self.epoch, self.first_batch = epoch, first_batch
        self.batches = self.draw_batches(derive_generator(self.seed, "sampler", epoch))
        if not self.batches:
            raise UserError(
                "the training pictures give no batch with two of them in each process: expected more pictures, a "
                "larger SOLVER.IMS_PER_BATCH, or fewer processes"
            )

    @abstractmethod
    def draw_batches(self, rng: np.random.Generator) -> list[list[int]]:
        """The epoch's batches of picture indices, of all processes; their lengths are multiples of world_size."""

    def __len__(self) -> int:
        """Batches of the whole epoch, the same in every process and wherever iteration starts."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        position = 0
        for number, batch in enumerate(self.batches):
            size = len(batch) // self.share.world_size
            first = self.share.rank * size
            if number >= self.first_batch:
                yield [SampleKey(batch[offset], self.epoch, position + offset) for offset in range(first, first + size)]
            position += len(batch)


class RandomBatchSampler(EpochBatchSampler):
    """Every picture once an epoch, in random order.

    The last batch is what is left: of several processes cut to a multiple of them, and left out where a process would
    have fewer than two pictures (BatchNorm needs two).
    """

    def __init__(self, num_pictures: int, batch_size: int, seed: int, share: Share = Share()) -> None:
        self.num_pictures = num_pictures
        super().__init__(batch_size, seed, share)

    def draw_batches(self, rng: np.random.Generator) -> list[list[int]]:
        order = rng.permutation(self.num_pictures).tolist()
        world_size = self.share.world_size
        order = order[: len(order) // world_size * world_size]
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [batch for batch in batches if len(batch) >= 2 * world_size]


class IdentityBatchSampler(EpochBatchSampler):
    """P identities x K pictures (Hermans et al., 2017), as the TransReID family draws them.

    An epoch cuts each identity's shuffled pictures into groups of K (an identity with fewer than K repeats some; what
    is left over waits for the next epoch) and deals groups of P different identities until fewer than P are left.
    Several processes share the identities of a batch: none is in two of them.

    Args:
        labels: identity of every picture.
        batch_size: P x K, of all processes.
        num_instances: K.
        seed, share: see EpochBatchSampler.

    Raises:
        UserError: fewer than P identities, or P cannot be shared evenly.
    """

    def __init__(
        self,
        labels: Sequence[int],
        batch_size: int,
        num_instances: int,
        seed: int,
        share: Share = Share(),
    ) -> None:
        labels = np.asarray(labels)
        self.num_identities, self.num_instances = batch_size // num_instances, num_instances
        self.indices = {int(label): np.flatnonzero(labels == label) for label in np.unique(labels)}
        if self.num_identities % share.world_size:
            raise UserError(
                f"a batch of {batch_size} = {self.num_identities} identities x {num_instances} pictures cannot be "
                f"shared by {share.world_size} processes: each takes whole identities; expected SOLVER.IMS_PER_BATCH a "
                f"multiple of {share.world_size * num_instances}"
            )
        if len(self.indices) < self.num_identities:
            raise UserError(
                f"the training set has {len(self.indices)} identities, a batch of {batch_size} = "
                f"{self.num_identities} identities x {num_instances} pictures needs {self.num_identities}; "
                "lower SOLVER.IMS_PER_BATCH or raise DATALOADER.NUM_INSTANCE"
            )
        super().__init__(batch_size, seed, share)

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
