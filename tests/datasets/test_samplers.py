from collections import Counter

import numpy as np
import pytest

from datasets.samplers import IdentityBatchSampler, RandomBatchSampler, SetBatchSampler, Shard
from utils.errors import UserError

LABELS = [label for label, images in enumerate([9, 4, 6, 1, 13, 4, 8, 3]) for _ in range(images)]


def epochs(sampler, count=6):
    for epoch in range(count):
        sampler.set_epoch(epoch)
        yield [[key.index for key in batch] for batch in sampler]


def test_batches_are_identities_times_images():
    sampler = IdentityBatchSampler(LABELS, batch_size=12, num_instances=4, seed=1)
    for batches in epochs(sampler):
        assert len(batches) == len(sampler)
        for batch in batches:
            labels = Counter(LABELS[index] for index in batch)
            assert len(batch) == 12
            assert set(labels.values()) == {4}
        used = Counter(index for batch in batches for index in batch)
        repeated = {index for index, times in used.items() if times > 1}
        assert {LABELS[index] for index in repeated} <= {3, 7}  # only identities with fewer than 4 images


def test_every_image_is_seen_over_the_epochs():
    seen = {
        index
        for batches in epochs(IdentityBatchSampler(LABELS, 12, 4, seed=1), 20)
        for batch in batches
        for index in batch
    }
    assert seen == set(range(len(LABELS)))


def test_epochs_differ_and_repeat_with_the_seed():
    first = list(epochs(IdentityBatchSampler(LABELS, 8, 4, seed=3)))
    assert first == list(epochs(IdentityBatchSampler(LABELS, 8, 4, seed=3)))
    assert first != list(epochs(IdentityBatchSampler(LABELS, 8, 4, seed=4)))
    assert first[0] != first[1]


def test_keys_number_the_samples_of_an_epoch():
    sampler = IdentityBatchSampler(LABELS, 8, 4, seed=3)
    sampler.set_epoch(2)
    keys = [key for batch in sampler for key in batch]
    assert [key.position for key in keys] == list(range(len(keys)))
    assert {key.epoch for key in keys} == {2}


def test_a_set_without_batches():
    with pytest.raises(UserError, match=r"gives no batch with two images in each process: expected more images"):
        RandomBatchSampler(10, 1, seed=0)


def test_too_few_identities():
    with pytest.raises(UserError, match="has 8 identities, a batch of 40 = 10 identities x 4 images needs 10"):
        IdentityBatchSampler(LABELS, 40, 4, seed=1)


@pytest.mark.parametrize(("images", "sizes"), [(10, [4, 4, 2]), (9, [4, 4])])
def test_random_batches_see_every_image_once(images, sizes):
    for batches in epochs(RandomBatchSampler(images, 4, seed=0)):
        assert [len(batch) for batch in batches] == sizes
        assert len(np.unique(np.concatenate(batches))) == sum(sizes)


def make_identity(shard=Shard()):  # noqa: B008
    return IdentityBatchSampler(LABELS, 16, 4, 5, shard)


def make_random(shard=Shard()):  # noqa: B008
    return RandomBatchSampler(len(LABELS), 16, 5, shard)


@pytest.mark.parametrize("make", [make_identity, make_random])
@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_of_one(make, world_size):
    alone, ranks = make(), [make(Shard(rank, world_size)) for rank in range(world_size)]
    for epoch in range(4):
        for sampler in (alone, *ranks):
            sampler.set_epoch(epoch)
        assert len({len(list(sampler)) for sampler in ranks}) == 1
        assert {len(sampler) for sampler in ranks} == {len(list(ranks[0]))}
        for whole, *shares in zip(alone, *ranks, strict=False):  # the last random batch may be left out
            assert len({len(keys) for keys in shares}) == 1
            joined = [key for keys in shares for key in keys]
            assert joined == whole[: len(joined)]  # index, epoch and position: the same as in one process
            assert len(whole) - len(joined) < world_size
            labels = [{LABELS[key.index] for key in keys} for keys in shares]
            if make is make_identity:
                assert sum(map(len, labels)) == len(set.union(*labels)) == 4  # no identity in two processes


def test_the_last_random_batch_of_several_processes():
    for images, sizes in ((21, [8, 8, 4]), (19, [8, 8]), (20, [8, 8, 4])):
        for rank in range(2):
            (batches,) = epochs(RandomBatchSampler(images, 8, 0, Shard(rank, 2)), 1)
            assert [2 * len(batch) for batch in batches] == sizes


@pytest.mark.parametrize("make", [make_identity, make_random])
def test_going_on_in_the_middle_of_an_epoch(make):
    sampler = make(Shard(1, 2))
    sampler.set_epoch(3)
    whole = list(sampler)
    for first in range(len(whole) + 1):
        resumed = make(Shard(1, 2))
        resumed.set_epoch(3, first)
        assert list(resumed) == whole[first:]
        assert len(resumed) == len(whole)
    sampler.set_epoch(4)
    assert len(list(sampler)) == len(sampler)  # the next epoch starts from its beginning


def test_what_cannot_be_shared():
    with pytest.raises(UserError, match="12 = 3 identities x 4 .* 2 processes.* SOLVER.IMS_PER_BATCH a"):
        IdentityBatchSampler(LABELS, 12, 4, 0, Shard(0, 2))
    with pytest.raises(UserError, match="IMS_PER_BATCH 10 is the batch of all 4 processes; .* multiple of 4, e.g. 12"):
        RandomBatchSampler(40, 10, 0, Shard(0, 4))


SETS = [0 if label < 6 else 1 for label in LABELS]  # 37 images of 6 identities, 11 of 2


@pytest.mark.parametrize("with_triplets", [True, False])
def test_every_set_gives_a_batch_the_same_share(with_triplets):
    num_instances = 2 if with_triplets else 1
    sampler = SetBatchSampler(LABELS, SETS, 8, num_instances, seed=2, with_triplets=with_triplets)
    seen = set()
    for batches in epochs(sampler):
        assert len(batches) == len(sampler) >= 37 // 4 - 3
        for batch in batches:
            assert [SETS[index] for index in batch] == [0] * 4 + [1] * 4
            if with_triplets:
                assert Counter(LABELS[index] for index in batch) == dict.fromkeys({LABELS[i] for i in batch}, 2)
        seen |= {index for batch in batches for index in batch}
    assert seen == set(range(len(LABELS)))
    again = SetBatchSampler(LABELS, SETS, 8, num_instances, seed=2, with_triplets=with_triplets)
    assert list(epochs(sampler)) == list(epochs(again))


def test_the_longest_set_is_through_once_and_the_others_repeat():
    sampler = SetBatchSampler(LABELS, SETS, 8, 1, seed=2, with_triplets=False)
    (batches,) = epochs(sampler, 1)
    used = Counter(index for batch in batches for index in batch)
    assert len(batches) == 37 // 4
    assert {times for index, times in used.items() if SETS[index] == 0} == {1}
    assert sum(times for index, times in used.items() if SETS[index] == 1) == 4 * len(batches)


def test_shards_of_a_batch_of_several_sets():
    whole = SetBatchSampler(LABELS, SETS, 8, 2, seed=2, with_triplets=True)
    halves = [SetBatchSampler(LABELS, SETS, 8, 2, seed=2, shard=Shard(r, 2), with_triplets=True) for r in (0, 1)]
    assert [first + second for first, second in zip(*halves, strict=True)] == list(whole)


@pytest.mark.parametrize(
    ("batch_size", "num_instances", "message"),
    [
        (6, 2, "SOLVER.IMS_PER_BATCH 6 = 3 identities x 2 images; each of 2 training sets gives as many; .* of 4"),
        (12, 2, "set 2 of DATASETS.NAMES: the training set has 2 identities, .* needs 3"),
    ],
)
def test_a_set_that_cannot_give_its_share(batch_size, num_instances, message):
    with pytest.raises(UserError, match=message):
        SetBatchSampler(LABELS, SETS, batch_size, num_instances, seed=0, with_triplets=True)
    with pytest.raises(UserError, match="a training set of 11 images gives no share of 15 images"):
        SetBatchSampler(LABELS, SETS, 30, 1, seed=0, with_triplets=False)
