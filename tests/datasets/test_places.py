import logging
import os

import pytest

from datasets.faults import Faults
from datasets.places import find_directory, list_pictures
from utils.errors import UserError

NAMES, INSIDE = ("market1501", "Market-1501-v15.09.15"), ("bounding_box_train", "query")
as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def make(directory, inside=INSIDE):
    for name in inside:
        (directory / name).mkdir(parents=True)
    return directory


def find(root, names=NAMES, inside=INSIDE):
    return find_directory(root, names, inside, title="Market-1501", download="Unpack it into data/.")


def told(root, **options):
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
    assert told(tmp_path) == f"Market-1501 not found: neither {first} nor {second} exists.\nUnpack it into data/."
    assert told(tmp_path, names=NAMES[:1]) == f"Market-1501 not found: {first} does not exist.\nUnpack it into data/."


def test_no_root(tmp_path):
    message = "Market-1501 not found: DATASETS.ROOT_DIR: {}. Unpack it into data/."
    assert told(tmp_path / "a") == message.format(f"the directory {tmp_path / 'a'} does not exist")
    (tmp_path / "a").touch()
    assert told(tmp_path / "a") == message.format(f"{tmp_path / 'a'} is a file")
    (tmp_path / "b").symlink_to("nowhere")
    assert told(tmp_path / "b") == message.format(f"the directory {tmp_path / 'b'} does not exist")


def test_the_directory_itself_as_root(tmp_path, monkeypatch):
    directory = make(tmp_path / NAMES[1])
    message = "Market-1501 not found: DATASETS.ROOT_DIR {} is the data set's own directory; expected the one above it: "
    assert told(directory) == message.format(directory) + f"DATASETS.ROOT_DIR {tmp_path}"
    (tmp_path / "link").symlink_to(directory)
    assert told(tmp_path / "link") == message.format(tmp_path / "link") + f"DATASETS.ROOT_DIR {tmp_path}"
    monkeypatch.chdir(directory)
    assert told(".") == message.format(".") + f"DATASETS.ROOT_DIR {tmp_path}"


def test_its_files_in_the_root(tmp_path):
    make(tmp_path)
    assert told(tmp_path) == (
        f"Market-1501 not found: its files lie in {tmp_path} itself; expected them in {tmp_path / NAMES[0]}: make "
        "that directory and move them"
    )


def test_a_level_too_deep(tmp_path):
    directory = make(tmp_path / "downloads" / NAMES[0])
    assert told(tmp_path) == (
        f"Market-1501 not found: it lies a level too deep, in {directory}: set DATASETS.ROOT_DIR "
        f"{tmp_path / 'downloads'}"
    )


def test_unpacked_into_a_directory_of_its_name(tmp_path):
    directory = make(tmp_path / NAMES[0] / "images")
    assert told(tmp_path) == (
        f"Market-1501 not found: it lies a level too deep, in {directory}; expected its content in "
        f"{tmp_path / NAMES[0]}: move it up"
    )


def test_names_in_another_case(tmp_path):
    make(tmp_path / "Market1501")
    assert f"found {tmp_path / 'Market1501'}, expected {tmp_path / 'market1501'}: rename it" in told(tmp_path)
    (tmp_path / "Market1501").rename(tmp_path / "market1501")
    (tmp_path / "market1501" / "query").rename(tmp_path / "market1501" / "Query")
    place = tmp_path / "market1501"
    assert f"found {place / 'Query'}, expected {place / 'query'}: rename it" in told(tmp_path)


def test_names_that_differ_by_case_alone(tmp_path):
    make(tmp_path / "MSMT17", ["query"])
    assert told(tmp_path, names=("MSMT17", "msmt17")).startswith(
        f"Market-1501: {tmp_path / 'MSMT17'}: bounding_box_train missing; expected bounding_box_train, query; it "
        "holds query."
    )


@pytest.mark.parametrize("archive", ["Market-1501-v15.09.15.zip", "market1501.tar.gz", "MARKET_1501.ZIP"])
def test_an_archive_that_is_not_unpacked(tmp_path, archive):
    (tmp_path / "other.zip").touch()
    (tmp_path / archive).touch()
    assert told(tmp_path) == (
        f"Market-1501 not found: found the archive {tmp_path / archive}, which is not unpacked yet: unpack it into "
        f"{tmp_path}/"
    )


def test_an_archive_inside(tmp_path):
    place = make(tmp_path / NAMES[0], ["query"])
    (place / "bounding_box_train.tar").touch()
    assert (
        f"found the archive {place / 'bounding_box_train.tar'}, which is not unpacked yet: unpack it into {place}/"
        in (told(tmp_path))
    )


def test_half_unpacked(tmp_path):
    place = make(tmp_path / NAMES[1], ["query"])
    (tmp_path / "other.zip").touch()
    assert told(tmp_path) == (
        f"Market-1501: {place}: bounding_box_train missing; expected bounding_box_train, query; it holds query. The "
        "archive is not fully unpacked, or this is another directory level"
    )


@as_user
@pytest.mark.parametrize("name", ["lost+found", NAMES[0]])
def test_directories_that_must_not_be_read_are_passed_over(tmp_path, name):
    closed = tmp_path / name
    closed.mkdir(mode=0)
    try:
        assert "not found: neither" in told(tmp_path) or "missing; expected" in told(tmp_path)
        assert find(make(tmp_path / NAMES[1]).parent) == tmp_path / NAMES[1]
    finally:
        closed.chmod(0o700)


@as_user
def test_a_root_that_must_not_be_read(tmp_path):
    closed = tmp_path / "data"
    closed.mkdir(mode=0o300)
    try:
        assert told(closed).startswith("Market-1501 not found: neither")
        closed.chmod(0)
        assert told(closed).startswith("Market-1501 not found: neither")
        with pytest.raises(PermissionError):
            find(closed / "a")
    finally:
        closed.chmod(0o700)


def pictures(directory, **options):
    faults = Faults()
    return list(list_pictures(directory, faults, **options)), faults.messages


def write(directory, *names):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).touch()


def test_lists_pictures_in_the_order_of_their_names(tmp_path):
    write(tmp_path, "b.jpg", "a/2.png", "a/10.JPEG", "c/d/e.webp", "B.bmp", "a.tif", "ä.tiff")
    expected = ["B.bmp", "a/10.JPEG", "a/2.png", "a.tif", "b.jpg", "c/d/e.webp", "ä.tiff"]
    assert pictures(tmp_path) == (expected, [])
    assert pictures(str(tmp_path)) == (expected, [])


def test_passes_over_other_and_hidden_files(tmp_path, caplog):
    write(tmp_path, "a.jpg", "._a.jpg", ".git/b.jpg", "Thumbs.db", "notes.txt", "jpg", "c.jpg.part", "c.heic")
    caplog.set_level(logging.INFO)
    assert pictures(tmp_path) == (["a.jpg"], [])
    assert (
        f"{tmp_path}: passed over 1 .db, 1 .heic, 1 .part, 1 .txt, 1 no suffix; pictures end in .avif, .bmp"
        in caplog.text
    )
    assert pictures(tmp_path, suffixes={".heic", ".txt"}) == (["c.heic", "notes.txt"], [])


def test_not_below(tmp_path, caplog):
    write(tmp_path, "a.jpg", "b/c.jpg", "d.jpg/e.jpg")
    caplog.set_level(logging.INFO)
    assert pictures(tmp_path, recursive=False) == (["a.jpg"], [])
    assert "passed over 2 directories; pictures end in" in caplog.text
    assert pictures(tmp_path) == (["a.jpg", "b/c.jpg", "d.jpg/e.jpg"], [])


def test_follows_links(tmp_path):
    write(tmp_path, "disk/a.jpg", "disk/more/b.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "c.jpg").symlink_to(tmp_path / "disk" / "a.jpg")
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "data" / "twice").symlink_to(tmp_path / "disk" / "more")
    assert pictures(tmp_path / "data") == (["c.jpg", "linked/a.jpg", "linked/more/b.jpg", "twice/b.jpg"], [])
    (tmp_path / "link").symlink_to("data")
    assert pictures(tmp_path / "link")[0][0] == "c.jpg"


def test_names_of_pictures_that_are_no_files_are_faults(tmp_path):
    write(tmp_path, "b.jpg")
    (tmp_path / "a.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(tmp_path / "c.jpg")  # who reads it waits for ever
    told = [f"{tmp_path / name}: no file, or a link to none. Remove it" for name in ("a.jpg", "c.jpg")]
    assert pictures(tmp_path) == (["b.jpg"], told)


def test_links_in_loops_are_faults(tmp_path):
    write(tmp_path, "a/b.jpg", "c.jpg")
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "here").symlink_to(".")
    found, faults = pictures(tmp_path)
    assert found == ["a/b.jpg", "c.jpg"]
    loop = "{}: a symbolic link that leads back to {}, a loop. Remove the link"
    assert faults == [
        loop.format(tmp_path / "a" / "here", tmp_path / "a"),
        loop.format(tmp_path / "a" / "up", tmp_path),
    ]
    assert pictures(tmp_path / "a", recursive=False) == (["b.jpg"], [])


@pytest.mark.parametrize("name", ["self", "self.jpg"])
def test_a_link_to_itself_is_a_fault(tmp_path, name):
    write(tmp_path, "a.jpg")
    (tmp_path / name).symlink_to(name)
    found, (fault,) = pictures(tmp_path)
    assert found == ["a.jpg"]
    assert fault.startswith(f"{tmp_path / name}: cannot be read (Too many levels of symbolic links)")


def test_a_directory_that_is_not_there_is_a_fault(tmp_path):
    found, (fault,) = pictures(tmp_path / "a")
    assert found == []
    assert fault.startswith(f"{tmp_path / 'a'}: cannot be read (No such file or directory).")


@as_user
def test_a_directory_that_must_not_be_read_is_a_fault(tmp_path):
    write(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        found, faults = pictures(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert found == ["a.jpg"]
    assert faults == [f"{tmp_path / 'closed'}: cannot be read (Permission denied). Mend its permissions, or remove it"]
