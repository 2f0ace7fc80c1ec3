"""The field's words: banned words in product code and documents, with the word to say instead."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import REPOSITORY
from tests.test_structure import LAYERS

# Words, also as parts of names: TestPictures, _fault_of.
WORDS = {
    **dict.fromkeys(("picture", "pictures"), "image"),
    **dict.fromkeys(("fault", "faults", "faulty", "mistake", "mistakes"), "error"),
    "doctor": "validation",
    **dict.fromkeys(("rehearse", "rehearsal", "rehearses", "rehearsed"), "dry run"),
    **dict.fromkeys(("settle", "settles", "settled"), "raise_if_errors, decide, choose"),
    "redraw": "sample again",
}
PHRASES = {
    "the family": "the TransReID codebase",
    "of the family": "of the TransReID codebase",
    "test setting": "protocol",
    "stands in for": "falls back to, replaces",
    "stand in for": "fall back to, replace",
    "under a number": "backed up as NAME.1",
    "tensor of no dimension": "0-dim tensor",
    "on the way back": "in backward",
    "a start from": "initial weights",
}
# (beginning of a path, regular expression of a line) that may hold them.
ALLOWED = (
    ("", r"CHECK_PICTURES"),  # the name that a key had
    ("", r"published picture|https?://"),
    ("corruption/", r"(?i)the family"),  # a family of corruptions
    ("processor/", r"the family"),
    ("docs/", r"the family of corruptions"),
    # keys of files on users' disks, and a label that seeds are derived from
    ("datasets/", r"[\"']pictures?[\"']"),
    ("processor/", r"num_pictures"),
    ("CHANGELOG.md", r"^\|.*`"),  # names that something had
)
PARTS = {
    **{package: (f"{package}/**/*.py", f"{package}/**/*.pyx") for package in LAYERS},
    "templates": ("processor/report/templates/*",),
    "top level": ("*.py", "*.md", "Makefile", "requirements.txt", "pyproject.toml"),
    "configs": ("configs/**/*.yml",),
    "docs": ("docs/**/*.md",),
}


def banned(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, banned word, and what to say instead, for every one in a text."""
    for number, line in enumerate(text.splitlines(), 1):
        parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", line)}
        words = sorted(parts & WORDS.keys()) + [
            phrase for phrase in PHRASES if re.search(rf"\b{phrase}\b", line.lower())
        ]
        for word in words:
            yield number, word, WORDS.get(word) or PHRASES[word]


def banned_in(root: Path, pattern: str) -> list[str]:
    found = []
    for path in sorted(root.glob(pattern)):
        name, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        lines = text.splitlines()
        found += [
            f"{name}:{number}: {word!r}; say {instead}"
            for number, word, instead in banned(text)
            if not any(name.startswith(start) and re.search(line, lines[number - 1]) for start, line in ALLOWED)
        ]
    return found


@pytest.mark.parametrize("part", PARTS)
def test_no_banned_words(part):
    found = [line for pattern in PARTS[part] for line in banned_in(REPOSITORY, pattern)]
    assert not found, f"{len(found)} in {part}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class TestPictures:", ["pictures"]),
        ("def _name_faults(): PICTURE", ["faults", "picture"]),
        ("as the family has it", ["the family"]),
        ("default defaults picturesque families", []),
    ],
)
def test_words_are_found_in_names(text, words):
    assert sorted(word for _, word, _ in banned(text)) == words
