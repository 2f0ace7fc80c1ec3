from collections import Counter

import numpy as np
import pytest

from datasets.samplers import IdentityBatchSampler, RandomBatchSampler
from utils.errors import UserError

LABELS = [label for label, pictures in enumerate([9, 4, 6, 1, 13, 4, 8, 3]) for _ in range(pictures)]


def epochs(sampler, count=6):
    for epoch in range(count):
        sampler.set_epoch(epoch)
        yield [[key.index for key in batch] for batch in sampler]


def test_batches_are_identities_times_pictures():
    sampler = IdentityBatchSampler(LABELS, batch_size=12, num_instances=4, seed=1)
    for batches in epochs(sampler):
        assert len(batches) == len(sampler)
        for batch in batches:
            labels = Counter(LABELS[index] for index in batch)
            assert len(batch) == 12
            assert set(labels.values()) == {4}
        used = Counter(index for batch in batches for index in batch)
        repeated = {index for index, times in used.items() if times > 1}
        assert {LABELS[index] for index in repeated} <= {3, 7}  # only identities with fewer than 4 pictures


def test_every_picture_is_seen_over_the_epochs():
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


def test_keys_number_the_draws_of_an_epoch():
    sampler = IdentityBatchSampler(LABELS, 8, 4, seed=3)
    sampler.set_epoch(2)
    keys = [key for batch in sampler for key in batch]
    assert [key.position for key in keys] == list(range(len(keys)))
    assert {key.epoch for key in keys} == {2}


def test_a_set_without_batches():
    with pytest.raises(UserError, match=r"gives no batch of two or more pictures; raise SOLVER\.IMS_PER_BATCH"):
        RandomBatchSampler(10, 1, seed=0)


def test_too_few_identities():
    with pytest.raises(UserError, match="has 8 identities, a batch of 40 = 10 identities x 4 pictures needs 10"):
        IdentityBatchSampler(LABELS, 40, 4, seed=1)


@pytest.mark.parametrize(("pictures", "sizes"), [(10, [4, 4, 2]), (9, [4, 4])])
def test_random_batches_see_every_picture_once(pictures, sizes):
    for batches in epochs(RandomBatchSampler(pictures, 4, seed=0)):
        assert [len(batch) for batch in batches] == sizes
        assert len(np.unique(np.concatenate(batches))) == sum(sizes)
