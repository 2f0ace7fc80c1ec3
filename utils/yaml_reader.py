"""Reads YAML within bounds: configuration files, values of the command line and configurations in checkpoints.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), so 010 is 10, 0o17 is 15,
1e3 is a number, and yes, no, on, off, 1:30, 1_000 and dates are text. PyYAML's own loaders follow YAML 1.1, where 010
is 8, so PyYAML only splits the text into events here. Its Python parser yields them one by one: a text that expands to
too many values is refused as soon as it exceeds a limit. Messages do not depend on whether libyaml is installed.
"""

import math
import re
from collections.abc import Collection, Iterator
from typing import Any

import yaml

from utils.errors import UserError

# A merged configuration has about 200 values, 4 levels and 6,000 characters.
MAX_CHARACTERS = 2**18
MAX_VALUES = 5_000  # with every alias expanded; 100 characters of text count as one more
MAX_DEPTH = 16

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{f"{sign}{word}": float(f"{sign}inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = tuple(f"{_TAG}{name}" for name in ("null", "bool", "int", "float"))


class NotYamlError(UserError):
    """The text does not follow YAML's syntax."""


def load_yaml(text: str, where: str, *, as_text: Collection[str] = ()) -> Any:
    """Reads one YAML document.

    Args:
        text: at most MAX_CHARACTERS characters; a byte order mark is skipped.
        where: file name or the like, the beginning of every message.
        as_text: dotted keys whose plain scalars stay text, e.g. `OUTPUT_DIR: 2024`.

    Returns:
        dict (keys are text), list, str, int of at most 64 bits, float, bool or None; None for an empty text. Aliases
        of one anchor share one value.

    Raises:
        NotYamlError: not valid YAML.
        UserError: a repeated key, several documents, a tag, an alias without an anchor, a number that is too large, or
            more characters, values or levels than the limits.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{where}: {len(text)} characters, expected at most {MAX_CHARACTERS}; is it the right text?")
    reader = _Reader(yaml.parse(text.removeprefix("\ufeff"), Loader=yaml.SafeLoader), where, frozenset(as_text))
    try:
        return reader.document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        hint = "; YAML indents with spaces, not with tabs" if "'\\t'" in problem else ""
        raise NotYamlError(f"{where}: not valid YAML: {place}{problem}{hint}") from error


def load_mapping(text: Any, where: str) -> dict[str, Any]:
    """Reads a mapping, e.g. the configuration in a checkpoint; {} for an empty text.

    Raises:
        UserError: see `load_yaml`; or `text` is no str, or not a mapping.
    """
    content = load_yaml(text, where) if isinstance(text, str) else text
    if content is None and isinstance(text, str):
        return {}
    if not isinstance(content, dict) or not isinstance(text, str):
        raise UserError(
            f"{where}: found {content!r:.60}, expected sections of keys, e.g. 'SOLVER:' with 'BASE_LR: 0.05'"
        )
    return content


def read_scalar(text: str) -> bool | int | float | str | None:
    """The value of a plain scalar by YAML 1.2's core schema.

    Raises:
        ValueError: the number does not fit into its type.
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-0ox")
        number = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(digits) < 64 else 2**64
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"the integer {text:.24}{'...' * (len(text) > 24)} has more than 64 bits")
        return number
    if _FLOAT.fullmatch(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError(f"the number {text:.24} is too large; infinity is written .inf")
        if not value and re.search("[1-9]", re.split("[eE]", text)[0]):
            raise ValueError(f"the number {text:.24} is too small, it would be 0")
        return value
    return text


class _Reader:
    """Builds the values of one document from its events, and counts them."""

    def __init__(self, events: Iterator[yaml.Event], where: str, as_text: frozenset[str]) -> None:
        self.events, self.where, self.as_text = events, where, as_text
        self.count = 0
        self.anchors: dict[str, tuple[Any, int, int]] = {}  # value, number of values in it, levels below it

    def document(self) -> Any:
        next(self.events)  # start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        value, _ = self.value(next(self.events), ())
        next(self.events)  # end of the document
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            raise self.error(following, "a second document begins (---); expected one document")
        return value

    def error(self, event: yaml.Event, message: str) -> UserError:
        return UserError(f"{self.where}: line {event.start_mark.line + 1}: {message}")

    def check(self, event: yaml.Event, *, values: int, depth: int) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            raise self.error(event, f"more than {MAX_VALUES} values with aliases written out, as no configuration has")
        if depth > MAX_DEPTH:
            raise self.error(event, f"nested more than {MAX_DEPTH} deep, which no configuration is")

    def value(self, event: yaml.Event, path: tuple[str, ...]) -> tuple[Any, int]:
        """The value that begins with `event`, and its number of levels."""
        before = self.count
        self.check(event, values=1 + len(getattr(event, "value", "")) // 100, depth=len(path))
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.error(event, f"*{event.anchor} stands for nothing: &{event.anchor} must end before it")
            value, size, height = self.anchors[event.anchor]
            self.check(event, values=size, depth=len(path) + height)
            return value, height
        if isinstance(event, yaml.ScalarEvent):
            value, height = self.scalar(event, ".".join(path)), 0
        elif isinstance(event, yaml.SequenceStartEvent):
            value, height = self.sequence(event, path)
        else:
            value, height = self.mapping(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = value, self.count - before, height
        return value, height

    def scalar(self, event: yaml.ScalarEvent, path: str) -> Any:
        tag = event.tag if event.tag not in (None, "!") else None
        if tag not in (None, f"{_TAG}str", *_SCALAR_TAGS):
            raise self.error(event, f"the tag {tag} is not read; expected plain values")
        if not (event.implicit[0] or tag in _SCALAR_TAGS):
            return event.value
        try:
            value = read_scalar(event.value)
        except ValueError as error:
            if path in self.as_text:
                return event.value
            raise self.error(event, f"{path}: {error}" if path else str(error)) from error
        return event.value if path in self.as_text and value is not None else value

    def sequence(self, event: yaml.SequenceStartEvent, path: tuple[str, ...]) -> tuple[list, int]:
        self.check_tag(event, "seq")
        values, height = [], 0
        while not isinstance(item := next(self.events), yaml.SequenceEndEvent):
            value, below = self.value(item, (*path, "[]"))
            values.append(value)
            height = max(height, below + 1)
        return values, height

    def mapping(self, event: yaml.MappingStartEvent, path: tuple[str, ...]) -> tuple[dict[str, Any], int]:
        self.check_tag(event, "map")
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        height = 0
        while not isinstance(key := next(self.events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                raise self.error(key, "found a list, a section or an alias as a key, expected a name")
            name = key.value
            place = (*path, name)
            if name == "<<" and key.implicit[0]:
                below = self.merge(key, merged, path)
            elif name in values:
                raise self.error(key, f"{'.'.join(place)} is given twice; leave one of them out")
            else:
                values[name], below = self.value(next(self.events), place)
            height = max(height, below + 1)
        return merged | values, height

    def merge(self, key: yaml.Event, merged: dict[str, Any], path: tuple[str, ...]) -> int:
        """Adds the mappings that `<<` names to `merged`; earlier ones win."""
        named, height = self.value(next(self.events), path)
        for mapping in named if isinstance(named, list) else [named]:
            if not isinstance(mapping, dict):
                raise self.error(key, f"<<: found {mapping!r:.60}, expected a section, or a list of sections")
            for name, value in mapping.items():
                merged.setdefault(name, value)
        return height - (2 if isinstance(named, list) else 1)  # the entries, not the mappings, are at this level

    def check_tag(self, event: yaml.CollectionStartEvent, kind: str) -> None:
        if event.tag not in (None, "!", f"{_TAG}{kind}"):
            raise self.error(event, f"the tag {event.tag} is not read; expected plain values")
