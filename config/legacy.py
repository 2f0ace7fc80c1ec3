"""Translates keys and values of the TransReID codebase and its relatives, and keys of earlier versions, to today's.

Every translation writes one log line: source, old -> new, reason. An option that is not built here is an error, never
dropped silently. config/legacy_keys.py has the tables, config/codebases.py what differs between the codebases.
"""

import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from config.problems import Problem
from config.structures import NAMES
from config.values import plain, same, switch

_logger = logging.getLogger(__name__)

_TUPLE_TEXT = re.compile(r"""\s*\(\s*(['"].*['"]|[-+.\d].*)\s*,?\s*\)\s*""")

Values = dict[str, Any]


@dataclass(frozen=True)
class Legacy:
    """How an old key is translated.

    Attributes:
        reason: for the log line or the error.
        becomes: pairs (old value, our keys and values). A value that is neither here nor in `drops` is an error; where
            the old key is one of ours, it is taken as it is.
        drops: values that are dropped; None: every value.
        drops_beside: value -> keys; the value is dropped where any source gives one of them.
        renamed: our key that takes every value.
        convert: value of the old key -> value of `renamed`.
        overrides: our key may be given beside it and loses; otherwise two different values are an error.
    """

    reason: str
    becomes: tuple[tuple[Any, Values], ...] = ()
    drops: tuple[Any, ...] | None = ()
    drops_beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    renamed: str = ""
    convert: Callable[[Any], Any] = lambda value: value
    overrides: bool = False

    def target(self, value: Any) -> Values:
        """Our keys and values; {} where the value does not become any."""
        if self.renamed:
            return {self.renamed: self.convert(value)}
        meant = plain(value)
        return next((new for given in (meant, switch(meant)) for old, new in self.becomes if same(old, given)), {})

    def is_dropped(self, value: Any, all_given: Collection[str]) -> bool:
        meant = plain(value)
        if self.drops is None or any(same(old, given) for old in self.drops for given in (meant, switch(meant))):
            return True
        return isinstance(meant, str) and any(key in all_given for key in self.drops_beside.get(meant, ()))

    @property
    def expected(self) -> str:
        """The values that it takes, for the error message."""
        return " or ".join(repr(old) for old in (*(old for old, _ in self.becomes), *(self.drops or ())))


def translate(
    given: Mapping[str, Any],
    source: str,
    defaults: Mapping[str, Any],
    tables: tuple[Mapping[str, Legacy], ...],
    *,
    notations: Mapping[str, tuple[tuple[Any, ...], str]],
    all_given: Collection[str] = (),
) -> tuple[Values, list[Problem]]:
    """Translates the old keys and values of one source.

    Args:
        given: dotted key -> value, of one YAML file or of the command line.
        source: its name, for the log lines.
        defaults: our default of every key.
        tables: old key -> how it is translated; the first table that has a key counts.
        notations: our key -> values that mean its default, and why.
        all_given: keys that any source gives a value other than "".

    Returns:
        The translated values, unchecked, and what cannot be translated.
    """
    values: Values = {}
    chosen: dict[str, tuple[str, Any, bool]] = {}  # our key -> the old key, our value, whether it wins
    problems: list[Problem] = []
    for key, value in given.items():
        legacy = next((table[key] for table in tables if key in table), None)
        if legacy and legacy.is_dropped(value, all_given):
            log_translation(source, key, value, "dropped", legacy.reason)
        elif legacy and (target := legacy.target(value)):
            if problem := _contradiction(key, value, target, given, chosen, source):
                problems.append(problem)
            chosen |= {ours: (key, meant, legacy.overrides) for ours, meant in target.items()}
            becomes = ", ".join(f"{ours} {meant!r}" for ours, meant in target.items())
            log_translation(source, key, value, becomes, legacy.reason)
        elif legacy is None or key in defaults:
            _translate_value(key, value, source, defaults, notations, values)
        else:
            what = NAMES.get((key, plain(value)), "")
            reason = f"{what} is not built here" if what else legacy.reason
            text = f"{key}: found {value!r}, expected {legacy.expected}: {reason}"
            problems.append(Problem(source, key, text, value, is_structure=True, what=what))
    for key, (old, value, wins) in chosen.items():
        if old != key and key in values and not wins and plain(values[key]) != plain(value):
            text = f"{old} means {key} {value!r} and {key} is given as {values[key]!r}; leave one of them out"
            problems.append(Problem(source, old, text))
        values[key] = value
    return values, problems


def _contradiction(
    key: str,
    value: Any,
    target: Values,
    given: Mapping[str, Any],
    chosen: Mapping[str, tuple[str, Any, bool]],
    source: str,
) -> Problem | None:
    """What is wrong where an earlier old key of the source means another value of one of our keys in `target`."""
    for ours, meant in target.items():
        other, before, _ = chosen.get(ours, (key, meant, False))
        if plain(before) != plain(meant):
            text = (
                f"{other} {given[other]!r} means {ours} {before!r} and {key} {value!r} means {meant!r}; leave one of "
                "them out"
            )
            return Problem(source, key, text)
    return None


def _translate_value(
    key: str,
    value: Any,
    source: str,
    defaults: Mapping[str, Any],
    notations: Mapping[str, tuple[tuple[Any, ...], str]],
    values: Values,
) -> None:
    """Puts one of our own keys into `values`; values in the codebase's notation are translated or left out."""
    unset, reason = notations.get(key, ((), ""))
    if unset and isinstance(value, str) and plain(value) in unset:
        log_translation(source, key, value, f"our default {defaults[key]!r}", reason)
        return
    values[key] = value
    if not isinstance(value, str) or key not in defaults:
        return
    if isinstance(defaults[key], bool) and isinstance(meant := switch(plain(value)), bool):
        values[key] = meant
        if value.lower() not in ("true", "false"):
            log_translation(source, key, value, repr(meant), "booleans are booleans")
    elif isinstance(defaults[key], str | list) and _TUPLE_TEXT.fullmatch(value):
        log_translation(source, key, value, repr(plain(value)), "the text of a Python tuple")


def log_translation(source: str, key: str, old: Any, new: str, reason: str) -> None:
    _logger.info("%s: %s %r -> %s (%s)", source, key, old, new, reason)
