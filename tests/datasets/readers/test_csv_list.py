"""Custom images in a CSV file."""

import logging

import pytest

from config import load_cfg
from datasets.readers.csv_list import read_csv
from datasets.readers.file_errors import FileErrors
from datasets.readers.registry import read_dataset
from tests.datasets.readers.test_custom import paths, write
from utils.errors import UserError
from utils.escaping import format_csv

IMAGES = [f"p/{name}.png" for name in "abcdefgh"]


def read(root, text, *, file="data.csv", errors=None, seed=0):
    (root / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    collected = FileErrors() if errors is None else errors
    splits = read_csv(root, collected, file=file, seed=seed, train_share=0.5)
    if errors is None:
        collected.raise_if_errors("error")
    return splits


GIVEN = (
    "pid,note,split,path,camid,viewid\n"
    'ann,"a\n ""b""",train,p/a.png,north,1\n'
    "bob,,query,p/b.png,south,1\n"
    "bob,,gallery,p/c.png,north,2\n"
)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_given_splits(tmp_path, delimiter, end, mark, caplog):
    root = write(tmp_path, *IMAGES)
    text = GIVEN.replace(",", delimiter).replace("\n", end)
    with caplog.at_level(logging.INFO):
        splits = read(root, mark + text.encode())
    assert [len(split) for split in (splits.train, splits.query, splits.gallery)] == [1, 1, 1]
    records = (*splits.train, *splits.query, *splits.gallery)
    assert [(r.pid, r.camid, r.viewid) for r in records] == [(0, 0, 0), (1, 1, 0), (1, 0, 1)]
    assert [r.path for r in records] == [str(root / path) for path in ("p/a.png", "p/b.png", "p/c.png")]
    assert (splits.title, splits.root, splits.has_cameras) == ("csv (data)", str(root), True)
    assert "columns that are not read: note" in caplog.text


def test_paths_are_relative_to_the_root_or_absolute(tmp_path):
    root = write(tmp_path / "photos", *IMAGES)
    elsewhere = write(tmp_path / "elsewhere", "x.png") / "x.png"
    (root / "lists").mkdir()
    splits = read(root, f"path,pid,split\n./p/a.png,1,test\n{elsewhere},1,test\n", file="lists/mine.csv")
    assert {r.path for r in (*splits.query, *splits.gallery)} == {str(root / "p" / "a.png"), str(elsewhere)}
    assert splits.version == "mine"
    assert splits.train == ()


@pytest.mark.parametrize("name", ["=1+1.png", "-1.png", "@a.png", "+b.png", "'=c.png", "'tis.png"])
def test_names_that_a_spreadsheet_would_compute_come_back(tmp_path, name):
    """A list made of a table of this project, as of ranked.csv, names the files as they are."""
    root = write(tmp_path, name, "other.png", "third.png")
    rows = [[name, "ann", "train"], ["other.png", "bob", "query"], ["third.png", "bob", "gallery"]]
    splits = read(root, format_csv(["path", "pid", "split"], rows))
    assert [record.path for record in splits.train] == [str(root / name)]


def test_everything_is_sampled_without_a_split_column(tmp_path):
    root = write(tmp_path, *IMAGES)
    rows = [f"{path}, {index // 2}\n" for index, path in enumerate(IMAGES)]
    splits = read(root, "Path,PID\n" + "".join(rows))
    assert [len(split) for split in (splits.train, splits.query, splits.gallery)] == [4, 2, 2]
    assert not {r.pid for r in splits.train} & {r.pid for r in splits.query}
    assert not splits.has_cameras
    backwards = read(root, "path,pid\n" + "".join(reversed(rows)))
    assert set(paths(backwards.query, root)) == set(paths(splits.query, root))  # whatever the order of the rows
    assert paths(backwards.train, root) == paths(splits.train, root)[::-1]


def test_test_rows_are_sampled_into_query_and_gallery(tmp_path):
    root = write(tmp_path, *IMAGES)
    rows = "".join(f"{path},7,{camera},TEST\n" for path, camera in zip(IMAGES[:4], "xxyz", strict=True))
    splits = read(root, "path,pid,camid,split\np/h.png,5,x,train\n" + rows)
    assert [r.pid for r in splits.train] == [5]
    assert [r.camid for r in splits.query] == [0]
    assert sorted(r.camid for r in splits.gallery) == [0, 1, 2]
    with pytest.raises(UserError, match="split test stands beside gallery; expected query and gallery, or test"):
        read(root, "path,pid,camid,split\np/h.png,5,x,gallery\n" + rows)


def test_bad_rows(tmp_path):
    root = write(tmp_path, *IMAGES)
    errors = FileErrors()
    text = (
        'path,pid,camid,split\np/a.png,1,"two\nlines",train\np/b.png,,x,train\np/c.png,2\n,,,\n\np/d.png,2,x,valid\n'
        "p/none.png,2,x,query\np\\e.png,2,x,query\np/a.png,2,x,query\np//a.png,1,x,train\np/e.png,2,,gallery\n"
        "p/f.png,2,x,gallery\np/g.png,2,x,\np/g.png,2,x,query\n"
    )
    splits = read(root, text, errors=errors)
    assert [paths(split, root) for split in (splits.train, splits.query, splits.gallery)] == [
        ["p/a.png"],
        ["p/g.png"],
        ["p/f.png"],
    ]
    file = root / "data.csv"
    assert errors.messages == [
        f"{file}, line 4: no pid; fill it in, or remove the row",
        f"{file}, line 5: 2 fields, expected 4: path, pid, camid, split",
        f"{file}, line 8: split valid; expected train, query, gallery, test",
        f"{file}, line 9: image {root}/p/none.png does not exist; correct or remove the row",
        f"{file}, line 10: image {root}/p\\e.png does not exist; write its path with forward slashes, or correct or "
        "remove the row",
        f"{file}, line 15: no split; fill it in, or remove the row",
        f"{file}, line 11: {root}/p/a.png is pid 2, in {file}, line 3 it is 1; correct or remove one of the rows",
        f"{file}, line 12: {root}/p/a.png a second time in split train, as in {file}, line 3; remove one of the rows",
        f"{file}, line 13: no camid; other images have one. Give it to all or to none",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,pid\np/a.png,1\n", "the first line is 'name,pid'; expected a header with the columns path, pid and"),
        ("", "the first line is ''; expected a header"),
        ("x" * 200_000, "expected a header"),
        ("path,pid,pid\np/a.png,1,2\n", "column pid twice in the header: path,pid,pid"),
        ('path,pid\np/a.png,1\n"p/b.png,1\np/c.png,1\n', r"no CSV from line 3 on \(unexpected end of data\)"),
        ("path,pid\np/ä.png,1\n".encode("latin-1"), r"is not UTF-8 text \(.* in position 11: .*\); save it as UTF-8"),
        ("path,pid\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_no_list(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


def test_no_file(tmp_path):
    (tmp_path / "data.csv").touch()
    with pytest.raises(UserError, match=r"CSV\.FILE date\.csv: .*/date\.csv does not exist; .*did you mean data\.csv"):
        read_csv(tmp_path, FileErrors(), file="date.csv", seed=0, train_share=0.5)
    with pytest.raises(UserError, match=r"CSV\.FILE \.: .* is a directory"):
        read_csv(tmp_path, FileErrors(), file=".", seed=0, train_share=0.5)


def test_a_list_of_errors_alone_ends_in_its_first_error(tmp_path):
    (tmp_path / "data.csv").write_text("path,pid\np/a.png,1\np/b.png,1\n")
    opts = ["DATASETS.NAMES", "csv", "DATASETS.ROOT_DIR", str(tmp_path)]
    with pytest.raises(UserError, match=r"line 2: image .*a\.png does not exist(.|\n)*1 more such"):
        read_dataset(load_cfg(opts=opts))
    with pytest.raises(UserError, match=r"no images for the train set of csv \(data\)"):
        read_dataset(load_cfg(opts=[*opts, "DATASETS.ON_BAD_IMAGE", "skip"]))
