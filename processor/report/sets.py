"""What a report says of the test on one data set: findings, tables, and the data of its sections."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from processor.comparisons import tested_on
from processor.report import charts
from processor.report.findings import (
    PROTOCOLS,
    Matrix,
    Weakest,
    WorstQuery,
    matrices,
    weakest_family,
    worst_query,
)
from processor.report.record import SetRecord
from processor.report.run import Run
from processor.results import format_evaluation
from utils.errors import UserError
from utils.escaping import printable


class SetReport:
    """The test on one data set, with those of the compared runs.

    Args:
        runs: the run of the report first.
        name: of the data set, as results.json has it.
        number: tells several data sets apart; 0 for the only one.
    """

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

    @property
    def prefix(self) -> str:
        """Of ids on the page."""
        return f"set{self.number}-" if self.number else ""

    @cached_property
    def matrices(self) -> list[Matrix]:
        return matrices(self.results, self.record)

    @cached_property
    def weakest(self) -> Weakest | None:
        return weakest_family(self.matrices, self.results)

    @cached_property
    def worst(self) -> WorstQuery | None:
        return worst_query(self.run, self.record)

    @cached_property
    def conventions(self) -> str:
        evaluation = self.results.get("evaluation")
        return format_evaluation(evaluation) if evaluation else "not recorded"

    @property
    def seen_in_training(self) -> str:
        """How many of each protocol's corruptions each checkpoint was trained on; "" where none tells."""
        parts = []
        for label, results in self.compared.items():
            counts = results.get("seen_in_training", {})
            seen = ", ".join(f"{name} {found['seen']} of {found['of']}" for name, found in counts.items())
            if seen:
                parts.append((f"{label}: " if len(self.compared) > 1 else "") + seen.replace("_", " "))
        return "; ".join(parts)

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
                repeats = row.get("repeats")
                cells = [
                    {
                        "mean": row[metric]["mean"],
                        "std": row[metric].get("std") if repeats != 1 else None,
                        "best": row[metric]["mean"] == best[metric],
                    }
                    if metric in row
                    else None
                    for metric in metrics
                ]
                described = {"protocol": protocol, "run": label, "cells": cells, "repeats": repeats}
                rows.append({**described, "first": number == 0, "span": len(own)})
        return rows

    def sections(self) -> list[tuple[str, str, str, Callable[[], Any]]]:
        """Id, macro, title and maker of the data of each section, in their order."""
        suffix = f", {self.title}" if self.number else ""
        return [
            (f"{self.prefix}{kind}", kind, title + suffix, make)
            for kind, title, make in (
                ("protocols", "Protocols", self._protocols),
                ("corruption", "Clean against corrupted", lambda: charts.clean_against_corrupted(self)),
                ("heatmap", "Corruptions and severities", self._heatmaps),
                ("seen", "Seen and unseen corruptions", lambda: charts.seen_and_unseen(self)),
                ("gallery", "Ranked galleries, worst hit first", self._galleries),
                ("attention", "Attention maps", self._attention),
                ("cmc", "CMC curves", lambda: charts.cmc(self)),
                ("distances", "Distances of same and different identities", lambda: charts.distances(self)),
            )
        ]

    def recorded(self, section: str) -> SetRecord:
        """The record. Raises UserError, with the reason, where it has nothing for a section."""
        if self.record is None:
            raise UserError(self.run.reason or "this data set was not recorded")
        if section in self.record.reasons:
            raise UserError(self.record.reasons[section])
        return self.record

    def _protocols(self) -> "SetReport":
        if not self.results["protocols"]:
            raise UserError("results.json holds no protocol that can be read")
        return self

    def _heatmaps(self) -> Any:
        if not self.matrices:
            self.recorded("cells")
            raise UserError("no corrupted protocol was tested; TEST.MATRIX or a corrupted protocol gives it")
        return {"matrices": self.matrices, "charts": charts.severities(self)}

    def _galleries(self) -> Any:
        record = self.recorded("galleries")
        if not record.galleries:
            raise UserError("no ranked galleries were recorded")
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
                    "file": Path(shown.path).name,
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


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What two results were tested with that makes their metrics differ."""

    def conditions(results: Mapping[str, Any]) -> dict[str, Any]:
        corruption = results.get("corruption", {})
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
