"""Paths of users are expanded once; how a command ends."""

import argparse
import shlex
from pathlib import Path

import pytest

from utils.command_line import ArgumentParser, expand_arguments, make_command, run_main
from utils.errors import UserError
from utils.files import expand_path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    monkeypatch.setenv("BELOW", "~/below")
    monkeypatch.setenv("DOLLAR", "$DATA")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("", ""),
        ("~", "/home/me"),
        ("~/a", "/home/me/a"),
        ("a/~/b", "a/~/b"),
        ("a~", "a~"),
        ("./~", "./~"),
        ("$DATA/a", "/data/a"),
        ("${DATA}_b/$HOME", "/data_b//home/me"),
        ("$BELOW", "/home/me/below"),
        ("$DOLLAR", "$DATA"),
        ("100$", "100$"),
        ("a$1", "a$1"),
        ("timm:vit", "timm:vit"),
    ],
)
def test_paths_are_expanded(path, expanded):
    assert expand_path(path, "KEY") == expanded


@pytest.mark.parametrize("path", ["$UNSET", "a/${UNSET}/b", "$EMPTY/a", "${}", "${UNSET:-a}", "~nobody_here/a", "a\0b"])
def test_a_path_that_cannot_be_expanded_is_an_error(path):
    with pytest.raises(UserError, match=r"^KEY: found .*(is not set|no home directory|NUL)"):
        expand_path(path, "KEY")


def test_an_existing_name_with_a_dollar_sign_is_not_expanded(tmp_path):
    (tmp_path / "a$UNSET.jpg").touch()
    assert expand_path("a$UNSET.jpg", "KEY") == "a$UNSET.jpg"


def test_arguments_keep_their_type():
    args = expand_arguments(argparse.Namespace(out=Path("~/a"), images="$DATA", query=None), "out", "images", "query")
    assert (args.out, args.images, args.query) == (Path("/home/me/a"), "/data", None)
    with pytest.raises(UserError, match=r"^--config-dir: "):
        expand_arguments(argparse.Namespace(config_dir="$UNSET"), "config_dir")


def test_run_main_turns_errors_into_status_1(capsys):
    def fail():
        raise UserError("what, where, next")

    assert run_main(fail) == 1
    assert capsys.readouterr().err == "error: what, where, next\n"
    assert run_main(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        run_main(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("config_file", "opts", "command"),
    [
        (None, [], "python test.py"),
        ("my configs/a.yml", ["SEED", 2], "python test.py --config_file 'my configs/a.yml' SEED 2"),
        (None, ["TEST.PROTOCOLS", "['clean']"], """python test.py TEST.PROTOCOLS "['clean']\""""),
        (None, ["OUTPUT_DIR", "it's $HOME"], """python test.py OUTPUT_DIR 'it'"'"'s $HOME'"""),
    ],
)
def test_the_command_that_repeats_a_run(config_file, opts, command):
    found = make_command("test.py", config_file, opts)
    assert found == command
    given = [] if config_file is None else ["--config_file", config_file]
    assert shlex.split(found) == ["python", "test.py", *given, *map(str, opts)]


WITHOUT_DASHES = "a key is written without dashes, as KEY VALUE: "


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--SEED", "2"], f"--SEED; {WITHOUT_DASHES}SEED 2"),
        (["SOLVER.AMP", "off", "--TEST.WEIGHT=a.pth"], f"--TEST.WEIGHT=a.pth; {WITHOUT_DASHES}TEST.WEIGHT a.pth"),
        (["--output-dir", "a", "--seed", "1"], f"--output-dir --seed 1; {WITHOUT_DASHES}OUTPUT_DIR a"),
        (["--SEED", "--dry-run"], f"--SEED; {WITHOUT_DASHES}SEED VALUE"),
        (["--DRY.RUN", "1"], f"--DRY.RUN; {WITHOUT_DASHES}DRY.RUN 1"),
        (["--dryrun"], "--dryrun; did you mean --dry-run?"),
        (["--dry\x1brun"], "--dry\\x1brun; did you mean --dry-run?"),
    ],
)
def test_a_key_or_an_option_that_an_unknown_argument_may_mean(capsys, argv, message):
    parser = ArgumentParser(prog="train.py")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("opts", nargs="*")
    with pytest.raises(SystemExit):
        parser.parse_args(argv)
    assert capsys.readouterr().err.splitlines()[-1] == f"train.py: error: unrecognized arguments: {message}"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["report", "--SEED", "2"], "m report: error: unrecognized arguments: --SEED 2"),
        (["study", "SEED", "2"], "m study: error: unrecognized arguments: SEED 2; the file sets keys"),
        (["study", "--OUTPUT_DIR", "a"], "m study: error: unrecognized arguments: --OUTPUT_DIR a; the file sets keys"),
        (["study", "--SEED", "2"], "m study: error: unrecognized arguments: --SEED 2; did you mean --seeds?"),
    ],
)
def test_a_command_without_keys_says_where_they_are(capsys, argv, message):
    parser = ArgumentParser(prog="m")
    commands = parser.add_subparsers()
    commands.add_parser("study", keys="the file sets keys").add_argument("--seeds")
    commands.add_parser("report")
    with pytest.raises(SystemExit):
        parser.parse_args(argv)
    assert capsys.readouterr().err.splitlines()[-1] == message
