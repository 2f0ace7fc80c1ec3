"""Loads a configuration: reads the sources, translates legacy keys, checks and merges the values, freezes the result.

All errors of all sources are reported together, each with its source: a file, or the command line.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

from yacs.config import CfgNode

from config.checks import check_together
from config.codebases import leave_out_for_resnet
from config.defaults import SCHEMA
from config.files import Source, flatten, read_sources
from config.merge import DEFAULTS, Merged, merge
from config.reads import unread_keys
from config.schema import make_cfg
from config.values import text_keys
from utils.errors import UserError
from utils.yaml_reader import load_yaml

_logger = logging.getLogger(__name__)

_COMMAND_LINE = "command line"
_OF_TEST = ("SEED", "MODEL.", "INPUT.", "TEST.")  # keys of a checkpoint's configuration that its test reads
MAX_ERRORS = 50  # listed; the rest is counted
# A file with more than this share of all keys is a merged configuration (config.yml), not a hand-written one.
_MERGED_SHARE = 0.75


class ConfigError(UserError):
    """The configuration cannot be used; the message lists every error, one per line."""


def get_defaults() -> CfgNode:
    """Returns the defaults in a new configuration, which the caller may modify."""
    return make_cfg(DEFAULTS)


def load_cfg(config_file: str | None = None, opts: Sequence[str] = ()) -> CfgNode:
    """Merges a YAML file and command-line pairs over the defaults.

    A file may name others to start from, `_BASE_: ../base.yml` or a list of them, relative to itself. Keys and values
    of the TransReID codebase, of its relatives and of earlier versions are translated (config/legacy.py). A warning
    names each key that the file itself or the command line gives and that nothing in the experiment reads
    (config/reads.py). With UNKNOWN_KEYS warn, keys that are not known are left out and named in LEFT_OUT_KEYS.

    Args:
        config_file: path of a YAML file; None for the defaults.
        opts: KEY VALUE KEY VALUE ...; dotted keys, values as YAML or as texts of Python tuples.

    Returns:
        The configuration, frozen.

    Raises:
        ConfigError: a file cannot be read, or a key or a value is wrong; every error of every source is listed.
    """
    errors: list[str] = []
    sources = [] if config_file is None else read_sources(config_file, text_keys(SCHEMA), errors)
    sources.append(Source(_COMMAND_LINE, _read_pairs(opts, errors), is_file=False))
    merged = _merge_checked(sources, errors)
    _log_re_ranking(merged)
    cfg = _frozen(merged)
    if cfg.UNREAD_KEYS == "warn":
        for key, (source, purpose) in _unread_given(sources, merged).items():
            _logger.warning("%s: %s is given, and nothing in this run reads it: %s", source, key, purpose)
    return cfg


def load_stored_cfg(text: str, where: str, opts: Sequence[str] = ()) -> CfgNode:
    """Merges what the configuration in a checkpoint says about the model and its test over the defaults, and pairs
    over both.

    Its other sections are about the training, and its paths about the machine that trained: they stay at the defaults.

    Args:
        text: YAML, as a checkpoint of this project keeps it.
        where: the checkpoint, for messages.
        opts: KEY VALUE KEY VALUE ..., as of `load_cfg`.

    Returns:
        The configuration, frozen.

    Raises:
        ConfigError: the text is no configuration, or a key or a value is wrong; every error is listed.
    """
    errors: list[str] = []
    content = load_yaml(text, where, as_text=text_keys(SCHEMA))
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: the configuration in it is {text!r:.60}, expected sections of keys")
    given = {
        key: value
        for key, value in flatten(content)
        if key.startswith(_OF_TEST) and not (key in SCHEMA and SCHEMA[key].is_path)
    }
    sources = [
        Source(where, given, is_file=False),
        Source(_COMMAND_LINE, _read_pairs(opts, errors), is_file=False),
    ]
    return _frozen(_merge_checked(sources, errors))


def _merge_checked(sources: Sequence[Source], errors: list[str]) -> Merged:
    """The values of all sources; `errors` are those of reading them."""
    merged = merge(sources, errors)
    errors = merged.errors or check_together(merged.values)
    if errors:
        raise ConfigError(_list_errors(errors))
    leave_out_for_resnet(merged.values, merged.given_by, merged.codebase_files)
    return merged


def _frozen(merged: Merged) -> CfgNode:
    cfg = make_cfg(merged.values)
    cfg.freeze()
    return cfg


def _read_pairs(opts: Sequence[str], errors: list[str]) -> dict[str, Any]:
    """Keys and values of the command line."""
    given: dict[str, Any] = {}
    remaining = iter(opts)
    for key in map(str, remaining):
        if re.match(r"[\w.]+=", key):
            errors.append(
                f"{_COMMAND_LINE}: found {key!r:.200}, expected KEY VALUE with a space: {key.replace('=', ' ', 1):.200}"
            )
        elif key.endswith((".yml", ".yaml")):
            errors.append(f"{_COMMAND_LINE}: found {key}, expected KEY VALUE; a file is given as --config_file {key}")
        else:
            value = next(remaining, None)
            if value is None:
                errors.append(f"{_COMMAND_LINE}: {key} has no value, expected KEY VALUE KEY VALUE ...")
            else:
                given[key] = value
    return given


def _list_errors(errors: Iterable[str]) -> str:
    errors = list(dict.fromkeys(errors))
    count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
    more = [f"... and {len(errors) - MAX_ERRORS} more"] if len(errors) > MAX_ERRORS else []
    return "\n  ".join([f"{count} in the configuration:", *errors[:MAX_ERRORS], *more])


def _log_re_ranking(merged: Merged) -> None:
    """Says which K1 and K2 are used where none is given: projects differ."""
    if merged.values["TEST.RE_RANKING"] and not merged.given_by.keys() & {"TEST.RE_RANKING_K1", "TEST.RE_RANKING_K2"}:
        _logger.info(
            "TEST.RE_RANKING: K1 %d and K2 %d, which are not given; TransReID, PersonViT and CLIP-ReID have 50 and 15, "
            "the paper, BoT, TransReID-SSL, PASS and SOLIDER 20 and 6; a file of PersonViT without MODEL.POOLING is "
            "not told apart from one of TransReID-SSL and gets 20 and 6",
            merged.values["TEST.RE_RANKING_K1"],
            merged.values["TEST.RE_RANKING_K2"],
        )


def find_unread(config_file: str | None, opts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Keys that the file or the command line gives in vain, key -> (source, what it is for); see `load_cfg`.

    A configuration with errors has none: `load_cfg` reports the errors.
    """
    errors: list[str] = []
    sources = [] if config_file is None else read_sources(config_file, text_keys(SCHEMA), errors)
    sources.append(Source(_COMMAND_LINE, _read_pairs(opts, errors), is_file=False))
    merged = merge(sources, errors)
    return {} if errors or merged.errors else _unread_given(sources, merged)


def _unread_given(sources: Sequence[Source], merged: Merged) -> dict[str, tuple[str, str]]:
    """Keys that the last file or the command line gives in vain. A base file may serve other experiments, and a merged
    configuration, which a run wrote, gives every key: the run itself has warned of those given in vain."""
    own = {source.name for source in sources[-2:] if len(source.given) <= _MERGED_SHARE * len(SCHEMA)}
    return {
        key: (str(merged.given_by[key]), purpose)
        for key, purpose in unread_keys(merged.values).items()
        if merged.given_by.get(key) in own
    }
