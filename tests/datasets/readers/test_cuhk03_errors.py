"""Errors of a CUHK03 on disk: each names the file and what to do."""

import os
import shutil

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from datasets.readers.cuhk03 import read_cuhk03
from datasets.readers.file_errors import FileErrors
from tests.datasets.readers.make_cuhk03 import (
    KEYS,
    NUM_SPLITS,
    PEOPLE,
    key_of,
    make_cuhk03,
    make_images,
    make_testsets,
    protocol_arrays,
    protocol_file,
    write_mat,
)
from tests.datasets.readers.test_cuhk03 import leftovers, read, write_folders
from utils.errors import UserError


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    root = tmp_path_factory.mktemp("cuhk03")
    make_cuhk03(root)
    return root


@pytest.fixture
def root(released, tmp_path):
    """A data set of the test's own, nothing extracted yet."""
    return shutil.copytree(released, tmp_path / "data")


def test_nothing_there_says_what_to_do(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    for part in (
        "neither",
        str(tmp_path / "cuhk03" / "cuhk-03.mat"),
        "cuhk03_new_protocol_config_detected.mat",
        str(tmp_path / "cuhk03-np" / "detected"),
        "https://github.com/zhunzhong07",
    ):
        assert part in str(caught.value)
    with pytest.raises(UserError, match="DATASETS.ROOT_DIR: the directory .* does not exist"):
        read(tmp_path / "data")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("cuhk03_release.zip", r"found the archive .*cuhk03_release\.zip, which is not unpacked yet"),
        ("cuhk03/cuhk03_release.zip", r"found the archive .*cuhk03/cuhk03_release\.zip, which is not unpacked yet"),
        ("cuhk03-np.zip", r"found the archive .*cuhk03-np\.zip, which is not unpacked yet"),
        ("CUHK03-NP/detected/query/0001_c1_1.png", "CUHK03-NP/detected: bounding_box_train, bounding_box_test missing"),
        ("cuhk03-np/cuhk03-np/detected/query/0001_c1_1.png", "detected: bounding_box_train, bounding_box_test missing"),
        ("cuhk03-np/labeled/query/0001_c1_1.png", "cuhk03-np: detected missing"),
        ("cuhk03/Thumbs.db", r"cuhk03: cuhk-03\.mat missing"),
    ],
)
def test_not_quite_there(tmp_path, found, message):
    (tmp_path / found).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / found).touch()
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("place", ["CUHK03", "cuhk03/other", "downloads/cuhk03_release", "."])
def test_the_release_is_found_by_its_content(tmp_path, place):
    make_cuhk03(tmp_path, mat=place, protocols=place)
    expected = read(tmp_path)
    assert expected.root == str(tmp_path / "cuhk03" / "images_detected")
    assert read(tmp_path) == expected  # from what was extracted
    assert read(tmp_path, classic_split=1).root == expected.root


def test_the_root_is_the_data_sets_own_directory(root):
    assert read(root / "cuhk03") == read(root)


@pytest.mark.parametrize("place", ["CUHK03-NP/labeled", "cuhk03-np/cuhk03-np/labeled", "a/b/labeled", "cuhk", "."])
def test_folders_are_found_by_their_content(tmp_path, place):
    write_folders(tmp_path / place)
    assert read(tmp_path, boxes="labeled").root == str(tmp_path / place)


def test_folders_of_others_are_not_taken(tmp_path):
    write_folders(tmp_path / "DukeMTMC-reID")
    for path in (tmp_path / "DukeMTMC-reID").rglob("*.png"):
        path.rename(path.with_name(f"{path.name[:7]}_f{path.stem[8:]}.jpg"))
    with pytest.raises(UserError, match="CUHK03 not found"):
        read(tmp_path)
    write_folders(tmp_path / "a" / "detected")
    with pytest.raises(UserError, match="CUHK03 not found"):
        read(tmp_path, boxes="labeled")
    write_folders(tmp_path / "b" / "detected")
    with pytest.raises(UserError, match="several directories have its content: .*/a/detected, .*/b/detected"):
        read(tmp_path)


@pytest.mark.parametrize("size", [0, 400, 2000, 200_000])
def test_a_truncated_mat(root, size):
    path = root / "cuhk03" / "cuhk-03.mat"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=rf"{path}: cannot be opened as HDF5.*; {size} bytes\. It is incomplete"):
        read(root)
    assert leftovers(root / "cuhk03") == []
    assert not (root / "cuhk03" / "images_detected").exists()


def rewrite(root, change):
    with h5py.File(root / "cuhk03" / "cuhk-03.mat", "r+") as file:
        change(file)


def replace_image(file, array):
    cells = file[file["detected"][0, 1]]  # of camera pair 2
    file["other"] = array
    cells[2, 1] = file["other"].ref


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("detected"), "'detected' cannot be read .*KeyError.* not CUHK03's"),
        (lambda file: file.pop("testsets"), "'testsets' cannot be read"),
        (lambda file: file["detected"].write_direct(np.empty((1, 5), h5py.ref_dtype)), "'detected', camera pair 1"),
        (lambda file: replace_image(file, np.zeros((3, 4, 5))), r"2_002_1_03\.png: float64 \(5, 4, 3\); expected"),
        (lambda file: replace_image(file, np.zeros((4, 4, 5), np.uint8)), r"2_002_1_03\.png: uint8 \(5, 4, 4\)"),
        (lambda file: file["testsets"].write_direct(np.tile(file["detected"][:], 4)), r"split 1: .*expected 2 columns"),
        (lambda file: file["detected"].write_direct(file["testsets"][:, :5]), "camera pair 1: .*expected 10 columns"),
    ],
)
def test_a_mat_with_other_content(root, change, message):
    rewrite(root, change)
    with pytest.raises(UserError, match=message) as caught:
        read(root)
    assert str(root / "cuhk03" / "cuhk-03.mat") in str(caught.value)
    assert leftovers(root / "cuhk03") == []


def test_a_damaged_image_in_the_mat(root):
    path = root / "cuhk03" / "cuhk-03.mat"
    with h5py.File(path) as file:
        _, chunk = file[file[file["detected"][0, 0]][2, 1]].id.read_direct_chunk((0, 0, 0))
    path.write_bytes(path.read_bytes().replace(chunk, bytes(len(chunk))))
    with pytest.raises(UserError, match=r"'detected', image 1_002_1_03\.png cannot be read \(OSError"):
        read(root)


@pytest.mark.parametrize("wrong", [(6, 1), (0, 1), (2, PEOPLE[1] + 1), (1, 0)])
def test_a_classic_split_of_people_who_are_not_there(tmp_path, wrong):
    testsets = make_testsets()
    testsets[4][1] = wrong
    write_mat(tmp_path / "cuhk03" / "cuhk-03.mat", {"detected": make_images("detected")}, testsets)
    with pytest.raises(UserError, match=f"'testsets', split 5: person {wrong[1]} of camera pair {wrong[0]}; expected"):
        read(tmp_path, classic_split=1)


def test_a_person_without_images(tmp_path):
    images = {name: array for name, array in make_images("detected").items() if key_of(name) != (2, 2)}
    write_mat(tmp_path / "cuhk03" / "cuhk-03.mat", {"detected": images}, [[(1, 1), (2, 2)]])
    with pytest.raises(UserError, match="no detected image of person 2 of camera pair 2"):
        read(tmp_path, classic_split=1)
    splits = read_cuhk03(tmp_path, FileErrors(), classic_split=1)
    assert {record.pid for record in splits.train} == {*range(1, 14)} - {1, KEYS.index((2, 2)) + 1}
    assert {record.pid for record in splits.query} == {1}


def test_a_classic_split_that_does_not_exist(root):
    with pytest.raises(UserError, match="CLASSIC_SPLIT 21: expected 0 or 1 to 20"):
        read(root, classic_split=NUM_SPLITS + 1)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"people": [], "pictures": []}'])
def test_contents_that_cannot_be_read(root, content):
    splits = read(root)
    path = root / "cuhk03" / "images_detected" / "contents.json"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=r"its contents\.json, .* cannot be read .*Rename or delete the directory"):
        read(root, classic_split=1)
    assert read(root) == splits  # images that torchreid extracted serve the new protocol too


@pytest.mark.parametrize("classic_split", [0, 1])
def test_a_missing_image_is_an_error(root, classic_split):
    before = read(root, classic_split=classic_split)
    missing = before.train[3].path
    os.unlink(missing)
    with pytest.raises(UserError, match=f"{missing}: missing, named by .*rename .*images_detected"):
        read(root, classic_split=classic_split)
    errors = FileErrors()
    splits = read_cuhk03(root, errors, classic_split=classic_split)
    assert splits.train == before.train[:3] + before.train[4:]
    assert len(errors.messages) == 1


def test_no_split_file(root):
    protocol_file(root / "cuhk03", "labeled").unlink()
    with pytest.raises(UserError, match=r"config_labeled\.mat not found in .*Download it from https://github\.com"):
        read(root, boxes="labeled")
    assert not (root / "cuhk03" / "images_labeled").exists()  # an error before the extraction
    read(root, boxes="labeled", classic_split=1)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>" * 50, slice(0, 100), slice(0, 3000)])
def test_a_split_file_that_is_none(root, content):
    path = protocol_file(root / "cuhk03", "detected")
    path.write_bytes(path.read_bytes()[content] if isinstance(content, slice) else content)
    with pytest.raises(UserError, match=f"{path}: cannot be read .*expected a MATLAB 5 file .*the raw file"):
        read(root)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("query_idx"), "cannot be read .*KeyError: 'query_idx'"),
        (lambda arrays: arrays["train_idx"].__setitem__((0, 0), 0), "train_idx has 0; expected 1 to"),
        (lambda arrays: arrays["gallery_idx"].__setitem__((0, 0), 500), "gallery_idx has 500; expected 1 to"),
        (lambda arrays: arrays["filelist"].__setitem__((2, 0), "holiday.png"), r"'holiday\.png', a name that does not"),
        (lambda arrays: arrays["filelist"].__setitem__((2, 0), "1_001_3_01.png"), r"'1_001_3_01\.png', a name"),
        (lambda arrays: arrays.update(labels=arrays["labels"] * np.nan), "labels has nan; expected numbers of people"),
        (lambda arrays: arrays.update(labels=arrays["labels"] * -1.0), "labels has -1.0; expected numbers of people"),
        (lambda arrays: arrays["query_idx"].__setitem__((0, 0), 1), r"png is in train_idx and tested; expected one of"),
        (lambda arrays: arrays.update(labels=arrays["labels"][1:]), "names in filelist, .* labels; expected as many"),
    ],
)
def test_a_malformed_split_file(root, change, message):
    arrays = protocol_arrays(make_images("detected"))
    change(arrays)
    savemat(protocol_file(root / "cuhk03", "detected"), arrays)
    with pytest.raises(UserError, match=message):
        read(root)
