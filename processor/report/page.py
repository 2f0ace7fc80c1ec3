"""The page: sections of one run, or of several that are compared, rendered by Jinja2 from templates/page.html."""

import base64
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from processor.comparisons import tested_on
from processor.report import charts
from processor.report.findings import METRICS, PROTOCOLS, describe, matrices, weakest_family, worst_query
from processor.report.record import SetRecord
from processor.report.run import PLACES, Run, read_runs
from processor.report.text import MINUS, MISSING
from processor.results import format_evaluation
from processor.state_checks import flat_config
from utils.errors import UserError
from utils.escaping import printable
from utils.files import write_files

logger = logging.getLogger(__name__)

FILE = "report.html"
COMPARISON = "comparison.html"
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Section:
    """A section of the page, or why there is none.

    Attributes:
        id: unique on the page.
        kind: its macro in templates/sections.html.
        title: its heading.
        data: for the macro; None where `reason` says why there is none.
        folded: shown as a closed <details>.
    """

    id: str
    kind: str
    title: str
    data: Any = None
    reason: str = ""
    folded: bool = False


def write_report(directories: Sequence[str | Path], *, defaults: str, out: str | Path | None = None) -> Path:
    """Writes the report of a finished OUTPUT_DIR, with others compared beside it.

    Args:
        directories: the run of the report first.
        defaults: text of the configuration with no key given.
        out: the file; None: report.html in the directory, or comparison.html in the first one of several.

    Returns:
        The file.

    Raises:
        UserError: the results.json of a directory cannot be read, or the file cannot be written.
    """
    runs = read_runs(list(dict.fromkeys(map(str, directories))))
    path = Path(out) if out is not None else Path(directories[0]) / (FILE if len(runs) == 1 else COMPARISON)
    text = render(runs, flat_config(defaults) if defaults else {})
    write_files({path: lambda partial: partial.write_text(text, encoding="utf-8")}, replace=True)
    logger.info("report: %s", path)
    return path


def render(runs: Sequence[Run], defaults: Mapping[str, Any]) -> str:
    """The HTML of a report."""
    first = runs[0]
    several = len(first.results) > 1
    sets = [_Set(runs, name, number if several else 0) for number, name in enumerate(first.results, start=1)]
    sections = [section for one in sets for section in one.sections()] + _sections_of_run(runs, defaults)
    script, style = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "words": lambda text: str(text).replace("_", " "),
        "name": lambda text: printable(Path(str(text)).name),
        "printable": printable,
        "thousands": lambda n: f"{n:,}",
    }
    return environment.get_template("page.html").render(
        runs=runs,
        run=first,
        sets=sets,
        sections=sections,
        title=f"{first.label} on {', '.join(one.title for one in sets)}",
        metrics=METRICS,
        describe=describe,
        script=Markup(script),
        style=Markup(style),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _percent(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f}"


def _points(value: float | None) -> str:
    """A difference of fractions in points, with its sign."""
    return MISSING if value is None else f"{100 * value:+.1f}".replace("-", MINUS)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What two results were tested with that makes their metrics differ."""

    def conditions(results: Mapping[str, Any]) -> dict[str, Any]:
        found = results.get("corruption")
        corruption = found if isinstance(found, dict) else {}
        return {
            "split": results.get("split", "test"),
            "version of the data set": results.get("dataset_version", ""),
            "evaluation": results.get("evaluation"),
            "corruption types": corruption.get("names"),
            "severities": corruption.get("severities"),
            "corruption backend": corruption.get("backend"),
        }

    here, there = conditions(one), conditions(other)
    return [name for name, value in here.items() if value != there[name]]


def _best(values: Iterable[float]) -> float | None:
    """The highest value; None where all are the same."""
    found = list(values)
    return max(found) if len(set(found)) > 1 else None


class _Set:
    """What the page says of the test on one data set; `number` tells several apart, 0 for the only one."""

    def __init__(self, runs: Sequence[Run], name: str, number: int) -> None:
        self.runs, self.run, self.name, self.number = runs, runs[0], name, number
        self.results = self.run.results[name]
        self.record: SetRecord | None = self.run.set_record(name)
        shown, version = tested_on({**self.results, "dataset": name})
        self.title = printable(f"{shown} ({version})" if version else shown)
        self.compared = {run.label: run.results[name] for run in runs if name in run.results}
        self.unlike = {
            label: ", ".join(different)
            for label, results in self.compared.items()
            if (different := _differences(self.results, results))
        }
        self.matrices = matrices(self.results, self.record)
        self.weakest = weakest_family(self.matrices, self.results)
        self.worst = worst_query(self.run, name, self.record)
        evaluation = self.results.get("evaluation")
        self.conventions = format_evaluation(evaluation) if evaluation else "not recorded"

    @property
    def prefix(self) -> str:
        return f"set{self.number}-" if self.number else ""

    @property
    def seen_in_training(self) -> str:
        """How many of each protocol's corruptions the checkpoint was trained on; "" where it does not tell."""
        counts = self.results.get("seen_in_training")
        if not isinstance(counts, dict):
            return ""
        parts = [f"{found.get('seen')} of {found.get('of')} of {name}" for name, found in counts.items() if found]
        return printable(", ".join(parts).replace("_", " "))

    def table(self, metrics: Sequence[str]) -> list[dict]:
        """Rows of the table of protocols: protocol, run, repeats, and for each metric its mean, std and whether it is
        the best of the compared runs."""
        rows = []
        names = dict.fromkeys(protocol for results in self.compared.values() for protocol in results["protocols"])
        for protocol in sorted(names, key=lambda name: PROTOCOLS.index(name) if name in PROTOCOLS else len(PROTOCOLS)):
            own = {
                label: results["protocols"][protocol]
                for label, results in self.compared.items()
                if protocol in results["protocols"]
            }
            best = {
                metric: None if self.unlike else _best(row[metric]["mean"] for row in own.values() if metric in row)
                for metric in metrics
            }
            for number, (label, row) in enumerate(own.items()):
                cells = [
                    {**row[metric], "best": row[metric]["mean"] == best[metric]} if metric in row else None
                    for metric in metrics
                ]
                described = {"protocol": printable(protocol), "run": label, "cells": cells, "repeats": row["repeats"]}
                rows.append({**described, "first": number == 0, "span": len(own)})
        return rows

    def sections(self) -> list[Section]:
        """The sections of this data set, in their order."""
        suffix = f", {self.title}" if self.number else ""
        made = []
        for kind, title, make in (
            ("protocols", "Protocols", lambda: self),
            ("corruption", "Clean against corrupted", lambda: charts.clean_against_corrupted(self)),
            ("heatmap", "Corruptions and severities", self._heatmaps),
            ("seen", "Seen and unseen corruptions", self._seen),
            ("gallery", "Ranked galleries, worst hit first", self._galleries),
            ("attention", "Attention maps", self._attention),
            ("cmc", "CMC curves", lambda: charts.cmc(self)),
            ("distances", "Distances of same and different identities", lambda: charts.distances(self)),
        ):
            made.append(_section(f"{self.prefix}{kind}", kind, title + suffix, make))
        return made

    def recorded(self, section: str) -> SetRecord:
        """The record. Raises UserError, with the reason, where it has nothing for a section."""
        if self.record is None:
            raise UserError(self.run.reason or "this data set was not recorded")
        if section in self.record.reasons:
            raise UserError(self.record.reasons[section])
        return self.record

    def _heatmaps(self) -> Any:
        if not self.matrices:
            self.recorded("cells")
            raise UserError("no corrupted protocol was tested; TEST.MATRIX or a corrupted protocol gives it")
        return {"matrices": self.matrices, "charts": charts.severities(self)}

    def _seen(self) -> Any:
        return charts.seen_and_unseen(self)

    def _galleries(self) -> Any:
        record = self.recorded("galleries")
        family_of = {name: family for family, names in record.families.items() for name in names}
        found = []
        for number, shown in enumerate(record.galleries, start=1):
            lost = shown.clean.first == 1 and shown.corrupted.first != 1
            found.append(
                {
                    "number": number,
                    "shown": shown,
                    "family": family_of.get(shown.corrupted.corruption, "other"),
                    "fate": "lost" if lost else "kept" if shown.corrupted.first == 1 else "wrong",
                    "file": printable(Path(shown.path).name),
                }
            )
        families = list(dict.fromkeys(one["family"] for one in found))
        return {
            "record": record,
            "galleries": found,
            "families": [f for f in record.families if f in families]
            + [f for f in families if f not in record.families],
        }

    def _attention(self) -> Any:
        record = self.recorded("attention")
        shown = [one for one in record.galleries if one.clean.attention and one.corrupted.attention]
        if not shown:
            self.recorded("galleries")
            raise UserError("no attention maps were recorded")
        return shown


def _sections_of_run(runs: Sequence[Run], defaults: Mapping[str, Any]) -> list[Section]:
    first = runs[0]
    return [
        _section("training", "training", "Learning curves and schedule", lambda: charts.training(runs)),
        _section("warnings", "warnings", "Warnings of the run", lambda: first),
        _section("run", "run", "What was run", lambda: runs),
        _section("configuration", "configuration", "Configuration", lambda: _configuration(runs, defaults)),
    ]


def _section(id_: str, kind: str, title: str, make: Callable[[], Any]) -> Section:
    """A section, or the reason why it cannot be made: a report never fails for one of them."""
    try:
        return Section(id_, kind, title, make())
    except UserError as error:
        return Section(id_, kind, title, reason=str(error))
    except Exception as error:  # damaged files of an earlier version, above all
        logger.warning("report: section %s cannot be made (%s: %s)", id_, type(error).__name__, error)
        return Section(id_, kind, title, reason=f"it could not be made ({type(error).__name__}: {error})"[:1000])


def _configuration(runs: Sequence[Run], defaults: Mapping[str, Any]) -> Any:
    first = runs[0]
    if not first.config:
        raise UserError("config.yml of the run cannot be read")
    keys = sorted({key for run in runs for key in run.differences(defaults)})
    rows = [
        (key, str(defaults.get(key, MISSING)), [dict(run.differences(defaults)).get(key, ("", ""))[0] for run in runs])
        for key in keys
    ]
    varied = [row for row in rows if len(set(row[2])) > 1 and row[0] not in PLACES]
    return {"rows": rows, "varied": varied, "text": first.config_text}
