import os

import numpy as np
import pytest
from PIL import Image

from datasets.decoding import find_unreadable, leave_out
from datasets.readers.locate import SUFFIXES
from datasets.readers.validation import all_records
from utils.images import FORMATS
from utils.structures import DatasetSplits, ImageRecord


def write(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)).save(path)
    return path


def make_zero(path):
    path.touch()


def make_truncated(path):
    whole = write(path).read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])


def make_head_alone(path):
    path.write_bytes(write(path).read_bytes()[:20])


def make_text(path):
    path.write_text("<html>404 not found</html>")


def make_dangling(path):
    path.symlink_to("nowhere.jpg")


def make_directory(path):
    path.mkdir()


def make_missing(path):
    pass


DAMAGED = [
    ("zero.jpg", make_zero, "cannot identify image file"),
    ("zero.png", make_zero, "cannot identify image file"),
    ("truncated.jpg", make_truncated, "Premature end of JPEG file"),
    ("truncated.png", make_truncated, "image file is truncated"),
    ("head.jpg", make_head_alone, "cannot be read"),
    ("head.png", make_head_alone, "cannot be read"),
    ("text.jpg", make_text, "cannot identify image file"),
    ("missing.jpg", make_missing, "No such file or directory"),
    ("dangling.jpg", make_dangling, "No such file or directory"),
    ("directory.jpg", make_directory, "is no regular file"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGED)
def test_damaged_images(tmp_path, name, damage, message):
    path, whole = str(tmp_path / name), str(write(tmp_path / "whole.jpg"))
    damage(tmp_path / name)
    ((found, error),) = find_unreadable([whole, path]).items()
    assert found == path
    assert f" {path}: cannot be read (" in error
    assert message in error
    assert "fetch it anew" in error


def test_every_suffix_has_its_format():
    Image.init()
    assert {Image.registered_extensions()[suffix] for suffix in SUFFIXES} == set(FORMATS)


def test_whole_images(tmp_path):
    (tmp_path / "link.jpg").symlink_to("a.png")
    assert find_unreadable(str(write(tmp_path / name)) for name in ("a.jpg", "a.png", "a.bmp", "link.jpg")) == {}
    assert find_unreadable([]) == {}


def test_errors_stand_in_the_order_of_the_paths(tmp_path):
    paths = [str(tmp_path / f"{index}.jpg") for index in (3, 1, 2, 1)]
    assert list(find_unreadable(paths)) == paths[:3]


def splits_of(tmp_path):
    names = {"train": ["a.jpg", "b.jpg"], "query": ["c.jpg"], "gallery": ["b.jpg", "d.png"]}
    records = {
        split: tuple(ImageRecord(str(tmp_path / name), pid, 0) for pid, name in enumerate(files))
        for split, files in names.items()
    }
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.png"):
        write(tmp_path / name)
    return DatasetSplits(**records, name="folder", root=str(tmp_path), version="own")


def test_a_data_set_without_damaged_images(tmp_path):
    splits = splits_of(tmp_path)
    make_truncated(tmp_path / "b.jpg")
    make_zero(tmp_path / "e.jpg")
    (tmp_path / "e.jpg").replace(tmp_path / "d.png")
    unreadable = find_unreadable(record.path for record in all_records(splits))
    assert list(unreadable) == [str(tmp_path / "b.jpg"), str(tmp_path / "d.png")]  # b.jpg is in two splits
    left = leave_out(splits, unreadable)
    assert (left.train, left.query, left.gallery) == (splits.train[:1], splits.query, ())
    assert (left.name, left.root, left.version) == ("folder", str(tmp_path), "own")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_that_must_not_be_read(tmp_path):
    path = write(tmp_path / "a.jpg")
    path.chmod(0)
    assert "cannot be read ([Errno 13] Permission denied" in find_unreadable([str(path)])[str(path)]
