"""What a terminal, a log and a spreadsheet get of hostile text."""

import csv
import io
import logging
import re

import pytest

from tests.hostile.text import FORMULAS, HARMLESS, LETTERS, hostile_texts
from utils.command_line import ArgumentParser, run_main
from utils.errors import UserError
from utils.escaping import format_csv, printable, printable_lines, read_cell
from utils.logging import setup_logging

TEXTS = hostile_texts(seed=16)
# How lines of the log, of errors and of argparse begin.
OURS = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d\S* ((INFO )?read|WARNING made) |error: |usage: |test\.py: |  ")


def is_harmless(text: str) -> bool:
    """Lines of printable characters."""
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_terminal_and_log_get_text_alone(text, tmp_path, capsys, restored_logging):
    setup_logging()
    setup_logging(tmp_path)
    logger = logging.getLogger("tests.hostile")
    logger.info("read %s and went on", text)
    logger.warning(f"made of {text}")
    assert run_main(lambda: (_ for _ in ()).throw(UserError(f"{text}: cannot be read"))) == 1
    with pytest.raises(SystemExit):
        ArgumentParser(prog="test.py").parse_args([text])
    shown = capsys.readouterr()
    for output in (shown.out, shown.err, (tmp_path / "log.txt").read_text()):
        assert is_harmless(output)
        for line in output.splitlines():  # every line is one of the project's, or indented
            assert OURS.match(line)
    assert printable(text) in shown.out or "\n" in text


@pytest.mark.parametrize("text", LETTERS)
def test_letters_of_any_language_stay(text):
    assert printable(text) == text


def test_lines_of_our_own_stay_lines():
    assert printable_lines("table:\na  b\n\n1  2\n") == "table:\n  a  b\n\n  1  2"


def test_an_indented_list_stays_as_it_is():
    assert printable_lines("2 errors:\n  first\n  second") == "2 errors:\n  first\n  second"


def test_a_name_cannot_cut_the_message_of_an_error():
    text = "image a\nutils.errors.UserError: all is well.jpg: cannot be read"
    assert str(UserError(text)) == text


@pytest.mark.parametrize("text", [*FORMULAS, *HARMLESS])
def test_no_cell_is_a_formula_and_readers_get_it_back(text):
    table = format_csv(["path", "distance"], [[text, -0.5]])
    (row,) = csv.DictReader(io.StringIO(table, newline=""))
    assert read_cell(row["path"]) == text
    assert float(row["distance"]) == -0.5
    if text in FORMULAS:
        assert row["path"] == f"'{text}"
    else:
        assert row["path"] == text
