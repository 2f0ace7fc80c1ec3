"""Which images make a training batch; the batches of an epoch are a pure function of (seed, epoch).

Each process of several takes its shard of the batches that one process would see, and every image is corrupted and
augmented as it would be there: results do not depend on which process an image falls to.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler
from yacs.config import CfgNode

from utils import distributed
from utils.errors import UserError
from utils.seeds import derive_generator


@dataclass(frozen=True)
class SampleKey:
    """What a sampler asks a data set for: image `index`, as sample number `position` of `epoch`."""

    index: int
    epoch: int
    position: int


@dataclass(frozen=True)
class Shard:
    """Process `rank` of `world_size`, which works on its shard of every batch."""

    rank: int = 0
    world_size: int = 1


def make_batch_sampler(cfg: CfgNode, labels: Sequence[int], seed: int, sets: Sequence[int] = ()) -> "EpochBatchSampler":
    """The sampler of DATALOADER.SAMPLER and BALANCE for this process.

    Args:
        cfg: configuration.
        labels: identity of every training image, from 0.
        seed: seeds the batches.
        sets: number of the data set of every training image; (): all are of one.

    Raises:
        UserError: a training set has too few images or identities for a batch.
    """
    batch_size, shard = cfg.SOLVER.IMS_PER_BATCH, Shard(distributed.rank(), distributed.world_size())
    with_triplets = cfg.DATALOADER.SAMPLER == "softmax_triplet"
    num_instances = cfg.DATALOADER.NUM_INSTANCE if with_triplets else 1
    if len(set(sets)) > 1 and cfg.DATALOADER.BALANCE == "sets":
        return SetBatchSampler(labels, sets, batch_size, num_instances, seed, shard, with_triplets=with_triplets)
    if with_triplets:
        return IdentityBatchSampler(labels, batch_size, num_instances, seed, shard)
    return RandomBatchSampler(len(labels), batch_size, seed, shard)


def check_batch_size(batch_size: int, world_size: int, num_instances: int = 1) -> None:
    """Raises UserError unless a batch is whole identities of `num_instances` images, the same number per process."""
    if batch_size % world_size:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {batch_size} is the batch of all {world_size} processes; expected a multiple of "
            f"{world_size}, e.g. {-(-batch_size // world_size) * world_size}"
        )
    if batch_size % num_instances or batch_size // num_instances % world_size:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH {batch_size} = {batch_size / num_instances:g} identities x {num_instances} images "
            f"(DATALOADER.NUM_INSTANCE) for {world_size} processes: each takes whole identities; expected "
            f"SOLVER.IMS_PER_BATCH a multiple of {world_size * num_instances}"
        )


def check_balance(batch_size: int, num_sets: int, num_instances: int = 1) -> None:
    """Raises UserError unless every one of `num_sets` gives a batch the same number of identities or images."""
    if batch_size % (num_sets * num_instances):
        unit = "images" if num_instances == 1 else f"identities x {num_instances} images"
        raise UserError(
            f"DATALOADER.BALANCE sets: SOLVER.IMS_PER_BATCH {batch_size} = {batch_size / num_instances:g} {unit}; "
            f"each of {num_sets} training sets gives as many; expected SOLVER.IMS_PER_BATCH a multiple of "
            f"{num_sets * num_instances}"
        )


class EpochBatchSampler(Sampler, ABC):
    """Base of the batch samplers: yields this process's shard of every batch, lists of SampleKey.

    Call set_epoch before each epoch. The batches depend on the arguments, the epoch and the first batch alone, so the
    last two are the whole state.

    Args:
        batch_size: images of a batch, over all processes.
        seed: seeds the batches of every epoch.
        shard: which process this is.
    """

    def __init__(self, batch_size: int, seed: int, shard: Shard) -> None:
        self.batch_size, self.seed, self.shard = batch_size, seed, shard
        self.set_epoch(0)

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Samples the batches of `epoch`, counted from 0; iteration starts at `first_batch`, to resume mid-epoch."""
        self.epoch, self.first_batch = epoch, first_batch
        self.batches = self.sample_batches(derive_generator(self.seed, "sampler", epoch))
        if not self.batches:
            raise UserError(
                "the training set gives no batch with two images in each process: expected more images, a larger "
                "SOLVER.IMS_PER_BATCH, or fewer processes"
            )

    @abstractmethod
    def sample_batches(self, rng: np.random.Generator) -> list[list[int]]:
        """The epoch's batches of image indices, of all processes; their lengths are multiples of world_size."""

    def __len__(self) -> int:
        """Batches of the whole epoch, the same in every process and wherever iteration starts."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        position = 0
        for number, batch in enumerate(self.batches):
            size = len(batch) // self.shard.world_size
            first = self.shard.rank * size
            if number >= self.first_batch:
                yield [SampleKey(batch[offset], self.epoch, position + offset) for offset in range(first, first + size)]
            position += len(batch)


class RandomBatchSampler(EpochBatchSampler):
    """Every image once an epoch, in random order.

    The last batch is the rest: cut to a multiple of the number of processes, and dropped where a process would have
    fewer than two images (BatchNorm needs two).
    """

    def __init__(self, num_images: int, batch_size: int, seed: int, shard: Shard = Shard()) -> None:
        check_batch_size(batch_size, shard.world_size)
        self.num_images = num_images
        super().__init__(batch_size, seed, shard)

    def sample_batches(self, rng: np.random.Generator) -> list[list[int]]:
        order = rng.permutation(self.num_images).tolist()
        world_size = self.shard.world_size
        order = order[: len(order) // world_size * world_size]
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return [batch for batch in batches if len(batch) >= 2 * world_size]


class IdentityBatchSampler(EpochBatchSampler):
    """P identities x K images (Hermans et al., 2017), sampled as in the TransReID codebase.

    An epoch cuts each identity's shuffled images into groups of K (an identity with fewer than K repeats some; the rest
    waits for the next epoch) and forms batches from groups of P different identities until fewer than P are left. Each
    identity of a batch falls to one process.

    Args:
        labels: identity of every image.
        batch_size: P x K, of all processes.
        num_instances: K.
        seed, shard: see EpochBatchSampler.

    Raises:
        UserError: fewer than P identities, or the processes cannot take P / world_size identities each.
    """

    def __init__(
        self, labels: Sequence[int], batch_size: int, num_instances: int, seed: int, shard: Shard = Shard()
    ) -> None:
        check_batch_size(batch_size, shard.world_size, num_instances)
        self.num_identities, self.num_instances = batch_size // num_instances, num_instances
        array = np.asarray(labels)
        self.indices = {int(label): np.flatnonzero(array == label) for label in np.unique(array)}
        if len(self.indices) < self.num_identities:
            raise UserError(
                f"the training set has {len(self.indices)} identities, a batch of {batch_size} = "
                f"{self.num_identities} identities x {num_instances} images needs {self.num_identities}; lower "
                "SOLVER.IMS_PER_BATCH or raise DATALOADER.NUM_INSTANCE"
            )
        super().__init__(batch_size, seed, shard)

    def sample_batches(self, rng: np.random.Generator) -> list[list[int]]:
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


class SetBatchSampler(EpochBatchSampler):
    """Batches with the same number of identities, or of images, of every training set.

    Each set is sampled on its own, by IdentityBatchSampler or RandomBatchSampler, and gives every batch an equal share.
    An epoch is that of the set with the most batches; the others are sampled again until they have as many.

    Args:
        labels, sets: identity and data set of every image.
        batch_size, num_instances: P x K, and K.
        seed, shard: see EpochBatchSampler.
        with_triplets: identities; False: images in random order.

    Raises:
        UserError: the batch cannot be divided equally, or a set has too few identities or images for its share.
    """

    def __init__(
        self,
        labels: Sequence[int],
        sets: Sequence[int],
        batch_size: int,
        num_instances: int,
        seed: int,
        shard: Shard = Shard(),
        *,
        with_triplets: bool,
    ) -> None:
        check_batch_size(batch_size, shard.world_size, num_instances)
        numbers, own_labels, self.share = np.unique(sets), np.asarray(labels), batch_size // len(np.unique(sets))
        check_balance(batch_size, len(numbers), num_instances)
        self.parts: list[tuple[np.ndarray, EpochBatchSampler]] = []  # indices of the images of a set, and its sampler
        for number in numbers:
            indices = np.flatnonzero(np.asarray(sets) == number)
            try:
                sampler = (
                    IdentityBatchSampler(own_labels[indices].tolist(), self.share, num_instances, seed)
                    if with_triplets
                    else RandomBatchSampler(len(indices), self.share, seed)
                )
            except UserError as error:
                raise UserError(f"DATALOADER.BALANCE sets, set {number + 1} of DATASETS.NAMES: {error}") from error
            self.parts.append((indices, sampler))
        super().__init__(batch_size, seed, shard)

    def sample_batches(self, rng: np.random.Generator) -> list[list[int]]:
        shares = [self._shares(indices, sampler, rng) for indices, sampler in self.parts]
        count = max(map(len, shares))
        for own, (indices, sampler) in zip(shares, self.parts, strict=True):
            while len(own) < count:
                own += self._shares(indices, sampler, rng)
        batches = zip(*(own[:count] for own in shares), strict=True)
        return [[index for share in batch for index in share] for batch in batches]

    def _shares(self, indices: np.ndarray, sampler: EpochBatchSampler, rng: np.random.Generator) -> list[list[int]]:
        """The shares of one set in the batches of an epoch of its own; a smaller rest is left out."""
        shares = [indices[batch].tolist() for batch in sampler.sample_batches(rng) if len(batch) == self.share]
        if not shares:
            raise UserError(
                f"DATALOADER.BALANCE sets: a training set of {len(indices)} images gives no share of {self.share} "
                "images to a batch; expected a lower SOLVER.IMS_PER_BATCH"
            )
        return shares
