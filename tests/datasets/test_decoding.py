import os

import numpy as np
import pytest
from PIL import Image

from datasets import decoding
from datasets.decoding import drop_unreadable, find_unreadable
from datasets.faults import Faults
from utils.errors import UserError
from utils.images import read_image
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
    ("truncated.jpg", make_truncated, "image file is truncated"),
    ("truncated.png", make_truncated, "image file is truncated"),
    ("head.jpg", make_head_alone, "cannot be read"),
    ("head.png", make_head_alone, "cannot be read"),
    ("text.jpg", make_text, "cannot identify image file"),
    ("missing.jpg", make_missing, "No such file or directory"),
    ("dangling.jpg", make_dangling, "No such file or directory"),
    ("directory.jpg", make_directory, "Is a directory"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGED)
def test_damaged_pictures(tmp_path, name, damage, message):
    path, whole = str(tmp_path / name), str(write(tmp_path / "whole.jpg"))
    damage(tmp_path / name)
    ((found, fault),) = find_unreadable([whole, path]).items()
    assert found == path
    assert fault.startswith(f"picture {path}: cannot be read (")
    assert message in fault
    assert "fetch it anew" in fault


def test_whole_pictures(tmp_path):
    (tmp_path / "link.jpg").symlink_to("a.png")
    assert find_unreadable(str(write(tmp_path / name)) for name in ("a.jpg", "a.png", "a.bmp", "link.jpg")) == {}
    assert find_unreadable([]) == {}


def test_faults_stand_in_the_order_of_the_paths(tmp_path):
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


def test_nothing_is_dropped_where_all_is_well(tmp_path):
    splits, faults = splits_of(tmp_path), Faults()
    assert drop_unreadable(splits, faults) is splits
    assert faults.messages == []


def test_error_or_skip(tmp_path, caplog):
    splits, faults = splits_of(tmp_path), Faults()
    make_truncated(tmp_path / "b.jpg")
    make_zero(tmp_path / "e.jpg")
    (tmp_path / "e.jpg").replace(tmp_path / "d.png")
    left = drop_unreadable(splits, faults)
    assert (left.train, left.query, left.gallery) == (splits.train[:1], splits.query, ())
    assert (left.name, left.root, left.version) == ("folder", str(tmp_path), "own")
    assert [message.split(":")[0] for message in faults.messages] == [  # b.jpg is in two splits, and one fault
        f"picture {tmp_path / 'b.jpg'}",
        f"picture {tmp_path / 'd.png'}",
    ]
    with pytest.raises(UserError, match=r"b\.jpg: cannot be read \(image file is truncated(.|\n)*1 more such"):
        faults.settle("error")
    faults.settle("skip")
    assert "left out 2, picture" in caplog.text


@pytest.fixture
def decoded(monkeypatch):
    """The paths that were decoded so far."""
    paths = []

    def read(path):
        paths.append(os.path.basename(path))
        return read_image(path)

    monkeypatch.setattr(decoding, "read_image", read)
    return paths


def test_each_file_is_decoded_once_unless_it_changed(tmp_path, decoded):
    splits = splits_of(tmp_path)
    drop_unreadable(splits, Faults())
    assert sorted(decoded) == ["a.jpg", "b.jpg", "c.jpg", "d.png"]
    drop_unreadable(splits, Faults())
    assert len(decoded) == 4
    make_truncated(tmp_path / "a.jpg")
    assert list(find_unreadable([str(tmp_path / "a.jpg")])) == [str(tmp_path / "a.jpg")]
    assert decoded[4:] == ["a.jpg"]
    write(tmp_path / "a.jpg")
    assert find_unreadable([str(tmp_path / "a.jpg")]) == {}


def test_damaged_files_are_decoded_once_too(tmp_path, decoded):
    make_text(tmp_path / "a.jpg")
    path = str(tmp_path / "a.jpg")
    first = find_unreadable([path])
    assert find_unreadable([path]) == first
    assert decoded == ["a.jpg"]


def test_a_changed_file_of_the_same_size_is_decoded_again(tmp_path, decoded):
    path = write(tmp_path / "a.jpg")
    assert find_unreadable([str(path)]) == {}
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert list(find_unreadable([str(path)])) == [str(path)]
    assert len(decoded) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_picture_that_must_not_be_read(tmp_path):
    path = write(tmp_path / "a.jpg")
    path.chmod(0)
    assert "cannot be read ([Errno 13] Permission denied" in find_unreadable([str(path)])[str(path)]
