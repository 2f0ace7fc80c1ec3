"""The words in which config/defaults.py describes a key: its default, and the rule that a value must keep."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from yacs.config import CfgNode


@dataclass(frozen=True)
class Rule:
    """What a value must be, beside having the type of the default.

    Attributes:
        expected: in words, for error messages.
        accepts: whether a value of the right type keeps the rule.
        choices: known names, to suggest the nearest one.
        length: number of elements of a list; None where any number is right.
    """

    expected: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    length: int | None = None


ANYTHING = Rule("a value", lambda value: True)


@dataclass(frozen=True)
class Key:
    """One key of the configuration.

    Attributes:
        default: its value where nothing else is given; its type is the type of the key.
        rule: what a value must be.
        is_path: ~ and environment variables in its text, or in the texts of its list, are expanded.
    """

    default: Any
    rule: Rule = ANYTHING
    is_path: bool = False


class Section(SimpleNamespace):
    """Keys by name: a Key, a plain value (a key without a rule), or a section of its own."""


NOT_EMPTY = Rule("a text that is not empty", bool)
POSITIVE = Rule("a number above 0", lambda value: 0 < value < math.inf)
PROBABILITY = Rule("a number from 0 to 1", lambda value: 0 <= value <= 1)
BELOW_ONE = Rule("a number from 0 to below 1", lambda value: 0 <= value < 1)


def key(default: Any, rule: Rule) -> Key:
    """A key that takes values of its default's type that keep `rule`."""
    return Key(default, rule)


def path(default: str | list[str], rule: Rule = ANYTHING) -> Key:
    """A key that names a file or a directory, or a list of them."""
    return Key(default, rule, is_path=True)


def one_of(*choices: str | int) -> Rule:
    names = tuple(map(str, choices))
    expected = ", ".join(name or '""' for name in names)
    return Rule(f"one of {expected}", choices.__contains__, names)


def at_least(low: int) -> Rule:
    return Rule(f"a number of at least {low}", lambda value: low <= value < math.inf)


def list_of(expected: str, accepts: Callable[[Any], bool], *, length: int | None = None) -> Rule:
    """A list, whose elements all keep `accepts`."""
    return Rule(expected, lambda values: all(map(accepts, values)), length=length)


def each_once(
    expected: str, accepts: Callable[[Any], bool], choices: tuple[str, ...] = (), *, optional: bool = False
) -> Rule:
    """A list without repetitions, whose elements all keep `accepts`; only an `optional` one may be empty."""

    def accepts_all(values: list[Any]) -> bool:
        return (optional or bool(values)) and len(values) == len(set(values)) and all(map(accepts, values))

    return Rule(expected, accepts_all, choices)


def some_of(choices: tuple[str, ...]) -> Rule:
    return each_once(f"one or more of {', '.join(choices)}, each once", choices.__contains__, choices)


def in_order(choices: tuple[str, ...]) -> Rule:
    """One or more of `choices`, in their order."""

    def accepts(values: list[str]) -> bool:
        return bool(values) and values == [choice for choice in choices if choice in values]

    return Rule(f"one or more of {', '.join(choices)}, in this order", accepts, choices)


def flatten(section: Section, prefix: str = "") -> dict[str, Key]:
    """Dotted name -> key, of a section and of those in it."""
    keys: dict[str, Key] = {}
    for name, value in vars(section).items():
        if isinstance(value, Section):
            keys |= flatten(value, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = value if isinstance(value, Key) else Key(value)
    return keys


def make_cfg(values: Mapping[str, Any]) -> CfgNode:
    """A configuration from values by dotted name; lists are copied."""
    cfg = CfgNode()
    for name, value in values.items():
        *sections, leaf = name.split(".")
        node = cfg
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[leaf] = list(value) if isinstance(value, list) else value
    return cfg
