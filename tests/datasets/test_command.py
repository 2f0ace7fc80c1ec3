import os
import pty
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from datasets.__main__ import main
from datasets.report import Finding, Level, Report, format_report
from tests.datasets.test_validate import QUERY, write_image, write_subset
from tests.helpers import REPOSITORY
from utils.command_line import run_main
from utils.errors import UserError


@pytest.fixture
def tree(tmp_path):
    return write_subset(tmp_path)


def test_a_name_never_breaks_its_line(tree, capsys):
    write_image(tree / QUERY / "two\nlines \x1b[31m.jpg")
    write_image(tree / QUERY / os.fsdecode(b"no-utf8-\xff.jpg"))
    assert main(["check", "--fast", "DATASETS.ROOT_DIR", str(tree.parent)]) == 1
    out = capsys.readouterr().out
    for name in (r"no-utf8-\udcff.jpg", r"two\nlines \x1b[31m.jpg"):
        assert f"\nERROR {tree / QUERY / name}: the name does not parse" in out


def test_colours():
    findings = tuple(Finding(level, level.name, level.name.lower()) for level in Level)
    report = Report("market1501", "data/market1501", (("split",), ("train",)), findings)
    assert format_report(report, colour=True).splitlines()[-5:] == [
        "\033[32mok\033[0m fine",
        "\033[33mWARNING\033[0m warning",
        "\033[31mERROR\033[0m error",
        "",
        "\033[31m1 error, 1 warning\033[0m",
    ]
    assert "\033" not in format_report(report)


def start(root, *options, environment=None, **streams):
    command = [sys.executable, "-m", "datasets", "check", *options, "DATASETS.ROOT_DIR", str(root)]
    clean = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    return subprocess.Popen(command, cwd=REPOSITORY, env={**clean, **(environment or {})}, **streams)


def test_piped_output_is_plain(tree):
    process = start(tree.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"ERROR cameras: 5, published 6\n" in out
    assert b"\033" not in out
    assert out.isascii()
    assert b"Traceback" not in err


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(tree, environment, coloured):
    ours, theirs = pty.openpty()
    process = start(tree.parent, "--fast", environment=environment, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    out = b""
    try:
        while read := os.read(ours, 65536):
            out += read
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(ours)
    assert process.wait(timeout=120) == 1
    mark = b"\033[31mERROR\033[0m" if coloured else b"ERROR"
    assert mark + b" cameras: 5, published 6" in out
    assert (b"\033" in out) == coloured


def not_unpacked(tree):
    shutil.rmtree(tree)
    archive = tree.parent / "Market-1501-v15.09.15.zip"
    zipfile.ZipFile(archive, "w").close()
    return tree.parent, f"found the archive {archive}, which is not unpacked yet: unpack it"


def another_case(tree):
    other = (tree / "query").rename(tree / "Query")
    return tree.parent, f"found {other}, expected {tree / 'query'}: rename it"


@pytest.mark.parametrize("misplace", [not_unpacked, another_case])
def test_a_data_set_in_another_place(tree, misplace, capsys, monkeypatch):
    root, message = misplace(tree)
    monkeypatch.setattr(sys, "argv", ["datasets", "check", "DATASETS.ROOT_DIR", str(root)])
    assert run_main(main) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.match(f"error: Market-1501 not found: {message}", err)
    assert len(err.splitlines()) == 1


def test_a_data_set_is_recognised_by_its_content(tree, capsys):
    other = tree.rename(tree.with_name("Market"))
    for root in (tree.parent, other):
        assert main(["check", "--fast", "DATASETS.ROOT_DIR", str(root), "DATASETS.CHECK_COUNTS", "False"]) == 0
        out = capsys.readouterr().out
        assert f"Market-1501: found by its content in {other}" in out
        assert f"\nmarket1501 in {other}\n" in out


@pytest.mark.parametrize("options", [["--fast", "--deep"], ["--record"], ["--digests", "x.json"]])
def test_options_that_contradict_each_other(tree, options):
    with pytest.raises(UserError, match="--deep"):
        main(["check", *options, "DATASETS.ROOT_DIR", str(tree.parent)])


def test_synthesize_makes_a_set_once(tmp_path, capsys):
    arguments = [
        "synthesize",
        "--out",
        str(tmp_path / "rendered"),
        "--identities",
        "4",
        "--cameras",
        "2",
        "--images",
        "2",
        "--workers",
        "1",
    ]
    assert main(arguments) == 0
    made = (tmp_path / "rendered" / "manifest.json").stat().st_mtime_ns
    assert main(arguments) == 0
    assert capsys.readouterr().out.endswith("rendered: complete\n")
    assert (tmp_path / "rendered" / "manifest.json").stat().st_mtime_ns == made


def test_a_command_is_required(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "check" in capsys.readouterr().err
