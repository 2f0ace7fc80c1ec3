import logging
import os
from pathlib import Path

import pytest

from datasets.readers.locate import find_directory
from utils.errors import UserError

NAMES, INSIDE = ("market1501", "Market-1501-v15.09.15"), ("bounding_box_train", "query")
as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def make(directory, inside=INSIDE):
    for name in inside:
        (directory / name).mkdir(parents=True)
    return directory


def find(root, names=NAMES, inside=INSIDE, **options):
    return find_directory(root, names, inside, title="Market-1501", download="Unpack it into data/.", **options)


def error_of(root, **options):
    with pytest.raises(UserError) as caught:
        find(root, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_finds_each_name(tmp_path, name):
    assert find(make(tmp_path / name).parent) == tmp_path / name
    assert find(str(tmp_path)) == tmp_path / name


def test_the_first_complete_one_counts(tmp_path):
    make(tmp_path / NAMES[1])
    (tmp_path / NAMES[0]).mkdir()
    assert find(tmp_path) == tmp_path / NAMES[1]
    make(tmp_path / NAMES[0])
    assert find(tmp_path) == tmp_path / NAMES[0]


def test_a_link_to_it(tmp_path):
    make(tmp_path / "disk")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / NAMES[0]).symlink_to(tmp_path / "disk")
    assert find(tmp_path / "data") == tmp_path / "data" / NAMES[0]


def test_files_may_be_inside(tmp_path):
    (tmp_path / "cuhk03").mkdir()
    (tmp_path / "cuhk03" / "cuhk-03.mat").touch()
    assert find(tmp_path, names=("cuhk03",), inside=("cuhk-03.mat",)) == tmp_path / "cuhk03"


def test_nowhere(tmp_path):
    first, second = (tmp_path / name for name in NAMES)
    assert error_of(tmp_path) == f"Market-1501 not found: neither {first} nor {second} exists.\nUnpack it into data/."
    assert (
        error_of(tmp_path, names=NAMES[:1]) == f"Market-1501 not found: {first} does not exist.\nUnpack it into data/."
    )


def test_no_root(tmp_path):
    message = "Market-1501 not found: DATASETS.ROOT_DIR: {}. Unpack it into data/."
    assert error_of(tmp_path / "a") == message.format(f"the directory {tmp_path / 'a'} does not exist")
    (tmp_path / "a").touch()
    assert error_of(tmp_path / "a") == message.format(f"{tmp_path / 'a'} is a file")
    (tmp_path / "b").symlink_to("nowhere")
    assert error_of(tmp_path / "b") == message.format(f"the directory {tmp_path / 'b'} does not exist")


@pytest.mark.parametrize(
    "place", [".", "Market", "Market1501", "market-1501", f"{NAMES[0]}/{NAMES[1]}", f"{NAMES[1]}/{NAMES[1]}", "a/b/c"]
)
def test_another_name_with_its_content(tmp_path, caplog, place):
    caplog.set_level(logging.INFO)
    (tmp_path / "docs").mkdir()
    (tmp_path / "cover.jpg").touch()
    directory = make(tmp_path / place)
    assert find(tmp_path) == directory
    assert f"Market-1501: found by its content in {directory}" in caplog.text


def test_the_directory_itself_as_root(tmp_path, monkeypatch):
    directory = make(tmp_path / NAMES[1])
    (tmp_path / "link").symlink_to(directory)
    assert find(tmp_path / "link") == tmp_path / "link"
    monkeypatch.chdir(directory)
    assert find(".") == Path()


def test_several_directories_with_its_content(tmp_path):
    first, second = make(tmp_path / "Market"), make(tmp_path / "old" / NAMES[0])
    assert error_of(tmp_path) == (
        f"Market-1501: several directories have its content: {first}, {second}. Set DATASETS.ROOT_DIR to the one to "
        f"read, or give it the name {tmp_path / NAMES[0]}"
    )
    assert find(first) == first
    assert find(tmp_path, fits=lambda place: place == second) == second
    second.joinpath("query").rmdir()
    (tmp_path / "again").symlink_to(first)  # the same directory twice is no choice
    assert find(tmp_path) == first


def test_where_nothing_is_looked_for(tmp_path):
    make(tmp_path / "a" / "b" / "c" / "d")  # too deep
    make(tmp_path / "#recycle" / NAMES[0])
    make(tmp_path / "images" / NAMES[0])
    (tmp_path / "images" / "x.jpg").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert "not found: neither" in error_of(tmp_path)


def test_the_content_of_another_data_set(tmp_path):
    place = make(tmp_path / "DukeMTMC-reID")
    assert f"{place} holds {', '.join(INSIDE)}, but the images of another" in error_of(
        tmp_path, fits=lambda place: False
    )


def test_names_in_another_case(tmp_path):
    make(tmp_path / "Market1501", ["query"])
    assert f"found {tmp_path / 'Market1501'}, expected {tmp_path / 'market1501'}: rename it" in error_of(tmp_path)
    (tmp_path / "Market1501").rename(tmp_path / "market1501")
    make(tmp_path / "market1501", ["bounding_box_train"])
    (tmp_path / "market1501" / "query").rename(tmp_path / "market1501" / "Query")
    place = tmp_path / "market1501"
    assert f"found {place / 'Query'}, expected {place / 'query'}: rename it" in error_of(tmp_path)


def test_names_that_differ_by_case_alone(tmp_path):
    make(tmp_path / "MSMT17", ["query"])
    assert error_of(tmp_path, names=("MSMT17", "msmt17")).startswith(
        f"Market-1501: {tmp_path / 'MSMT17'}: bounding_box_train missing; expected bounding_box_train, query; it "
        "holds query."
    )


@pytest.mark.parametrize("archive", ["Market-1501-v15.09.15.zip", "market1501.tar.gz", "MARKET_1501.ZIP"])
def test_an_archive_that_is_not_unpacked(tmp_path, archive):
    (tmp_path / "other.zip").touch()
    (tmp_path / archive).touch()
    assert error_of(tmp_path) == (
        f"Market-1501 not found: found the archive {tmp_path / archive}, which is not unpacked yet: unpack it into "
        f"{tmp_path}/"
    )


def test_an_archive_inside(tmp_path):
    place = make(tmp_path / NAMES[0], ["query"])
    (place / "bounding_box_train.tar").touch()
    assert (
        f"found the archive {place / 'bounding_box_train.tar'}, which is not unpacked yet: unpack it into {place}/"
        in (error_of(tmp_path))
    )


def test_half_unpacked(tmp_path):
    place = make(tmp_path / NAMES[1], ["query"])
    (tmp_path / "other.zip").touch()
    assert error_of(tmp_path) == (
        f"Market-1501: {place}: bounding_box_train missing; expected bounding_box_train, query; it holds query. The "
        "archive is not fully unpacked, or this is another directory level"
    )


@as_user
@pytest.mark.parametrize("name", ["lost+found", NAMES[0]])
def test_directories_that_that_cannot_be_read_are_skipped(tmp_path, name):
    closed = tmp_path / name
    closed.mkdir(mode=0)
    try:
        assert "not found: neither" in error_of(tmp_path) or "missing; expected" in error_of(tmp_path)
        assert find(make(tmp_path / NAMES[1]).parent) == tmp_path / NAMES[1]
    finally:
        closed.chmod(0o700)


@as_user
def test_a_root_that_must_not_be_read(tmp_path):
    closed = tmp_path / "data"
    closed.mkdir(mode=0o300)
    try:
        assert error_of(closed).startswith("Market-1501 not found: neither")
        closed.chmod(0)
        assert error_of(closed).startswith("Market-1501 not found: neither")
        with pytest.raises(PermissionError):
            find(closed / "a")
    finally:
        closed.chmod(0o700)
