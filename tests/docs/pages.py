"""The documents, and the fenced blocks in them."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.helpers import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# What a block may be: `bash` is run, `python` is run, `options` are KEY VALUE pairs of any command, `yaml` is an
# experiment, a section of one or a study; `text` (formulas, outputs, layouts), `csv` and `diff` are not run here.
LANGUAGES = {"bash", "python", "options", "yaml", "text", "csv", "diff", "bibtex"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line of the page on which it begins."""

    language: str
    text: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    return [Block(match[1], match[2], text.count("\n", 0, match.start()) + 1) for match in FENCE.finditer(text)]


def without_blocks(page: Path) -> str:
    """The text of a page with every fenced block removed, line numbers kept."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text(encoding="utf-8"))
