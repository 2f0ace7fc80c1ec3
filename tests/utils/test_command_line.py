"""Paths of users are expanded once; how a command ends."""

import argparse
import shlex
from pathlib import Path

import pytest

from utils.command_line import expand_arguments, make_command, run_main
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
