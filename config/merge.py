"""Merges the sources of a configuration: translates old keys, checks every value, and lists what is wrong."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from config.checks import check_value
from config.codebases import Codebase, codebase_defaults, codebase_of, tables_for, take_plain_cross_entropy
from config.defaults import SCHEMA
from config.files import Source
from config.legacy import translate
from config.legacy_keys import UNSET_VALUES
from config.no_effect import without_effect
from config.problems import Problem, by_section, lines_of
from config.schema import make_cfg
from config.structures import SWITCHES, asked_for, unknown_choice
from config.suggestions import foreign_schema, is_misspelt_section, misplaced_key, nearest_known, unknown_key
from utils.errors import UserError

_logger = logging.getLogger(__name__)

MAX_NAMED = 5  # keys that the line about a file without any known one names
MAX_COMPARED = 50  # unknown keys for which a similar known one is looked for
SECTIONS = {name.partition(".")[0] for name in SCHEMA if "." in name}
DEFAULTS: dict[str, Any] = {name: key.default for name, key in SCHEMA.items()}


@dataclass
class Merged:
    """Values merged so far.

    Attributes:
        values: dotted key -> value.
        given_by: key -> name of the source that gave it last; defaults, ours or the codebase's, are not given.
        codebase_files: names of the files that use keys of the TransReID codebase or a relative.
        problems: what is wrong.
    """

    values: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    given_by: dict[str, str] = field(default_factory=dict)
    codebase_files: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        return lines_of(self.problems, self.codebase_files)


def merge(sources: Sequence[Source], errors: Sequence[str]) -> Merged:
    """Translates and checks the values of every source and merges them in order; later sources win.

    Args:
        sources: bases, file and command line.
        errors: of reading them.
    """
    merged = Merged(problems=[Problem("", "", text) for text in errors])
    foreign = [text for source in sources if source.is_file and (text := foreign_schema(source.name, source.given))]
    if foreign:  # one line says it all, whatever else is wrong with its keys
        merged.problems = [Problem("", "", foreign[-1])]
        return merged
    all_given = {key for source in sources for key, value in source.given.items() if value not in ("", None)}
    codebase: Codebase | None = None
    for source in sources:
        own = codebase_of(source.given) if source.is_file else None
        if own:
            merged.codebase_files.add(source.name)
        codebase = own or codebase
        given = _leave_out_without_effect(source, merged) if own else source.given
        try:
            tables = tables_for(given, codebase)
            translated, problems = translate(
                given, source.name, DEFAULTS, tables, notations=UNSET_VALUES, all_given=all_given
            )
        except UserError as error:
            merged.problems.append(Problem(source.name, "", str(error)))
            continue
        merged.problems += problems
        if source.is_root and own:
            merged.values |= codebase_defaults(given, translated, source.name, DEFAULTS, own)
        for key, value in translated.items():
            _merge_value(merged, key, value, source.name)
    own_files = {source.name for source in sources if source.is_file} - merged.codebase_files
    sampler_of = merged.given_by.get("DATALOADER.SAMPLER", next(iter(sorted(merged.codebase_files)), ""))
    if codebase and sampler_of not in own_files:
        take_plain_cross_entropy(merged.values, merged.given_by, sampler_of, codebase)
    _leave_out_unknown(merged, sources)
    return merged


def _leave_out_without_effect(source: Source, merged: Merged) -> dict[str, Any]:
    """What a file of a relative gives, without the keys that change nothing here; one log line names them."""
    structures = asked_for(source.given, source.name)
    merged.problems += structures
    reasons = without_effect(source.given)
    if reasons:
        listed = ", ".join(f"{key} {source.given[key]!r} ({reason})" for key, reason in reasons.items())
        _logger.info("%s: keys that change nothing here: %s", source.name, listed)
    known = {*reasons, *SWITCHES, *(name for structure in structures for name in structure.settings)}
    return {key: value for key, value in source.given.items() if key not in known}


def _merge_value(merged: Merged, key: str, value: Any, source: str) -> None:
    if key not in SCHEMA:
        if value in (None, {}) and any(known.startswith(f"{key}.") for known in SCHEMA):
            return  # a section whose keys are all commented out reads as None
        if text := misplaced_key(key, SCHEMA):
            merged.problems.append(Problem(source, key, text))
            return
        meant, text = "", f"{key:.80} is not a known key"
        if len(merged.problems) < MAX_COMPARED:  # a comparison with every key takes time
            meant = nearest_known(key, SCHEMA)
            text = unknown_key(key, meant, SCHEMA)
        section = key.partition(".")[0] if "." in key else ""
        section = "" if section in SECTIONS else section
        merged.problems.append(Problem(source, key, text, is_unknown=True, meant=meant, section=section))
        return
    try:
        merged.values[key] = check_value(key, value, SCHEMA[key])
        merged.given_by[key] = source
    except UserError as error:
        problem = unknown_choice(source, key, value, SCHEMA) if source in merged.codebase_files else None
        merged.problems.append(problem or Problem(source, key, f"{key}: {error}", value))


def _leave_out_unknown(merged: Merged, sources: Sequence[Source]) -> None:
    """With UNKNOWN_KEYS warn, leaves out keys that are not known, and names them in one warning and in the values.

    A file of which nothing is known, or whose model is not, would run another experiment; one line refuses it.
    """
    cfg = make_cfg(merged.values)
    if cfg.UNKNOWN_KEYS != "warn":
        return
    left_out = [problem for problem in merged.problems if problem.is_unknown or problem.key in SWITCHES]
    if not left_out:
        return
    unknown = {(problem.source, key) for problem in left_out for key in (problem.key, *problem.settings)}
    for source in sources:
        if source.is_file and (text := _nothing_left(source, {key for name, key in unknown if name == source.name})):
            merged.problems = [problem for problem in merged.problems if problem not in left_out]
            merged.problems.append(Problem(source.name, "", text))
            return
    keys = list(dict.fromkeys(key for problem in left_out for key in (problem.key, *problem.settings)))
    merged.problems = [problem for problem in merged.problems if problem not in left_out]
    merged.values["LEFT_OUT_KEYS"] = sorted({*cfg.LEFT_OUT_KEYS, *keys})
    _logger.warning(
        "%s: keys that are not known here are left out (UNKNOWN_KEYS warn), %d: %s",
        ", ".join(dict.fromkeys(problem.source for problem in left_out)),
        len(keys),
        by_section(keys),
    )


def _nothing_left(source: Source, unknown: set[str]) -> str:
    """Why UNKNOWN_KEYS warn cannot leave out the unknown keys of a file; "" where enough of it is known."""
    given = [key for key in source.given if key != "UNKNOWN_KEYS"]
    sections = {key.partition(".")[0] for key in given if "." in key}
    models = {f"{name}." for name in sections if is_misspelt_section(name, "MODEL")}
    of_model = [key for key in given if key.startswith(tuple(models))]
    for keys, what in ((given, "a key"), (of_model, "a key of a model")):
        if keys and unknown.issuperset(keys):
            return (
                f"none of {by_section(keys[:MAX_NAMED])}{', ...' if len(keys) > MAX_NAMED else ''} is {what} that is "
                "known here; UNKNOWN_KEYS warn would run another experiment than the file's"
            )
    return ""
