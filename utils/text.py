"""Text of others, file names above all, on its way to a terminal, a log or a spreadsheet."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

# A spreadsheet takes a cell that begins so for a formula, in some languages the wide signs too. Apostrophes before it
# are those of earlier escaping, which `read_cell` takes away one by one.
_FORMULA = re.compile(r"'*[\s\x00]*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Zero-width (non-)joiners: Persian and many Indian words are not written without them.
_JOINERS = "\u200c\u200d"


def printable(text: object) -> str:
    """str(text) on one line that cannot steer a terminal.

    Escaped as in Python source are control characters, line breaks, what changes the direction of the text or is
    invisible, and bytes of a file name that are no UTF-8. Letters of every language stay.
    """
    text = str(text)
    return text if text.isprintable() else "".join(map(_escape, text))


def printable_lines(text: str) -> str:
    """`text` with its line breaks: every line is made printable, and those after the first are indented unless they
    are, so that no file name passes for a line of the log or a message of its own."""
    first, *others = map(printable, text.rstrip("\n").split("\n"))
    indent = "  " if any(line and line[0] != " " for line in others) else ""
    return "\n".join([first, *(f"{indent}{line}".rstrip(" ") for line in others)])


def format_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file for spreadsheets: text that one would take for a formula gets an apostrophe; see `read_cell`."""
    return "".join([_line(columns), *(_line([_cell(value) for value in row]) for row in rows)])


def read_cell(text: str) -> str:
    """The text that `format_csv` wrote as this cell."""
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
