import json
import logging
import multiprocessing
import os
import resource
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from config import load_cfg
from datasets import temporary_sets
from datasets.readers import cuhk03_images
from datasets.readers.cuhk03 import PUBLISHED, PUBLISHED_CLASSIC, read_cuhk03
from datasets.readers.file_errors import FileErrors
from datasets.readers.registry import read_dataset
from datasets.readers.validation import check_counts, count
from tests.datasets.readers.make_cuhk03 import (
    BOXES,
    KEYS,
    NUM_SPLITS,
    PEOPLE,
    TEST_SIZE,
    TRAINED,
    key_of,
    make_cuhk03,
    make_images,
    make_testsets,
)
from utils.errors import UserError
from utils.images import read_image
from utils.structures import SPLIT_NAMES

FORK = multiprocessing.get_context("fork")
SPLIT_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    root = tmp_path_factory.mktemp("cuhk03")
    make_cuhk03(root)
    return root


@pytest.fixture
def root(released, tmp_path):
    """A data set of the test's own, nothing extracted yet."""
    return shutil.copytree(released, tmp_path / "data")


def read(root, **options):
    errors = FileErrors()
    splits = read_cuhk03(root, errors, **options)
    errors.raise_if_errors("error")
    return splits


def names_of(records):
    return [os.path.basename(record.path) for record in records]


def leftovers(directory):
    return [path.name for path in directory.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize("boxes", BOXES)
def test_new_protocol(root, boxes):
    images = make_images(boxes)
    splits = read(root, boxes=boxes)
    expected = {"train": [], "query": [], "gallery": []}
    for name in sorted(images):  # the rule by which protocol_arrays splits, once more
        pid, view = KEYS.index(key_of(name)) + 1, int(name[6])
        first = name == min(other for other in images if key_of(other) == key_of(name) and int(other[6]) == view)
        split = "train" if pid <= TRAINED else "query" if first else "gallery"
        expected[split].append((name, pid, view - 1))
    for split in SPLIT_NAMES:
        records = getattr(splits, split)
        assert [(os.path.basename(r.path), r.pid, r.camid) for r in records] == expected[split]
    assert count(splits, "train")[1] == TRAINED
    assert count(splits, "query") == (2 * (len(KEYS) - TRAINED), len(KEYS) - TRAINED)
    assert (splits.title, splits.root) == (f"cuhk03 ({boxes}, new protocol)", str(root / "cuhk03" / f"images_{boxes}"))
    assert (splits.published, splits.published_cameras) == (PUBLISHED[boxes], 2)
    assert splits.has_cameras
    assert not splits.has_distractors
    assert read(root, boxes=boxes) == splits


def test_boxes_are_kept_apart_and_images_are_exact(root):
    for boxes in BOXES:
        read(root, boxes=boxes)
        images = make_images(boxes)
        directory = root / "cuhk03" / f"images_{boxes}"
        assert {path.name for path in directory.iterdir()} == {*images, "contents.json"}
        for name, array in images.items():
            np.testing.assert_array_equal(read_image(directory / name), array)
    assert not leftovers(root / "cuhk03")


@pytest.mark.parametrize("classic_split", [1, 2, NUM_SPLITS])
def test_classic_splits(root, classic_split, caplog):
    caplog.set_level(logging.INFO)
    splits = read(root, boxes="labeled", classic_split=classic_split)
    images, tested = make_images("labeled"), make_testsets()[classic_split - 1]
    assert splits.query == splits.gallery
    assert names_of(splits.train) == sorted(name for name in images if key_of(name) not in tested)
    assert names_of(splits.query) == sorted(name for name in images if key_of(name) in tested)
    for record in (*splits.train, *splits.query):
        name = os.path.basename(record.path)
        assert record.pid == KEYS.index(key_of(name)) + 1
        assert record.camid == (int(name[8:10]) > 5)
    assert count(splits, "train")[1] == len(KEYS) - TEST_SIZE
    assert count(splits, "gallery")[1] == TEST_SIZE
    assert splits.title == f"cuhk03 (labeled, classic split {classic_split})"
    assert splits.published == PUBLISHED_CLASSIC
    assert "TEST.CMC single_gallery_shot" in caplog.text


@pytest.mark.parametrize("classic_split", [0, 3])
def test_once_extracted_the_mat_is_not_opened(root, classic_split):
    before = read(root, classic_split=classic_split)
    (root / "cuhk03" / "cuhk-03.mat").write_bytes(b"")
    assert read(root, classic_split=classic_split) == before
    (root / "cuhk03" / "cuhk-03.mat").unlink()
    assert read(root, classic_split=classic_split) == before
    with pytest.raises(UserError, match=r"cuhk-03\.mat missing"):
        read(root, boxes="labeled", classic_split=classic_split)


@pytest.mark.parametrize(
    ("mat", "protocols"),
    [
        ("cuhk03/cuhk03_release", "cuhk03"),
        ("cuhk03/cuhk03_release", "cuhk03/cuhk03_release"),
        ("cuhk03_release", "cuhk03_release"),
        ("cuhk03_release", "cuhk03"),
    ],
)
def test_places(tmp_path, mat, protocols):
    make_cuhk03(tmp_path, mat=mat, protocols=protocols)
    assert read(tmp_path).root == str(tmp_path / "cuhk03" / "images_detected")


def test_through_the_configuration(root):
    opts = ["DATASETS.NAMES", "cuhk03", "DATASETS.ROOT_DIR", str(root), "DATASETS.CUHK03.BOXES", "labeled"]
    splits = read_dataset(load_cfg(opts=[*opts, "DATASETS.CHECK_COUNTS", "False"]))
    assert splits == read(root, boxes="labeled")
    with pytest.raises(UserError, match=r"not cuhk03 \(labeled, new protocol\) as published: train: .*7368 images"):
        read_dataset(load_cfg(opts=opts))
    opts += ["DATASETS.CUHK03.CLASSIC_SPLIT", "2", "DATASETS.CHECK_COUNTS", "False"]
    assert read_dataset(load_cfg(opts=opts)) == read(root, boxes="labeled", classic_split=2)


def test_a_dry_run_extracts_to_a_temporary_directory(root):
    with temporary_sets():
        first, again = read(root), read(root)
        assert again == first
        assert all(os.path.exists(record.path) for record in first.train)
    assert not os.path.exists(first.root)
    assert not list((root / "cuhk03").glob("*images*"))
    assert names_of(read(root).train) == names_of(first.train)


def extract_some_and_wait(root, pipe):
    def some(title, iterable):
        yield from iterable[:3]
        pipe.send("three people written")
        time.sleep(60)

    cuhk03_images.ProgressBar = some
    read(root)


def test_a_killed_extraction_leaves_nothing_that_looks_complete(root):
    pipe, other = FORK.Pipe()
    process = FORK.Process(target=extract_some_and_wait, args=(root, other))
    process.start()
    try:
        assert pipe.poll(30)
    finally:
        process.kill()
        process.join()
    (partial,) = (root / "cuhk03").glob(".images_detected.*.partial")
    assert 20 < len(list(partial.glob("*.png"))) <= 30
    assert not (root / "cuhk03" / "images_detected").exists()
    kept = root / "cuhk03" / ".images_detected_old.partial"  # no leftover of ours
    kept.mkdir()
    splits = read(root)
    assert leftovers(root / "cuhk03") == [kept.name]
    total = sum(len(getattr(splits, split)) for split in SPLIT_NAMES)
    assert total == len(make_images("detected"))


def read_at(root, barrier, pipe):
    barrier.wait()
    pipe.send(read(root, classic_split=1))


def test_two_processes_at_once(root):
    barrier, pipes, started = FORK.Barrier(2), [], []
    for _ in range(2):
        pipe, other = FORK.Pipe()
        pipes.append(pipe)
        started.append(FORK.Process(target=read_at, args=(root, barrier, other)))
        started[-1].start()
    first, second = (pipe.recv() if pipe.poll(30) else None for pipe in pipes)
    for process in started:
        process.join()
    assert first == second == read(root, classic_split=1)
    assert not leftovers(root / "cuhk03")


def read_with_little_space(root, limit, pipe):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        read(root)
    except UserError as error:
        pipe.send(str(error))


def test_a_disk_that_takes_no_more(root):
    pipe, other = FORK.Pipe()
    process = FORK.Process(target=read_with_little_space, args=(root, 300, other))
    process.start()
    assert pipe.poll(30)
    message = pipe.recv()
    process.join()
    directory = root / "cuhk03" / "images_detected"
    assert message.startswith(f"cannot extract the images of {root / 'cuhk03' / 'cuhk-03.mat'} to {directory}: ")
    assert "free some space" in message
    assert not directory.exists()
    assert not leftovers(root / "cuhk03")


def test_a_place_that_cannot_be_written(tmp_path):
    make_cuhk03(tmp_path, mat="cuhk03_release", protocols="cuhk03_release")
    (tmp_path / "cuhk03").touch()  # where the directory would be made; a read-only one does not stop root
    with pytest.raises(UserError, match=r"cannot extract .*cuhk-03\.mat to .*images_detected: .*cuhk03 writable"):
        read(tmp_path)


def write_folders(directory, *, last_pid=7):
    for pid in range(0, last_pid + 1, 2):
        for folder in SPLIT_FOLDERS:
            (directory / folder).mkdir(parents=True, exist_ok=True)
            for camera in (1, 2):
                Image.new("RGB", (4, 8)).save(directory / folder / f"{pid:04d}_c{camera}_{20 + pid}.png")
    (directory / "readme.txt").touch()


@pytest.mark.parametrize("place", ["cuhk03", "cuhk03-np/labeled"])
def test_folders(root, place):
    write_folders(root / place)
    splits = read(root, boxes="labeled")
    assert (splits.root, splits.title) == (str(root / place), "cuhk03 (labeled, folders)")
    for split in SPLIT_NAMES:
        assert [(r.pid, r.camid) for r in getattr(splits, split)] == [(p, c) for p in (0, 2, 4, 6) for c in (0, 1)]
        assert count(splits, split) == (8, 4)  # pid 0 is an identity here
    assert names_of(splits.query)[:2] == ["0000_c1_20.png", "0000_c2_20.png"]
    assert splits.published == PUBLISHED["labeled"]
    message = r"not cuhk03 \(labeled, folders\) as published: train: 8 images of 4 identities, published 7368"
    with pytest.raises(UserError, match=message):
        check_counts(splits, refuse=True)


def test_folders_whose_name_says_the_boxes_come_first(tmp_path):
    write_folders(tmp_path / "cuhk03")
    write_folders(tmp_path / "cuhk03-np" / "labeled")
    assert read(tmp_path, boxes="labeled").root == str(tmp_path / "cuhk03-np" / "labeled")
    assert read(tmp_path, boxes="detected").root == str(tmp_path / "cuhk03")


def test_folders_do_not_serve_a_classic_split(tmp_path):
    write_folders(tmp_path / "cuhk03")
    with pytest.raises(UserError, match=r"CLASSIC_SPLIT 4 needs cuhk-03\.mat in .*/cuhk03/: ready-made folders"):
        read(tmp_path, classic_split=4)
    make_cuhk03(tmp_path)
    assert read(tmp_path, classic_split=4).version == "detected, classic split 4"
    assert read(tmp_path).version == "detected, folders"


def test_folders_in_part(tmp_path):
    write_folders(tmp_path / "cuhk03")
    shutil.rmtree(tmp_path / "cuhk03" / "query")
    with pytest.raises(UserError, match="query missing"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["person.png", "1_001_1_01.png"])
def test_a_name_that_does_not_parse_is_an_error(tmp_path, name):
    write_folders(tmp_path / "cuhk03")
    (tmp_path / "cuhk03" / "query" / name).touch()
    with pytest.raises(UserError, match=f"query/{name}: the name does not parse; expected <pid>_c<camera>_<number>"):
        read(tmp_path)


def test_counts_of_the_real_data_set_add_up():
    """Every detected and labeled image has its place in the new protocol."""
    totals = {boxes: sum(found.images for found in counts.values()) for boxes, counts in PUBLISHED.items()}
    assert totals == {"detected": 14097, "labeled": 14096}
    assert PUBLISHED_CLASSIC["train"].identities + PUBLISHED_CLASSIC["query"].identities == 767 + 700


def test_contents_name_what_was_extracted(root):
    read(root)
    contents = json.loads((root / "cuhk03" / "images_detected" / "contents.json").read_text())
    assert contents["people"] == list(PEOPLE)
    assert contents["testsets"] == [[list(person) for person in testset] for testset in make_testsets()]
    assert contents["pictures"] == sorted(make_images("detected"))
