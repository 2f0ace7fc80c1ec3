"""Loads the configuration: defaults, YAML files with their `_BASE_`s, command-line pairs; checks it and freezes it.

All faults of all sources are collected and reported together, each with where it came from.
"""

import difflib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from config.defaults import _C
from config.files import Source, leaves, read_sources
from config.legacy import codebase_defaults, codebase_keys, leave_out_for_resnet, translate
from config.options import RULES, check_together
from config.reads import unread_keys
from config.suggestions import foreign_schema, unknown_key
from config.values import coerce, describe_type, number_hint, text_keys
from utils.errors import UserError

_logger = logging.getLogger(__name__)

_COMMAND_LINE = "command line"
MAX_FAULTS = 50  # listed; the rest is counted


class ConfigError(UserError):
    """The configuration cannot be used; the message lists every fault, one per line."""


def get_defaults() -> CfgNode:
    """Returns a fresh clone of the defaults, which the caller may modify."""
    return _C.clone()


def load_cfg(config_file: str | None = None, opts: Sequence[str] = ()) -> CfgNode:
    """Merges a YAML file and command-line pairs over the defaults.

    A file may name others to start from, `_BASE_: ../base.yml` or a list of them, relative to itself. Keys and values
    of the TransReID codebase are translated (config/legacy.py). A key that the file itself or the command line gives
    and that nothing in the experiment reads is told in the log (config/reads.py).

    Args:
        config_file: path of a YAML file; None for the defaults.
        opts: KEY VALUE KEY VALUE ...; dotted keys, values as YAML or as texts of Python tuples.

    Returns:
        The configuration, frozen.

    Raises:
        ConfigError: a file cannot be read, or a key or a value is wrong; every fault of every source is listed.
    """
    cfg = get_defaults()
    defaults = dict(leaves(cfg))
    faults: list[str] = []
    files = [] if config_file is None else read_sources(config_file, text_keys(defaults), faults)
    sources = [*files, Source(_COMMAND_LINE, _pairs(opts, faults), is_file=False)]
    merger = _Merger(defaults, faults)
    merger.merge(sources)
    if not faults:
        faults += check_together(merger.values)
    if faults:
        raise ConfigError(_listed(faults))
    merger.finish(sources)
    for key, value in merger.values.items():
        *sections, leaf = key.split(".")
        node = cfg
        for section in sections:
            node = node[section]
        node[leaf] = value
    cfg.freeze()
    return cfg


def _listed(faults: Iterable[str]) -> str:
    faults = list(dict.fromkeys(faults))
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    more = [f"... and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    return "\n  ".join([f"{count} in the configuration:", *faults[:MAX_FAULTS], *more])


def _pairs(opts: Sequence[str], faults: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    remaining = iter(opts)
    for key in map(str, remaining):
        if re.match(r"[\w.]+=", key):
            faults.append(
                f"{_COMMAND_LINE}: found {key!r:.200}, expected KEY VALUE with a space: {key.replace('=', ' ', 1):.200}"
            )
        elif key.endswith((".yml", ".yaml")):
            faults.append(f"{_COMMAND_LINE}: found {key}, expected KEY VALUE; a file is given as --config_file {key}")
        else:
            value = next(remaining, None)
            if value is None:
                faults.append(f"{_COMMAND_LINE}: {key} has no value, expected KEY VALUE KEY VALUE ...")
            else:
                given[key] = value
    return given


class _Merger:
    """The merged values, and where each was given."""

    def __init__(self, defaults: Mapping[str, Any], faults: list[str]) -> None:
        self.defaults, self.faults = defaults, faults
        self.values = dict(defaults)
        self.given_by: dict[str, str] = {}  # key -> source that gave it last; codebase defaults are not given
        self.codebase_files: set[str] = set()

    def merge(self, sources: Sequence[Source]) -> None:
        all_given = {key for source in sources for key, value in source.given.items() if value not in ("", None)}
        foreign = [
            fault for source in sources if source.is_file and (fault := foreign_schema(source.name, source.given))
        ]
        if foreign:  # one line says it all, whatever else its keys would give
            self.faults[:] = foreign[-1:]
            return
        for source in sources:
            try:
                translated, legacy_faults = translate(source.given, source.name, self.defaults, all_given=all_given)
            except UserError as error:
                self.faults.append(f"{source.name}: {error}")
                continue
            self.faults += [f"{source.name}: {fault}" for fault in legacy_faults]
            if source.is_file and codebase_keys(source.given):
                self.codebase_files.add(source.name)
            if source.is_root:
                self.values |= codebase_defaults(source.given, translated, source.name, self.defaults)
            for key, value in translated.items():
                self.put(key, value, source.name)

    def put(self, key: str, value: Any, source: str) -> None:
        """Checks one value and puts it into `values`, or appends a fault."""
        if key not in self.defaults:
            if value in (None, {}) and any(known.startswith(f"{key}.") for known in self.defaults):
                return  # A section whose keys are all commented out reads as None: it says nothing.
            listed = len(self.faults) < MAX_FAULTS
            fault = unknown_key(key, self.defaults) if listed else f"{key:.80} is not a known key"
            self.faults.append(f"{source}: {fault}")
            return
        fault = self.check(key, value)
        if fault:
            self.faults.append(f"{source}: {key}: {fault}")
        else:
            self.given_by[key] = source

    def check(self, key: str, value: Any) -> str:
        """Puts the value, of the key's type, into `values`; returns what is wrong with it, or ""."""
        rule, found = RULES.get(key), f"found {_shown(value)}"
        try:
            coerced = coerce(key, value, self.defaults[key])
        except TypeError:
            expected = describe_type(key, self.defaults[key])
            options = f": {rule.expected}" if rule is not None and rule.choices else ""
            is_list = isinstance(self.defaults[key], list)
            is_number = expected.endswith(("integer", "number", "integers", "numbers"))
            hint = number_hint(value, is_list=is_list) if is_number else ""
            return f"{found}, expected {expected}{options}{hint}"
        except UserError as error:
            return re.sub(rf"^({re.escape(key)}|value): (line \d+: )?", "", str(error))
        if rule is not None and not rule.holds(coerced):
            return f"{found}, expected {rule.expected}{_nearest_choice(coerced, rule.choices)}"
        self.values[key] = coerced
        return ""

    def finish(self, sources: Sequence[Source]) -> None:
        """Says what the values mean where that is not plain, once they are whole and right."""
        values = self.values
        leave_out_for_resnet(values, self.given_by, self.codebase_files)
        if values["TEST.RE_RANKING"] and not self.given_by.keys() & {"TEST.RE_RANKING_K1", "TEST.RE_RANKING_K2"}:
            _logger.info(
                "TEST.RE_RANKING: K1 %d and K2 %d, which are not given; the TransReID codebase has 50 and 15, the "
                "paper, BoT, PASS and CLIP-ReID 20 and 6",
                values["TEST.RE_RANKING_K1"],
                values["TEST.RE_RANKING_K2"],
            )
        own = {source.name for source in sources[-2:]}
        merged = [source for source in sources if len(source.given) > 0.75 * len(self.defaults)]
        for key, reads in unread_keys(values).items():
            source = self.given_by.get(key)
            # A merged configuration (config.yml) gives every key; only another value than the default says something.
            says_nothing = source in [each.name for each in merged] and values[key] == self.defaults[key]
            if source in own and not says_nothing:
                _logger.warning("%s: %s is given, and nothing in this run reads it: %s", source, key, reads)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _nearest_choice(value: Any, choices: Sequence[str]) -> str:
    for name in value if isinstance(value, list) else [value]:
        if isinstance(name, str) and name not in choices:
            lowered = {choice.lower(): choice for choice in choices}
            near = difflib.get_close_matches(name.lower()[:80], lowered, n=1)
            # The beginning of a long name is not alike enough for difflib: vit_tiny.
            near = near or [choice for choice in lowered if name and choice.startswith(name.lower())]
            if near:
                return f"; did you mean {lowered[near[0]]}?"
    return ""
