"""Reads YAML files with their `_BASE_`s; the number and the size of the files and the depth of values are bounded."""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError, did_you_mean
from utils.files import expand_path, read_text
from utils.yaml_reader import MAX_CHARACTERS, load_yaml

_ROOT = Path(__file__).resolve().parent.parent
MAX_FILES = 32
NEAREST = 3  # configurations named where a file is missing


@dataclass(frozen=True)
class Source:
    """What one file, or the command line, gives.

    Attributes:
        name: of the file, or of the command line, for messages.
        given: dotted key -> value.
        is_root: it is a file without `_BASE_`.
        is_file: it is a file.
    """

    name: str
    given: dict[str, Any]
    is_root: bool = False
    is_file: bool = True


def read_sources(config_file: str, text_keys: Collection[str], errors: list[str]) -> list[Source]:
    """Reads a file and its bases.

    Args:
        config_file: path as the user wrote it.
        text_keys: keys whose scalars are text as written, see config.values.text_keys.
        errors: what is wrong is appended here.

    Returns:
        The bases and the file, in the order in which they are merged.
    """
    reader = _FileReader(text_keys, errors)
    try:
        reader.read(Path(expand_path(str(config_file), "--config_file")), ())
    except UserError as error:
        errors.append(str(error))
    return reader.sources


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested sections; an empty section is a value."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class _FileReader:
    """Follows `_BASE_`s. A file that is named twice is read and merged twice."""

    def __init__(self, text_keys: Collection[str], errors: list[str]) -> None:
        self.text_keys, self.errors = text_keys, errors
        self.sources: list[Source] = []
        self.count = self.characters = 0

    def read(self, path: Path, chain: tuple[Path, ...]) -> None:
        """Appends the sources of a file's bases and of the file.

        Args:
            path: the file.
            chain: the files whose `_BASE_` led here.

        Raises:
            UserError: there are more than MAX_FILES files, or a path cannot be expanded.
        """
        here = Path(os.path.realpath(path))  # Path.resolve raises on a loop of links
        if here in chain:
            self.errors.append(f"_BASE_ runs in a circle: {' -> '.join(_show(step) for step in (*chain, here))}")
            return
        self.count += 1
        if self.count > MAX_FILES:
            raise UserError(f"{_show(path)}: the {self.count}th file by _BASE_, expected at most {MAX_FILES}")
        content = self.parse(path, f" (_BASE_ of {_show(chain[-1])})" if chain else "")
        bases = content.pop("_BASE_", [])
        bases = [bases] if isinstance(bases, str) else bases
        if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
            self.errors.append(
                f"{_show(path)}: _BASE_: found {bases!r:.80}, expected a path, or a list of paths, relative to the file"
            )
            bases = []
        for base in bases:
            self.read(here.parent / expand_path(base, f"{_show(path)}: _BASE_"), (*chain, here))
        given: dict[str, Any] = {}
        for key, value in flatten(content):
            if key in given:  # SOLVER: {MARGIN: 1} beside SOLVER.MARGIN: 2
                self.errors.append(f"{_show(path)}: {key} is given twice; leave one of them out")
            given[key] = value
        self.sources.append(Source(_show(path), given, is_root=not bases))

    def parse(self, path: Path, why: str) -> dict[str, Any]:
        try:
            text = read_text(path, max_bytes=MAX_CHARACTERS)
            self.characters += len(text)
            if self.characters > MAX_CHARACTERS:
                self.errors.append(f"{_show(path)}: more than {MAX_CHARACTERS} characters in this file and its bases")
                return {}
            content = load_yaml(text, _show(path), as_text=self.text_keys)
        except UserError as error:
            missing = isinstance(error.__cause__, FileNotFoundError)
            self.errors.append(_missing_file(path, why) if missing else f"{error}{why}")
            return {}
        if content is None:
            return {}
        if not isinstance(content, dict):
            self.errors.append(
                f"{_show(path)}: found {content!r:.60}, expected sections of keys, e.g. 'SOLVER:' with 'BASE_LR: 0.05'"
            )
            return {}
        return content


def _missing_file(path: Path, why: str) -> str:
    known = sorted(str(file.relative_to(_ROOT)) for file in (_ROOT / "configs").rglob("*.yml"))
    tail = Path(*Path(os.path.realpath(path)).parts[-3:])  # as long as configs/Market/cfat.yml
    near = did_you_mean(tail, known, count=NEAREST, cutoff=0.7) or f"; configurations are in {_ROOT / 'configs'}"
    return f"{_show(path)}: no such file{why}{near}"


def _show(path: Path) -> str:
    """The path relative to the working directory where it lies below it; else as it is."""
    resolved = Path(os.path.realpath(path))
    return str(resolved.relative_to(Path.cwd())) if resolved.is_relative_to(Path.cwd()) else str(path)
