"""`datasets check --deep`: whether the content of images is what was recorded."""

import json
import os
import shutil

import pytest

from datasets.__main__ import main
from tests.datasets.test_validate import NAMES, QUERY, TRAIN, errors_of, warnings_of, write_image, write_subset
from utils.errors import UserError


@pytest.fixture
def tree(tmp_path):
    return write_subset(tmp_path)


@pytest.fixture
def check(tmp_path, capsys):
    def run(*arguments):
        subset = ["DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.CHECK_COUNTS", "False"]
        capsys.readouterr()
        return main(["check", "--deep", *arguments, *subset]), capsys.readouterr().out.splitlines()

    return run


def replace(path):
    """Another image of the same size in bytes and the same time."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size


def test_a_replaced_image_is_an_error(tree, check):
    status, lines = check()
    assert status == 0
    record = tree / ".digests.json"
    assert f"ok digests: 0 images are those recorded in {record}, 8 newly recorded" in lines
    assert f"ok digests: 8 images are those recorded in {record}, 0 newly recorded" in check()[1]
    replace(tree / QUERY / NAMES[QUERY][0])
    for _ in range(2):  # nothing is accepted by looking
        status, lines = check()
        assert status == 1
        assert errors_of(lines) == [
            f"{QUERY}/{NAMES[QUERY][0]}: its content is not the one recorded in {record}; download it again, or accept "
            "the images as they are with --record"
        ]
    assert check("--record")[0] == 0
    assert check()[0] == 0


def test_new_and_missing_images(tree, check):
    check()
    (tree / TRAIN / NAMES[TRAIN][0]).unlink()
    added = write_image(tree / TRAIN / "0002_c1s1_000452_03.jpg")
    status, lines = check()
    assert status == 0
    assert f"{TRAIN}/{NAMES[TRAIN][0]}: recorded in {tree / '.digests.json'}, and gone" in warnings_of(lines)
    assert any("7 images are those recorded in" in line and "1 newly recorded" in line for line in lines)
    replace(added)
    assert check()[0] == 1


def test_a_moved_data_set_keeps_its_record(tree, check, tmp_path):
    check()
    shutil.move(tree, tmp_path / "other")
    assert any("8 images are those recorded in" in line for line in check()[1])


def test_another_place_for_the_record(tree, check, tmp_path):
    file = tmp_path / "record.json"
    assert check("--digests", str(file))[0] == 0
    assert not (tree / ".digests.json").exists()
    assert len(json.loads(file.read_text())["files"]) == 8
    with pytest.raises(UserError, match="--digests FILE"):
        check("--digests", str(tmp_path / "no" / "record.json"))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format_version": 1, "files": []}',
        '{"format_version": 1, "files": {"a": 1}}',
        '{"format_version": 2, "files": {}}',
        "[" * 100_000,
        None,
    ],
)
def test_a_record_that_cannot_be_read(tree, check, content):
    record = tree / ".digests.json"
    os.mkfifo(record) if content is None else record.write_text(content)
    with pytest.raises(UserError, match=r"\.digests\.json.*--record"):
        check()
