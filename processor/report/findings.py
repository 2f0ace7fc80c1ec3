"""What the first screen and the tables of a report say: weakest family, worst-hit query, the corruption matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from processor.report.record import QueryGallery, SetRecord
from processor.report.run import Run
from utils.escaping import printable

METRICS = {"mAP": "mAP", "mINP": "mINP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10"}
PROTOCOLS = ("clean", "corrupted", "corrupted_query", "corrupted_gallery", "unseen")
OTHERS = "other"  # family of corruptions whose family is not known


@dataclass(frozen=True)
class Weakest:
    """Families whose corruptions hurt most: their mAP and, where clean was tested, the drop; fractions.

    Several tie where their mAP in percent is the same to one decimal; `of` is the number of all families.
    """

    families: tuple[str, ...]
    of: int
    mAP: float
    drop: float | None
    source: str


@dataclass(frozen=True)
class WorstQuery:
    """The query whose average precision falls most; `shown` holds its images, where they were recorded."""

    name: str
    pid: int
    clean: float
    corrupted: float
    corruption: str
    shown: QueryGallery | None


@dataclass(frozen=True)
class MatrixCell:
    """A metric for one corruption and severity: fractions, by metric; `queries` behind it, 0 where all are."""

    values: dict[str, float]
    queries: int = 0


@dataclass(frozen=True)
class Matrix:
    """Corruptions by severities.

    Attributes:
        title: which protocol it is of, and how it was measured.
        severities: of the columns.
        families: family -> corruption -> one cell for each severity, None where there is none.
        clean: metrics of protocol clean, fractions; {} where it was not tested.
        metrics: that its cells have.
    """

    title: str
    severities: list[int]
    families: dict[str, dict[str, list[MatrixCell | None]]]
    clean: dict[str, float]
    metrics: tuple[str, ...]

    def mean(self, cells: Sequence[MatrixCell | None], metric: str) -> float | None:
        """The mean over the queries of the cells that are known; of measured cells, all have the same number."""
        known = [cell for cell in cells if cell is not None]
        values, weights = [cell.values[metric] for cell in known], [cell.queries or 1 for cell in known]
        return float(np.average(values, weights=weights)) if values else None

    def family(self, family: str, metric: str) -> float | None:
        return self.mean([cell for row in self.families[family].values() for cell in row], metric)

    def row(self, family: str, corruption: str, metric: str) -> float | None:
        return self.mean(self.families[family][corruption], metric)

    def column(self, position: int, metric: str, family: str = "") -> float | None:
        """The mean over a severity, of one family or of all."""
        rows = [row for name, rows in self.families.items() if family in ("", name) for row in rows.values()]
        return self.mean([row[position] for row in rows], metric)

    def total(self, metric: str) -> float | None:
        return self.mean([cell for rows in self.families.values() for row in rows.values() for cell in row], metric)


def clean_of(results: dict) -> dict[str, float]:
    """Metrics of protocol clean; {} where it was not tested."""
    row = results["protocols"].get("clean", {})
    return {metric: row[metric]["mean"] for metric in METRICS if metric in row}


def matrices(results: dict, record: SetRecord | None) -> list[Matrix]:
    """The corruption matrix of TEST.MATRIX, then those that the sampled corruptions of each protocol give."""
    found = []
    if isinstance(results.get("matrix"), dict):
        found += [_measured(results, record)]
    for protocol, cells in (record.cells if record else {}).items():
        severities = sorted({cell.severity for cell in cells})
        by_name: dict[str, list[MatrixCell | None]] = {cell.corruption: [None] * len(severities) for cell in cells}
        for cell in cells:
            values = {"mAP": cell.mAP, "rank1": cell.rank1}
            by_name[cell.corruption][severities.index(cell.severity)] = MatrixCell(values, cell.queries)
        counts = [cell.queries for cell in cells] or [0]
        sampled = f"queries by the corruption that each one sampled, {min(counts)} to {max(counts)} a cell"
        title = f"{_words(protocol)}: {sampled}"
        found.append(Matrix(title, severities, _by_family(by_name, record), clean_of(results), ("mAP", "rank1")))
    return found


def _measured(results: dict, record: SetRecord | None) -> Matrix:
    matrix = results["matrix"]
    metrics = tuple(metric for metric in ("mAP", "mINP", "rank1") if metric in matrix)
    by_name: dict[str, list[MatrixCell | None]] = {
        name: [
            MatrixCell({metric: float(matrix[metric][name][at]) for metric in metrics})
            for at in range(len(matrix["severities"]))
        ]
        for name in matrix["mAP"]
    }
    title = f"{_words(matrix['setting'])}: every type at every severity on its own, TEST.MATRIX"
    severities = [int(severity) for severity in matrix["severities"]]
    return Matrix(title, severities, _by_family(by_name, record), clean_of(results), metrics)


def _words(protocol: str) -> str:
    return printable(protocol).replace("_", " ")


def _by_family(
    rows: Mapping[str, list[MatrixCell | None]], record: SetRecord | None
) -> dict[str, dict[str, list[MatrixCell | None]]]:
    families = record.families if record else {}
    found = {family: {name: rows[name] for name in names if name in rows} for family, names in families.items()}
    known = {name for names in found.values() for name in names}
    found[OTHERS] = {name: row for name, row in rows.items() if name not in known}
    return {family: own for family, own in found.items() if own}


def weakest_family(found: Sequence[Matrix], results: dict) -> Weakest | None:
    """Families with the lowest mAP, of the first matrix; where there is none, of the summary of results.json."""
    clean = clean_of(results).get("mAP")
    means = {name: found[0].family(name, "mAP") for name in found[0].families} if found else {}
    known = {name: mean for name, mean in means.items() if mean is not None}
    source = found[0].title if found else "TEST.MATRIX"
    if not known or set(known) == {OTHERS}:
        summary = results.get("summary", {}).get("matrix", {}).get("family", {})
        known = {printable(name): float(row["mAP"]) for name, row in summary.items()} or known
    if not known:
        return None
    lowest = min(known.values())
    tied = tuple(name for name, mean in known.items() if f"{100 * mean:.1f}" == f"{100 * lowest:.1f}")
    return Weakest(tied, len(known), lowest, None if clean is None else clean - lowest, source)


def worst_query(run: Run, record: SetRecord | None) -> WorstQuery | None:
    """The query that corruption hurts most: of the recorded galleries, else of per_query.npz."""
    if record is not None and record.galleries:
        shown = record.galleries[0]
        corruption = describe(shown.corrupted.corruption, shown.corrupted.severity)
        file = printable(Path(shown.path).name)
        return WorstQuery(file, shown.pid, shown.clean.ap, shown.corrupted.ap, corruption, shown)
    found = run.precision
    protocol = found and next((one for one in PROTOCOLS[1:] if one in found.by_protocol), None)
    if found is None or protocol is None or "clean" not in found.by_protocol or not len(found.paths):
        return None
    clean, corrupted = found.by_protocol["clean"], found.by_protocol[protocol]
    drops = np.where(np.isfinite(clean) & np.isfinite(corrupted), clean - corrupted, -np.inf)
    at = int(drops.argmax())
    if not np.isfinite(drops[at]):
        return None
    file = printable(Path(str(found.paths[at])).name)
    return WorstQuery(file, -1, min(float(clean[at]), 1.0), min(float(corrupted[at]), 1.0), "", None)


def describe(corruption: str, severity: int) -> str:
    """A corruption in words: "fog, severity 3"."""
    return f"{corruption.replace('_', ' ')}, severity {severity}" if corruption else ""
