"""A finished OUTPUT_DIR: its results, what its test recorded, its history, configuration and warnings."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processor.comparisons import MAX_BYTES as MAX_RESULTS
from processor.history import FILE as HISTORY
from processor.history import MAX_BYTES as MAX_HISTORY
from processor.per_query import FILE as PER_QUERY
from processor.per_query import QueryPrecision, read_average_precision
from processor.report import schema
from processor.report.lenient import LeftOut, read_leniently
from processor.report.record import Record, SetRecord, read_record
from processor.results import results_by_set
from processor.state_checks import flat_config
from utils.errors import UserError
from utils.escaping import printable
from utils.files import MIB, read_json_object, read_text

RESULTS = "results.json"
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
        precision: average precision of every query; None where ranked galleries were recorded, or it is not known.
        left_out: fields of its files that cannot be read.
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
    precision: QueryPrecision | None = None
    left_out: Sequence[LeftOut] = ()

    @property
    def weight(self) -> str:
        """The checkpoint that was tested; "" where it is not known."""
        return printable(_weight(self.results))

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
    results = read_run_results(path)
    record = read_record(path, results.content)
    left_out = [*results.left_out, *record.left_out]
    files = _Files(left_out)
    config_text = files.text(path / "config.yml", MAX_CONFIG)
    history, history_of = files.history(path, _weight(results.by_set))
    if record.record:
        warnings, warnings_of = dict(record.record.warnings), "this run"
    else:
        warnings, warnings_of = files.logged_warnings(path / "log.txt"), "all runs that log.txt holds"
    shown = record.record and any(one.galleries for one in record.record.sets.values())
    return Run(
        directory=printable(directory),
        label=label,
        results=results.by_set,
        record=record.record,
        reason=record.reason,
        history=history,
        history_of=history_of,
        config=files.config(config_text),
        config_text=config_text,
        warnings=warnings,
        warnings_of=warnings_of,
        precision=None if shown else files.precision(path),
        left_out=left_out,
    )


@dataclass(frozen=True)
class RunResults:
    """A results.json: its whole content, what a report reads of it by data set, and what of this was left out."""

    content: dict[str, Any]
    by_set: dict[str, dict]
    left_out: list[LeftOut]


def read_run_results(directory: Path) -> RunResults:
    """Reads the results.json of an OUTPUT_DIR.

    Raises:
        UserError: there is none, or it holds no results.
    """
    path = directory / RESULTS
    try:
        content = read_json_object(path, max_bytes=MAX_RESULTS)
        kind = schema.SETS if content.get("datasets") else schema.RESULTS
        valid, left_out = read_leniently(kind, copy.deepcopy(content), RESULTS, "test again to write it")
    except (UserError, RecursionError) as error:
        reason = f"{error}".removeprefix(f"{path}: ").removeprefix(f"{RESULTS}: ")
        raise UserError(f"{path}: {reason}; expected the OUTPUT_DIR of a finished test") from error
    return RunResults(content, results_by_set(kind.dump_python(valid, exclude_unset=True)), left_out)


def _weight(results: Mapping[str, dict]) -> str:
    return next(iter(results.values())).get("weight", "")


class _Files:
    """Reads files of a run that may be missing; `left_out` collects what cannot be read."""

    def __init__(self, left_out: list[LeftOut]) -> None:
        self.left_out = left_out

    def _refuse(self, path: Path, error: Exception, advice: str) -> None:
        reason = f"{error}".removeprefix(f"{path}: ").removeprefix(f"{path.name}: ").removesuffix(f"; {advice}")
        self.left_out.append(LeftOut(path.name, "", reason, advice))

    def text(self, path: Path, max_bytes: int) -> str:
        try:
            return read_text(path, max_bytes=max_bytes) if path.exists() else ""
        except UserError as error:
            self._refuse(path, error, "mend the file")
            return ""

    def config(self, text: str) -> dict[str, Any]:
        try:
            return flat_config(text) if text else {}
        except (UserError, ValueError) as error:
            self._refuse(Path("config.yml"), error, "mend the file")
            return {}

    def history(self, path: Path, weight: str) -> tuple[dict[str, dict], str]:
        """The history of the run, or of the one in whose checkpoints/ the tested checkpoint lies."""
        of_weight = Path(weight).parent
        for directory in (path, *([of_weight.parent] if of_weight.name == "checkpoints" else [])):
            file, advice = directory / HISTORY, "mend the value, or train again"
            if not file.exists():
                continue
            try:
                content = read_json_object(file, max_bytes=MAX_HISTORY)
                stages, left_out = read_leniently(schema.HISTORY, content, HISTORY, advice)
            except UserError as error:
                self._refuse(file, error, advice)
                continue
            self.left_out += left_out
            if stages:
                return schema.HISTORY.dump_python(stages, exclude_unset=True), printable(directory)
        return {}, ""

    def logged_warnings(self, path: Path) -> dict[str, int]:
        counts: dict[str, int] = {}
        for text in _WARNING.findall(self.text(path, MAX_LOG)):
            if text in counts or len(counts) < MAX_WARNINGS:
                counts[text] = counts.get(text, 0) + 1
        return counts

    def precision(self, directory: Path) -> QueryPrecision | None:
        path = directory / PER_QUERY
        try:
            return read_average_precision(directory) if path.exists() else None
        except UserError as error:
            self._refuse(path, error, "test again to write it")
            return None


def _shown(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return printable(list(value) if isinstance(value, tuple) else value)[:300]
