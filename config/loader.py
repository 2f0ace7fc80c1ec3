"""Loads the configuration: defaults, YAML files with their `_BASE_`s, command-line pairs; checks it and freezes it.

All faults of all sources are collected and reported together, each with where it came from.
"""

import difflib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from config.defaults import _C
from config.legacy import LEGACY_KEYS, is_teacher_key, translate
from config.options import RULES, check_together
from config.values import coerce, describe_type

_logger = logging.getLogger(__name__)

_ROOT = Path(__file__).resolve().parent.parent
_COMMAND_LINE = "command line"
# Below this likeness a name is not suggested; the value is difflib's own default.
_LIKENESS = 0.6


class ConfigError(ValueError):
    """The configuration cannot be used; the message lists every fault, one per line."""


def get_defaults() -> CfgNode:
    """Returns a fresh clone of the defaults, which the caller may modify."""
    return _C.clone()


def load_cfg(config_file: str | None = None, opts: Sequence[str] = ()) -> CfgNode:
    """Merges a YAML file and command-line pairs over the defaults.

    A file may name others to start from, `_BASE_: ../base.yml` or a list of them, relative to itself. Keys and values
    of the TransReID family are translated (config/legacy.py).

    Args:
        config_file: path of a YAML file; None for the defaults.
        opts: KEY VALUE KEY VALUE ...; dotted keys, values as Python or YAML literals.

    Returns:
        The configuration, frozen.

    Raises:
        ConfigError: a file cannot be read, or a key or a value is wrong; every fault of every source is listed.
    """
    cfg = get_defaults()
    defaults = dict(_leaves(cfg))
    faults: list[str] = []
    sources: list[tuple[str, dict[str, Any], bool]] = []
    if config_file is not None:
        _read_file(Path(config_file), (), sources, faults)
    sources.append((_COMMAND_LINE, _pairs(opts, faults), False))
    values = dict(defaults)
    from_cfat = any(is_teacher_key(key) for _, given, _ in sources for key in given)
    for source, given, is_root in sources:
        translated, legacy_faults = translate(
            given, source, defaults, apply_family_defaults=is_root, from_cfat=from_cfat
        )
        faults += [f"{source}: {fault}" for fault in legacy_faults]
        for key, value in translated.items():
            _merge(key, value, source, defaults, values, faults)
    if not faults:
        faults += check_together(values)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError("\n  ".join([f"{count} in the configuration:", *faults]))
    for key, value in values.items():
        *sections, leaf = key.split(".")
        node = cfg
        for section in sections:
            node = node[section]
        node[leaf] = value
    cfg.freeze()
    return cfg


def _leaves(node: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps count of keys given twice, of which YAML silently keeps the last."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [str(key.value) for key, _ in node.value]
        self.repeated += sorted({name for name in names if names.count(name) > 1})
        return super().construct_mapping(node, deep)


def _read_file(
    path: Path, chain: tuple[Path, ...], sources: list[tuple[str, dict[str, Any], bool]], faults: list[str]
) -> None:
    """Appends (name, flat keys, has no _BASE_) of the file's bases and of the file itself; `chain` led here."""
    here = path.resolve()
    if here in chain:
        faults.append(f"_BASE_ runs in a circle: {' -> '.join(_show(step) for step in (*chain, here))}")
        return
    content = _parse_file(path, f" (_BASE_ of {_show(chain[-1])})" if chain else "", faults)
    bases = content.pop("_BASE_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        faults.append(
            f"{_show(path)}: _BASE_: found {bases!r}, expected a path, or a list of paths, relative to the file"
        )
        bases = []
    for base in bases:
        _read_file(here.parent / base, (*chain, here), sources, faults)
    sources.append((_show(path), dict(_leaves(content)), not bases))


def _parse_file(path: Path, why: str, faults: list[str]) -> dict[Any, Any]:
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        content = loader.get_single_data()
    except FileNotFoundError:
        known = sorted(str(file.relative_to(_ROOT)) for file in (_ROOT / "configs").rglob("*.yml"))
        near = difflib.get_close_matches(str(path), known, n=1, cutoff=0.8)
        nearest = f"; did you mean {_ROOT / near[0]}?" if near else ""
        faults.append(
            f"{_show(path)}: no such file{why}{nearest}; {_ROOT} has {', '.join(known) or 'none in configs/'}"
        )
        return {}
    except (OSError, ValueError) as error:
        faults.append(f"{_show(path)}: cannot be read{why}: {error}")
        return {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        faults.append(f"{_show(path)}: not valid YAML: {where}{getattr(error, 'problem', None) or error}")
        return {}
    for name in loader.repeated:
        _logger.warning("%s: %s is given twice in one section; the last one counts", _show(path), name)
    if content is None:
        return {}
    if not isinstance(content, dict):
        faults.append(
            f"{_show(path)}: found {content!r:.60}, expected sections of keys, e.g. 'SOLVER:' with 'BASE_LR: 0.05'"
        )
        return {}
    return content


def _pairs(opts: Sequence[str], faults: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    remaining = list(opts)
    while remaining:
        key = str(remaining.pop(0))
        if re.match(r"[A-Za-z_.]+=", key):
            faults.append(
                f"{_COMMAND_LINE}: found {key!r}, expected KEY VALUE with a space: {key.replace('=', ' ', 1)}"
            )
        elif key.endswith((".yml", ".yaml")):
            faults.append(f"{_COMMAND_LINE}: found {key}, expected KEY VALUE; a file is given as --config_file {key}")
        elif not remaining:
            faults.append(f"{_COMMAND_LINE}: {key} has no value, expected KEY VALUE KEY VALUE ...")
        else:
            given[key] = remaining.pop(0)
    return given


def _merge(
    key: str, value: Any, source: str, defaults: Mapping[str, Any], values: dict[str, Any], faults: list[str]
) -> None:
    """Checks one value and puts it into `values`, or appends a fault."""
    if key not in defaults:
        if value is None and any(known.startswith(f"{key}.") for known in defaults):
            return  # A section whose keys are all commented out reads as None: it says nothing.
        faults.append(f"{source}: {_unknown(key, defaults)}")
        return
    rule = RULES.get(key)
    try:
        coerced = coerce(key, value, defaults[key])
    except TypeError:
        expected = describe_type(key, defaults[key])
        options = f": {rule.expected}" if rule is not None and rule.choices else ""
        faults.append(f"{source}: {key}: found {value!r}, expected {expected}{options}")
        return
    if rule is not None and not rule.holds(coerced):
        faults.append(
            f"{source}: {key}: found {value!r}, expected {rule.expected}{_nearest_choice(coerced, rule.choices)}"
        )
        return
    values[key] = coerced


def _nearest_choice(value: Any, choices: Sequence[str]) -> str:
    for name in value if isinstance(value, list) else [value]:
        if isinstance(name, str) and name not in choices:
            lowered = {choice.lower(): choice for choice in choices}
            near = difflib.get_close_matches(name.lower(), lowered, n=1)
            # The beginning of a long name is not alike enough for difflib: vit_tiny.
            near = near or [choice for choice in lowered if name and choice.startswith(name.lower())]
            if near:
                return f"; did you mean {lowered[near[0]]}?"
    return ""


def _unknown(key: str, defaults: Mapping[str, Any]) -> str:
    inside = [known for known in defaults if known.startswith(f"{key}.")]
    if inside:
        return f"{key} is a section, expected its keys, e.g. {inside[0]}"
    parents = [known for known in defaults if key.startswith(f"{known}.")]
    if parents:
        expected = describe_type(parents[0], defaults[parents[0]])
        return f"{key}: {parents[0]} is a key with a value, not a section; expected {expected}"
    likeness, near = max((_likeness(key, known), known) for known in (*defaults, *LEGACY_KEYS))
    if likeness < _LIKENESS:
        sections = ", ".join(dict.fromkeys(known.split(".")[0] for known in defaults))
        return f"{key} is not a known key; config/defaults.py explains every key of {sections}"
    return f"{key} is not a known key; did you mean {near}?"


def _likeness(key: str, known: str) -> float:
    """Likeness of the dotted names, raised where the last names are alike: BASE_LR alone means SOLVER.BASE_LR."""

    def ratio(first: str, second: str) -> float:
        return difflib.SequenceMatcher(None, first.upper(), second.upper()).ratio()

    full = ratio(key, known)
    leaf = ratio(key.split(".")[-1], known.split(".")[-1])
    # A likeness of the whole counts even where the last names differ; among like last names, the whole decides.
    return max(full, leaf) + min(full, leaf) / 2 if max(full, leaf) >= _LIKENESS else 0.0


def _show(path: Path) -> str:
    """The path as a person would type it: relative to the working directory where it lies below it."""
    resolved = path.resolve()
    return str(resolved.relative_to(Path.cwd())) if resolved.is_relative_to(Path.cwd()) else str(path)
