"""A finished OUTPUT_DIR: its results, what its test recorded, its history, configuration and warnings."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processor.comparisons import read_results
from processor.history import read_history
from processor.report.record import Record, SetRecord, read_record
from processor.results import results_by_set
from processor.state_checks import flat_config
from utils.errors import UserError
from utils.escaping import printable
from utils.files import MIB, read_text

logger = logging.getLogger(__name__)

MAX_CONFIG, MAX_LOG = 4 * MIB, 64 * MIB
MAX_WARNINGS = 200
# Keys that say where files lie and what is written, not how the model is trained and tested.
PLACES = ("OUTPUT_DIR", "TEST.COMPARE", "TEST.REPORT", "TEST.RANKED_QUERIES", "TEST.ATTENTION_QUERIES")
_WARNING = re.compile(r"^\d{4}-\d\d-\d\d \S+ (?:WARNING|ERROR) (.*)$", re.M)


@dataclass(frozen=True)
class Run:
    """What a report shows of one run.

    Attributes:
        directory: its OUTPUT_DIR, printable.
        label: a short name of the run: the end of its directory.
        results: data set -> its part of results.json.
        record: see processor.report.record; None, with `reason`, where there is none.
        history: stage -> epochs, see processor.history; of the run that trained the checkpoint.
        history_of: directory of that run.
        config: values of its config.yml by dotted key; {} where it cannot be read.
        config_text: the whole file.
        warnings: how often each was logged.
        warnings_of: which runs they are of, in words.
    """

    directory: str
    label: str
    results: dict[str, dict]
    record: Record | None
    reason: str
    history: dict[str, dict]
    history_of: str
    config: dict[str, Any]
    config_text: str
    warnings: dict[str, int]
    warnings_of: str

    @property
    def weight(self) -> str:
        """The checkpoint that was tested."""
        return printable(next(iter(self.results.values()))["weight"])

    def set_record(self, name: str) -> SetRecord | None:
        """What was recorded of the test on a data set."""
        return self.record.sets.get(name) if self.record is not None else None

    def differences(self, defaults: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """Key -> its value and its default, where they differ."""
        return {
            key: (_shown(value), _shown(defaults[key]) if key in defaults else "")
            for key, value in self.config.items()
            if key not in defaults or _shown(defaults[key]) != _shown(value)
        }


def read_runs(directories: Sequence[str]) -> list[Run]:
    """Reads finished OUTPUT_DIRs. Their labels are the last two parts of the path, or as many as tell them apart.

    Raises:
        UserError: see `read_run`.
    """
    for count in range(2, 100):
        labels = ["/".join(Path(directory).parts[-count:]) or directory for directory in directories]
        if len(set(labels)) == len(labels):
            break
    return [read_run(directory, printable(label)) for directory, label in zip(directories, labels, strict=True)]


def read_run(directory: str | Path, label: str) -> Run:
    """Reads a finished OUTPUT_DIR.

    Raises:
        UserError: its results.json cannot be read; anything else may be missing.
    """
    path = Path(directory)
    content = read_results(path)
    record, reason = read_record(path, content)
    config_text = _text(path / "config.yml", MAX_CONFIG)
    history, history_of = _history(path, next(iter(results_by_set(content).values()))["weight"])
    warnings, warnings_of = (dict(record.warnings), "this run") if record else _logged_warnings(path)
    return Run(
        directory=printable(directory),
        label=label,
        results=results_by_set(content),
        record=record,
        reason=reason,
        history=history,
        history_of=history_of,
        config=_config(config_text),
        config_text=config_text,
        warnings=warnings,
        warnings_of=warnings_of,
    )


def _text(path: Path, max_bytes: int) -> str:
    try:
        return read_text(path, max_bytes=max_bytes) if path.exists() else ""
    except UserError as error:
        logger.warning("%s", error)
        return ""


def _config(text: str) -> dict[str, Any]:
    try:
        return flat_config(text) if text else {}
    except (UserError, ValueError) as error:
        logger.warning("config.yml: %s", error)
        return {}


def _history(path: Path, weight: str) -> tuple[dict[str, dict], str]:
    """The history of the run, or of the one in whose checkpoints/ the tested checkpoint lies."""
    of_weight = Path(weight).parent
    for directory in (path, *([of_weight.parent] if of_weight.name == "checkpoints" else [])):
        if history := read_history(directory):
            return history, printable(directory)
    return {}, ""


def _logged_warnings(path: Path) -> tuple[dict[str, int], str]:
    counts: dict[str, int] = {}
    for text in _WARNING.findall(_text(path / "log.txt", MAX_LOG)):
        if text in counts or len(counts) < MAX_WARNINGS:
            counts[text] = counts.get(text, 0) + 1
    return counts, "all runs that log.txt holds"


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return printable(list(value) if isinstance(value, tuple) else value)[:300]
