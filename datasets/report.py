"""The report of `python -m datasets check`: findings, and how they are printed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby

from utils.escaping import printable
from utils.tables import make_tables

SHOWN = 20  # findings of a kind that a report names
NOT_OPENED = "not opened (--fast)"


class Level(Enum):
    """How bad a finding is; the value is the mark of its line."""

    FINE = "ok"
    WARNING = "WARNING"
    ERROR = "ERROR"


ANSI = {Level.FINE: "32", Level.WARNING: "33", Level.ERROR: "31"}  # green, yellow, red


@dataclass(frozen=True)
class Finding:
    """One line of a report. Findings of a `kind` stand together, and up to SHOWN are named."""

    level: Level
    kind: str
    text: str


def make_findings(level: Level, kind: str, texts: Iterable[str], fine: str = "") -> list[Finding]:
    """A finding for every text; where there is none, one that says `fine`, unless that is empty."""
    found = [Finding(level, kind, text) for text in texts]
    return found if found or not fine else [Finding(Level.FINE, kind, fine)]


@dataclass(frozen=True)
class Report:
    """What validation found.

    Attributes:
        title, root: of the data set; root "" for several.
        table: a header and a row for each split, texts; () for several.
        findings: all of them.
        fast: the images were not opened.
        digests: sha256 sum of each image file that was opened, by path.
    """

    title: str
    root: str
    table: tuple[tuple[str, ...], ...]
    findings: tuple[Finding, ...]
    fast: bool = False
    digests: dict[str, str] = field(default_factory=dict, repr=False)

    def count(self, level: Level) -> int:
        return sum(finding.level is level for finding in self.findings)


def format_report(report: Report, *, colour: bool = False) -> str:
    """The report as text, with marks coloured by ANSI codes where `colour`."""
    lines = [printable(f"{report.title} in {report.root}" if report.root else report.title), ""]
    if report.table:
        header, *rows = report.table
        lines += [make_tables(header, rows, "lrrrl"), ""]
    for (level, _), findings in groupby(report.findings, lambda finding: (finding.level, finding.kind)):
        texts = [finding.text for finding in findings]
        if len(texts) > SHOWN:
            texts = [*texts[:SHOWN], f"... and {len(texts) - SHOWN} more"]
        lines += [f"{_paint(level, level.value, colour)} {printable(text)}" for text in texts]
    errors, warnings = report.count(Level.ERROR), report.count(Level.WARNING)
    level = Level.ERROR if errors else Level.WARNING if warnings else Level.FINE
    verdict = _paint(level, f"{_plural(errors, 'error')}, {_plural(warnings, 'warning')}", colour)
    lines += ["", f"{verdict}; images {NOT_OPENED}" if report.fast else verdict]
    return "\n".join(lines)


def _plural(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _paint(level: Level, text: str, colour: bool) -> str:
    return f"\033[{ANSI[level]}m{text}\033[0m" if colour else text
