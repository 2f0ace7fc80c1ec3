"""Text from files and users, file names above all, escaped for terminals, logs and spreadsheets."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

# Spreadsheets read a cell that begins like this as a formula, in some languages also with full-width signs. Leading
# apostrophes come from earlier escaping; `read_cell` removes one.
_FORMULA = re.compile(r"'*[\s\x00]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Zero-width (non-)joiners: Persian and many Indian languages need them.
_JOINERS = "\u200c\u200d"


def printable(text: object) -> str:
    """str(text) on one line, without characters that control a terminal.

    Control characters, line breaks, invisible characters, changes of the writing direction, and bytes of a file name
    that are not UTF-8 are escaped as in Python source. Letters of every language stay.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_escape, text))


def printable_lines(text: str) -> str:
    """`printable` for each line of `text`, which keeps its line breaks.

    Lines after the first are indented, so that a file name cannot forge a line of the log.
    """
    first, *others = map(printable, text.rstrip("\n").split("\n"))
    indent = "  " if any(line and line[0] != " " for line in others) else ""
    return "\n".join([first, *(f"{indent}{line}".rstrip(" ") for line in others)])


def format_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The text of a CSV file. A cell that a spreadsheet would read as a formula gets an apostrophe; see `read_cell`."""
    return "".join([_line(columns), *(_line([_cell(value) for value in row]) for row in rows)])


def read_cell(text: str) -> str:
    """The original text of a cell that `format_csv` wrote."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow(cells)  # quotes both characters where a cell holds one
    return f"{buffer.getvalue()[:-2]}\n"


def _cell(value: object) -> object:
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}" if _FORMULA.match(value) else value


def _escape(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode("ascii")
