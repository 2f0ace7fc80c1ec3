"""Custom images in directories: what is read, numbered and sampled."""

import logging
import os
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image

from config import load_cfg
from datasets.readers import numbering
from datasets.readers.file_errors import FileErrors
from datasets.readers.folder import read_folder
from datasets.readers.registry import read_dataset
from utils.errors import UserError

PERSON = r"(?P<pid>[^/]+)/.+"
CAMERA = r"(?P<pid>[^/]+)/(?P<camid>[^_/]+)_.*"
ALL_SAMPLED = {"train": ".", "query": "", "gallery": "."}
QUERY_SAMPLED = {"train": "", "query": "", "gallery": "."}
GIVEN = {"train": "train", "query": "query", "gallery": "gallery"}


def write(root, *names):
    """Small PNG files of noise, whatever their suffix."""
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 4, 3), dtype=np.uint8)).save(root / name, format="PNG")
    return root


def read(root, directories=ALL_SAMPLED, pattern=PERSON, *, seed=0, train_share=0.5, errors=None):
    collected = FileErrors() if errors is None else errors
    splits = read_folder(root, collected, directories=directories, pattern=pattern, seed=seed, train_share=train_share)
    if errors is None:
        collected.raise_if_errors("error")
    return splits


def paths(records, root):
    return [os.path.relpath(record.path, root) for record in records]


def test_given_splits(tmp_path):
    root = write(
        tmp_path / "shop",
        *("train/12/a_1.png", "train/12/b_2.png", "train/7/x/b_3.jpg", "train/7/notes.png"),
        *("query/0003/a_1.webp", "gallery/3/c_1.png", "gallery/40/b_1.png"),
    )
    (root / "train" / "7" / "notes.png").rename(root / "train" / "7" / "notes.txt")
    splits = read(root, GIVEN, r"(?P<pid>\d+)/(.*/)?(?P<camid>[a-z])_(?P<viewid>\d)\.\w+")
    numbers = [[(r.pid, r.camid, r.viewid) for r in split] for split in (splits.train, splits.query, splits.gallery)]
    assert numbers == [[(12, 0, 0), (12, 1, 1), (7, 1, 2)], [(3, 0, 0)], [(3, 2, 0), (40, 1, 0)]]
    assert splits.train[2].path == str(root / "train" / "7" / "x" / "b_3.jpg")
    assert (splits.title, splits.root) == ("folder (shop)", str(root))
    assert splits.has_cameras
    assert splits.common_pids
    assert not splits.has_distractors


def test_identities_by_name_and_cameras_by_number(tmp_path, caplog):
    root = write(tmp_path, "train/zoe/10_1.png", "train/Ann/9_1.png", "query/bob/9_1.png", "gallery/bob/10_2.png")
    with caplog.at_level(logging.INFO):
        splits = read(root, GIVEN, CAMERA)
    assert [r.pid for r in (*splits.train, *splits.query, *splits.gallery)] == [0, 2, 1, 1]
    assert [r.camid for r in (*splits.train, *splits.query, *splits.gallery)] == [0, 1, 0, 1]
    assert "identities numbered by name, since 'Ann' is no number: Ann -> 0, bob -> 1, zoe -> 2" in caplog.text
    assert "camid numbered from 0: 9 -> 0, 10 -> 1" in caplog.text
    assert "viewid" not in caplog.text


def test_cameras_counted_from_0_are_not_reported(tmp_path, caplog):
    root = write(tmp_path, *(f"{pid}/{camera}_{n}.png" for pid in (5, 6) for camera in (0, 1) for n in (1, 2)))
    with caplog.at_level(logging.INFO):
        read(root, QUERY_SAMPLED, CAMERA)
    assert "numbered" not in caplog.text


def test_junk_and_pids_out_of_range(tmp_path, caplog):
    root = write(tmp_path, *(f"{pid}/{name}.png" for pid in ("-1", "0", "000002") for name in "ab"))
    with caplog.at_level(logging.INFO):
        splits = read(root, QUERY_SAMPLED)
    assert sorted({r.pid for r in splits.gallery}) == [0, 2]
    assert "2 images with pid -1 are junk, left out" in caplog.text
    write(root, "-2/a.png", "1000000001/a.png")
    errors = FileErrors()
    assert {r.pid for r in read(root, QUERY_SAMPLED, errors=errors).gallery} == {0, 2}
    for pid, message in zip(("-2", "1000000001"), errors.messages, strict=True):
        assert message == (
            f"{root}/{pid}/a.png: pid {pid}; expected a number from 0 to 1000000000, -1 for junk, or names for all "
            "identities"
        )
    write(root, "ann/a.png", "ann/b.png")  # one name, and all are names; junk stays junk
    assert {r.pid for r in read(root, QUERY_SAMPLED).gallery} == {0, 1, 2, 3, 4}


def test_a_camera_missing_in_some_files(tmp_path):
    root = write(tmp_path, "1/a_1.png", "1/b_1.png", "2/a_1.png", "2/b_1.png", "2/lost.png")
    pattern = r"(?P<pid>\d+)/((?P<camid>.)_)?.*"
    errors = FileErrors()
    splits = read(root, QUERY_SAMPLED, pattern, errors=errors)
    assert errors.messages == [f"{root}/2/lost.png: no camid; other images have one. Give it to all or to none"]
    assert len(splits.query) + len(splits.gallery) == 4
    for name in ("1/a_1", "1/b_1", "2/a_1", "2/b_1"):
        (root / f"{name}.png").rename(root / f"{name.replace('_', '')}.png")
    assert not read(root, QUERY_SAMPLED, pattern).has_cameras


def test_too_many_cameras(tmp_path, monkeypatch):
    monkeypatch.setattr(numbering, "MAX_CAMERAS", 3)
    root = write(tmp_path, *(f"1/{frame}_x.png" for frame in range(4)))
    message = r"4 different values of camid, numbered 0 -> 0, 1 -> 1, .*; expected at most 3\..*PATTERN.*something else"
    with pytest.raises(UserError, match=message):
        read(root, QUERY_SAMPLED, CAMERA)


def test_queries_with_cameras(tmp_path, caplog):
    rich = [f"rich/{camera}_{n}.png" for camera in "abc" for n in range(3)] + ["rich/d_0.png"]
    poor = ["poor/a_0.png", "poor/b_0.png", "poor/c_0.png"]
    alone = ["alone/a_0.png", "alone/a_1.png", "alone/a_2.png"]
    root = write(tmp_path, *rich, *poor, *alone)
    with caplog.at_level(logging.INFO):
        splits = read(root, QUERY_SAMPLED, CAMERA)
    sampled = Counter(path.split("_")[0] for path in paths(splits.query, root))
    assert {key: n for key, n in sampled.items() if key.startswith("rich")} == {"rich/a": 1, "rich/b": 1, "rich/c": 1}
    assert sum(key.startswith("poor") for key in sampled) == 1
    assert sum(sampled.values()) == 4
    assert len(splits.gallery) == 16 - 4
    assert splits.train == ()
    cameras = defaultdict(set)
    for record in splits.gallery:
        cameras[record.pid].add(record.camid)
    assert all(cameras[record.pid] - {record.camid} for record in splits.query)
    assert (
        "sampled with DATASETS.SPLIT.SEED 0: 4 queries of 2 identities; 1 other identities are in the gallery"
        in caplog.text
    )


def test_queries_without_cameras(tmp_path, caplog):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in "abc" for n in range(4)), "d/0.png")
    with caplog.at_level(logging.INFO):
        splits = read(root, QUERY_SAMPLED)
    assert [path[0] for path in paths(splits.query, root)] == ["a", "b", "c"]
    assert len(splits.gallery) == 10
    assert not splits.has_cameras
    assert {record.camid for record in (*splits.query, *splits.gallery)} == {0}
    assert "no cameras known" in caplog.text


def test_a_new_identity_changes_no_other_queries(tmp_path):
    root = write(tmp_path, *(f"{pid}/{camera}_{n}.png" for pid in range(6) for camera in (9, 10) for n in range(8)))
    before = paths(read(root, QUERY_SAMPLED, CAMERA).query, root)
    assert before == paths(read(root, QUERY_SAMPLED, CAMERA).query, root)
    assert before != paths(read(root, QUERY_SAMPLED, CAMERA, seed=1).query, root)
    write(root, "ann/x_1.png", "ann/x_2.png")  # turns the numbers of identities and cameras into names
    assert before == paths(read(root, QUERY_SAMPLED, CAMERA).query, root)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 4), (0.3, 2), (0.01, 1), (0.99, 6)])
def test_identities_are_sampled_for_training(tmp_path, share, expected, caplog):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in range(7) for n in range(2)))
    with caplog.at_level(logging.INFO):
        splits = read(root, train_share=share)
    train, test = ({r.pid for r in records} for records in (splits.train, (*splits.query, *splits.gallery)))
    assert len(train) == expected
    assert train | test == set(range(7))
    assert not train & test
    assert len(splits.query) == len(splits.gallery) == 7 - expected
    assert f"{expected} of 7 identities for training, {7 - expected} for testing" in caplog.text
    assert splits == read(root, train_share=share)
    others = [{r.pid for r in read(root, train_share=share, seed=seed).train} for seed in range(1, 5)]
    assert any(train != other for other in others)


def test_queries_from_a_gallery_of_its_own(tmp_path, caplog):
    root = write(tmp_path, "train/1/a.png", "train/2/a.png", *(f"test/{pid}/{n}.png" for pid in (2, 3) for n in "ab"))
    splits = read(root, {"train": "train", "query": "", "gallery": "test"})
    assert [r.pid for r in splits.train] == [1, 2]
    assert [r.pid for r in splits.query] == [r.pid for r in splits.gallery] == [2, 3]
    assert "1 identities are in the training and in the test set" in caplog.text


def test_nothing_to_sample_from(tmp_path):
    one_camera = write(tmp_path / "one", "1/a_1.png", "1/a_2.png", "2/a_1.png", "2/a_2.png")
    with pytest.raises(
        UserError, match="no query can be sampled from 4 images of 2 identities: each is seen by one camera"
    ):
        read(one_camera, QUERY_SAMPLED, CAMERA)
    single = write(tmp_path / "single", "1/a.png", "2/a.png", "x.png")
    with pytest.raises(UserError, match=r"each has one image alone\n1 left out before, the first: .*x\.png does not"):
        read(single, QUERY_SAMPLED)
    person = write(tmp_path / "person", "ann/a.png", "ann/b.png")
    with pytest.raises(UserError, match="one identity alone, ann, in 2 images: expected at least two"):
        read(person)


def test_names_that_do_not_match(tmp_path):
    root = write(tmp_path, "1/a.png", "1/b.png", "stray.png", "train/1.png")
    pattern, errors = r"(?P<pid>\d*)/?[a-z]*\.png", FileErrors()
    read(root, QUERY_SAMPLED, pattern, errors=errors)
    assert errors.messages == [
        f"{root}/stray.png: its pid is empty in DATASETS.FOLDER.PATTERN {pattern}. Rename or remove the file",
        f"{root}/train/1.png: train/1.png does not match DATASETS.FOLDER.PATTERN {pattern}. Rename or remove the file",
    ]
    with pytest.raises(UserError) as caught:
        read(root, QUERY_SAMPLED, r"(?P<pid>\d+)_.*")
    assert str(caught.value) == (
        rf"DATASETS.FOLDER.PATTERN (?P<pid>\d+)_.* matches none of the 4 images below {root}; it must match the "
        "whole of an image's path below that directory, e.g. 1/a.png"
    )
    with pytest.raises(UserError, match="unknown group camera; expected pid, camid, viewid"):
        read(root, QUERY_SAMPLED, r"(?P<pid>\d+)/(?P<camera>.).*")


def test_directories(tmp_path):
    root = write(tmp_path / "photos", "train/1/a.png", "test/2/a.png", "test/2/b.png")
    (root / "empty").mkdir()
    holds = "holds empty, test, train"
    with pytest.raises(
        UserError, match=rf"FOLDER\.TRAIN trian: {root}/trian does not exist; .*{holds}; did you mean train\?"
    ):
        read(root, {"train": "trian", "query": "", "gallery": "test"})
    with pytest.raises(UserError, match=f"{tmp_path}/potos does not exist; {tmp_path} holds photos; did you mean ph"):
        read(tmp_path / "potos")
    with pytest.raises(UserError, match=f"{root}/train/1/a.png is a file"):
        read(root, {"train": "train/1/a.png", "query": "", "gallery": "test"})
    with pytest.raises(UserError, match=rf"{root}/empty: no image below it; expected files that end in \.jpg, "):
        read(root, {"train": "empty", "query": "", "gallery": "test"})
    with pytest.raises(UserError, match=rf"FOLDER\.GALLERY: {root}/test lies in {root}, the directory of train"):
        read(root, {"train": ".", "query": "", "gallery": "test"})
    with pytest.raises(UserError, match='TRAIN and GALLERY are the same directory(.*)expected QUERY "", found train'):
        read(root, {"train": "test", "query": "train", "gallery": "test/../test"})


def test_a_link_in_a_loop_is_an_error(tmp_path):
    root = write(tmp_path, "1/a.png", "1/b.png")
    (root / "1" / "again").symlink_to(root)
    with pytest.raises(UserError, match="1/again: a symbolic link that leads back"):
        read(root, QUERY_SAMPLED)


def test_damaged_images_and_the_configuration(tmp_path):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in range(4) for n in range(3)))
    (root / "stray.png").write_bytes(b"")
    opts = [
        "DATASETS.NAMES",
        "folder",
        "DATASETS.ROOT_DIR",
        str(root),
        "DATASETS.FOLDER.TRAIN",
        ".",
        "DATASETS.FOLDER.QUERY",
        "",
        "DATASETS.FOLDER.GALLERY",
        ".",
    ]
    with pytest.raises(UserError, match=r"stray\.png does not match(.|\n)*ON_BAD_IMAGE skip"):
        read_dataset(load_cfg(opts=opts))
    splits = read_dataset(load_cfg(opts=[*opts, "DATASETS.ON_BAD_IMAGE", "skip"]))
    assert [len(split) for split in (splits.train, splits.query, splits.gallery)] == [6, 2, 4]
    (root / "stray.png").unlink()
    damaged = splits.train[0].path
    with open(damaged, "r+b") as file:
        file.truncate(60)
    with pytest.raises(UserError, match=f"{damaged}: cannot be read"):
        read_dataset(load_cfg(opts=opts))
    assert len(read_dataset(load_cfg(opts=[*opts, "DATASETS.ON_BAD_IMAGE", "skip"])).train) == 5


def test_queries_are_sampled_from_what_can_be_read(tmp_path, caplog):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in range(20) for n in range(2)))
    for pid in range(1, 20, 2):
        (root / str(pid) / "0.png").write_bytes(b"")
    opts = [
        "DATASETS.NAMES",
        "folder",
        "DATASETS.ROOT_DIR",
        str(root),
        "DATASETS.FOLDER.TRAIN",
        "",
        "DATASETS.FOLDER.QUERY",
        "",
        "DATASETS.FOLDER.GALLERY",
        ".",
    ]
    splits = read_dataset(load_cfg(opts=[*opts, "DATASETS.ON_BAD_IMAGE", "skip"]), with_train=False)
    assert sorted(record.pid for record in splits.query) == list(range(0, 20, 2))
    assert len(splits.gallery) == 20
    assert "no match" not in caplog.text
    for pid in range(0, 20, 2):
        (root / str(pid) / "0.png").unlink()
        (root / str(pid) / "0.png").symlink_to("1.png")  # the only other image of the query is the query
    with pytest.raises(UserError, match=r"10 of 10 queries have no match in the gallery, .* in another file: "):
        read_dataset(load_cfg(opts=[*opts, "DATASETS.ON_BAD_IMAGE", "skip"]), with_train=False)


def test_queries_without_a_match(tmp_path, caplog):
    root = write(tmp_path, "query/1/x_1.png", "query/2/x_1.png", "gallery/1/x_2.png", "gallery/2/x_2.png")
    opts = [
        "DATASETS.NAMES",
        "folder",
        "DATASETS.ROOT_DIR",
        str(root),
        "DATASETS.FOLDER.TRAIN",
        "",
        "DATASETS.FOLDER.PATTERN",
        CAMERA,
    ]
    with pytest.raises(UserError, match="2 of 2 queries have no match in the gallery, .* by another camera: "):
        read_dataset(load_cfg(opts=opts), with_train=False)
    write(root, "gallery/1/y_2.png")
    read_dataset(load_cfg(opts=opts), with_train=False)
    assert "1 of 2 queries have no match in the gallery" in caplog.text


def test_integers_with_a_point_are_integers(tmp_path, caplog):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in ("-1.0", "0", "7.0", "02.00") for n in range(2)))
    splits = read(root, QUERY_SAMPLED)
    assert Counter(r.pid for r in (*splits.query, *splits.gallery)) == {0: 2, 2: 2, 7: 2}
    assert "pid 0 counts as an identity here; where it marks distractors" in caplog.text


@pytest.mark.parametrize("other", ["01", "0001", "1.0", "+1", "\uff11", "\u200b1", "1.00"])
def test_names_are_text_and_what_looks_alike_is_reported(tmp_path, caplog, other):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in ("1", other, "2") for n in range(2)))
    splits = read(root, QUERY_SAMPLED)
    pids = {os.path.basename(os.path.dirname(r.path)): r.pid for r in (*splits.query, *splits.gallery)}
    assert set(pids) == {"1", other, "2"}
    assert sorted(pids.values()) == [0, 1, 2]
    assert "pid: 1 names that are written in several ways count as different names" in caplog.text
    assert repr(other) in caplog.text


@pytest.mark.parametrize(("one", "other"), [("Anna", "anna"), ("jos\u00e9", "jose\u0301")])
def test_names_that_differ_by_case_or_unicode_form(tmp_path, caplog, one, other):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in (one, other) for n in range(2)))
    assert {r.pid for r in read(root, QUERY_SAMPLED).query} == {0, 1}
    assert "count as different names" in caplog.text


@pytest.mark.parametrize("digits", [r"\d+", r"-?\d+", "[0-9]+", r"\d{1,4}", r"-?[0-9]*\d"])
def test_a_pattern_of_digits_says_number(tmp_path, caplog, digits):
    root = write(tmp_path, "1/c1_a.png", "0001/c2_b.png", "2/c01_a.png", "2/c2_b.png", "2/c2_c.png")
    splits = read(root, QUERY_SAMPLED, rf"(?P<pid>{digits})/c(?P<camid>{digits})_.+", errors=(errors := FileErrors()))
    assert errors.messages == []
    records = (*splits.query, *splits.gallery)
    assert Counter((r.pid, r.camid) for r in records) == {(1, 0): 1, (1, 1): 1, (2, 0): 1, (2, 1): 2}
    for pair in ("'0001' = '1'", "'01' = '1'"):
        assert f"are the same number, since DATASETS.FOLDER.PATTERN reads digits there: {pair}" in caplog.text


def test_cameras_are_text_too(tmp_path, caplog):
    root = write(tmp_path, *(f"{pid}/{camera}_{n}.png" for pid in (5, 6) for camera in ("1", "01") for n in (1, 2)))
    splits = read(root, QUERY_SAMPLED, CAMERA)
    assert {r.camid for r in (*splits.query, *splits.gallery)} == {0, 1}
    assert "camid: 1 names" in caplog.text


def test_what_does_not_merge_keeps_its_numbers(tmp_path, caplog):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in ("0010", "2", "007") for n in range(2)))
    assert [r.pid for r in read(root, QUERY_SAMPLED).query] == [10, 7, 2]
    assert "several ways" not in caplog.text


@pytest.mark.parametrize("name", ["-01", "-0001", "-1.5"])
def test_junk_is_minus_one_alone(tmp_path, name):
    root = write(tmp_path, *(f"{pid}/{n}.png" for pid in ("1", name) for n in range(2)))
    errors = FileErrors()
    found = read(root, QUERY_SAMPLED, errors=errors).gallery
    assert len(errors.messages) == 2 or len(found) == 2  # an error, or an identity by name


def test_machine_made_directories_are_no_identities(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    root = write(tmp_path, *(f"{pid}/{n}.jpg" for pid in ("#12", "_5", "anna") for n in range(2)))
    clean = read(root, QUERY_SAMPLED)
    write(root, *(f"{pid}/@eaDir/{n}.jpg/SYNOPHOTO_THUMB_M.jpg" for pid in ("#12", "_5", "anna") for n in range(2)))
    write(root, "#recycle/a.jpg", "#recycle/b.jpg", "__MACOSX/anna/._0.jpg", "$RECYCLE.BIN/c.jpg")
    assert read(root, QUERY_SAMPLED) == clean
    assert {r.pid for r in clean.gallery} == {0, 1, 2}
    assert "machine-made: 1 #recycle, 1 $RECYCLE.BIN, 3 @eaDir, 1 __MACOSX" in caplog.text
