from dataclasses import replace

import pytest

from datasets.readers.validation import all_records, cameras_of, check_counts, check_not_empty, count, differences
from utils.errors import UserError
from utils.structures import Counts, DatasetSplits, ImageRecord


def records(*pids, camid=0):
    return tuple(ImageRecord(f"{index}.jpg", pid, camid) for index, pid in enumerate(pids))


SPLITS = DatasetSplits(
    records(5, 5, 7), records(0, 1, camid=2), records(0, 0, 1, 2, camid=4), name="market1501", root="data/market1501"
)
PUBLISHED = {"train": Counts(3, 2), "query": Counts(2, 2), "gallery": Counts(4, 3)}


def test_count():
    assert [count(SPLITS, split) for split in ("train", "query", "gallery")] == [(3, 2), (2, 2), (4, 3)]
    assert count(replace(SPLITS, train=()), "train") == (0, 0)


def test_distractors_are_images_of_no_one():
    with_distractors = replace(SPLITS, has_distractors=True)
    assert [count(with_distractors, split) for split in ("train", "query", "gallery")] == [(3, 2), (2, 1), (4, 2)]
    assert count(replace(with_distractors, gallery=records(0, 0)), "gallery") == (2, 0)


def test_all_records_and_cameras():
    assert all_records(SPLITS) == (*SPLITS.train, *SPLITS.query, *SPLITS.gallery)
    assert cameras_of(SPLITS) == {0, 2, 4}


def test_counts_as_published():
    assert differences(replace(SPLITS, published=PUBLISHED, published_cameras=3)) == {}
    check_counts(replace(SPLITS, published=PUBLISHED, published_cameras=3), refuse=True)


@pytest.mark.parametrize(
    "published", [{}, {"query": Counts(2, 2)}, {"train": Counts(None, 2)}, {"train": Counts(3, None)}]
)
def test_what_is_not_published_is_not_compared(published):
    assert differences(replace(SPLITS, published=published)) == {}


TRAIN = "train: 3 images of 2 identities"


@pytest.mark.parametrize(
    ("published", "cameras", "expected"),
    [
        ({**PUBLISHED, "train": Counts(4, 2)}, 3, f"{TRAIN}, published 4 images of 2 identities"),
        ({**PUBLISHED, "train": Counts(3, 1)}, 3, f"{TRAIN}, published 3 images of 1 identities"),
        ({"train": Counts(None, 9)}, 3, f"{TRAIN}, published 9 identities"),
        ({"train": Counts(9, None)}, 3, f"{TRAIN}, published 9 images"),
        (PUBLISHED, 6, "cameras: 3, published 6"),
    ],
)
def test_differences(published, cameras, expected):
    found = differences(replace(SPLITS, published=published, published_cameras=cameras))
    assert found == {expected.split(":")[0]: expected}


def test_an_empty_split_differs():
    assert list(differences(replace(SPLITS, query=(), published=PUBLISHED))) == ["query"]


def test_check_counts_refuses_or_warns(caplog):
    splits = replace(SPLITS, version="V2", published={**PUBLISHED, "train": Counts(4, 2)}, published_cameras=6)
    message = (
        "data/market1501: not market1501 (V2) as published: train: 3 images of 2 identities, published 4 images of "
        "2 identities; cameras: 3, published 6"
    )
    with pytest.raises(UserError) as caught:
        check_counts(splits, refuse=True)
    assert str(caught.value) == (
        f"{message}. Unpack the archive again, or accept a subset with DATASETS.CHECK_COUNTS False"
    )
    assert caplog.records == []
    check_counts(splits, refuse=False)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", message)]


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_empty_splits(split):
    check_not_empty(SPLITS, ("train", "query", "gallery"))
    empty = replace(SPLITS, **{split: ()})
    with pytest.raises(UserError, match=f"^data/market1501: no images for the {split} set of market1501; unpack"):
        check_not_empty(empty, ("train", "query", "gallery"))
    check_not_empty(empty, tuple({"train", "query", "gallery"} - {split}))
