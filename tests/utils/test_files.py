"""Atomic writing, backups and clean-up."""

import errno
import os

import pytest

from utils.errors import UserError
from utils.files import directory_written_beside, make_output_dir, remove_leftovers, write_files, write_text


def test_other_content_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "results.json"
    for text in ("one", "one", "two", "three"):
        write_text(path, text)
    assert path.read_text() == "three"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["results.1.json", "results.2.json", "results.json"]
    assert (tmp_path / "results.1.json").read_text() == "one"


def test_failed_write_leaves_the_earlier_files(tmp_path):
    paths = [tmp_path / "results.json", tmp_path / "results.csv"]
    for path in paths:
        path.write_text("whole")

    def fill_the_disk(partial):
        partial.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"results\.csv: could not be written .*No space left"):
        write_files({paths[0]: lambda partial: partial.write_text("new"), paths[1]: fill_the_disk})
    assert [path.read_text() for path in paths] == ["whole", "whole"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_files_that_belong_together_are_kept_under_one_number(tmp_path):
    json, csv = tmp_path / "r.json", tmp_path / "r.csv"
    (tmp_path / "r.1.csv").write_text("stray")
    for content in ("a", "b"):
        write_files(
            {json: lambda partial, text=content: partial.write_text(text), csv: lambda partial: partial.touch()}
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.1.csv", "r.2.csv", "r.2.json", "r.csv", "r.json"]
    assert ((tmp_path / "r.2.json").read_text(), json.read_text()) == ("a", "b")


def test_output_dir_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        UserError, match=r"output directory .*file/run: cannot be written \(a file has this name\); choose another one$"
    ):
        make_output_dir(tmp_path / "file" / "run")


def test_a_directory_is_there_once_it_is_complete(tmp_path):
    path = tmp_path / "set"
    with directory_written_beside(path) as partial:
        (partial / "a.txt").write_text("a")
        assert not path.exists()
    assert [file.name for file in path.iterdir()] == ["a.txt"]
    with pytest.raises(ZeroDivisionError), directory_written_beside(tmp_path / "other") as partial:
        (partial / "a.txt").write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_a_name(tmp_path):
    ours = [tmp_path / f".set.{number}.partial" for number in ("0123456789abcdef", "4711")]
    others = [tmp_path / name for name in (".set.old.partial", ".film.mp4.partial", ".other.0123456789abcdef.partial")]
    ours[0].mkdir()
    for path in (*ours[1:], *others):
        path.touch()
    remove_leftovers(tmp_path, name="set")
    assert ours[0].exists()
    assert not ours[1].exists()
    remove_leftovers(tmp_path, name="set", trees=True)
    assert sorted(tmp_path.iterdir()) == sorted(others)
