"""The charts of a report: which curves each one has, from the results and records of the runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from processor.report.findings import PROTOCOLS
from processor.report.plots import Bar, Line, bar_plot, histogram, line_plot
from processor.report.run import Run
from processor.report.text import MISSING
from processor.tables import describe_seen
from utils.errors import UserError
from utils.escaping import printable

# Values of an epoch -> charts that show them; anything else ending in _loss is a loss term.
COSINES = ("cosine_same", "cosine_different", "mean_direction")
NORM, ACCURACY, LR = "grad_norm", "accuracy", "lr"
RANKS = (1, 5, 10, 20, 50)


@dataclass(frozen=True)
class Chart:
    """A figure with its caption, and the table of its values for those who cannot see it."""

    svg: Markup
    caption: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def _shown(value: float | None, digits: int = 1) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def _ordered(names: Any) -> list[str]:
    return sorted(names, key=lambda name: PROTOCOLS.index(name) if name in PROTOCOLS else len(PROTOCOLS))


def clean_against_corrupted(one: Any) -> list[Chart]:
    """mAP and Rank-1 of every protocol, and of every compared run."""
    names = _ordered(dict.fromkeys(name for results in one.compared.values() for name in results["protocols"]))
    if len(names) < 2 and len(one.compared) < 2:
        raise UserError("one protocol was tested; it takes clean and a corrupted one")
    charts = []
    for metric, title in (("mAP", "mAP"), ("rank1", "Rank-1")):
        groups = {
            name: [
                Bar(label, 100 * row["mean"], 100 * row.get("std", 0.0))
                for label, results in one.compared.items()
                if (row := results["protocols"].get(name, {}).get(metric))
            ]
            for name in names
        }
        rows = [
            [name.replace("_", " "), *(f"{bar.label}: {bar.value:.1f} ± {bar.std:.1f}" for bar in bars)]
            for name, bars in groups.items()
        ]
        description = f"{title} in percent by protocol: " + "; ".join(
            f"{name.replace('_', ' ')} " + ", ".join(f"{bar.value:.1f}" for bar in bars)
            for name, bars in groups.items()
        )
        svg = bar_plot(f"{one.prefix}bars-{metric}", description, groups, ylabel=f"{title}, percent")
        charts.append(
            Chart(Markup(svg), f"{title} by protocol; lines are one standard deviation over the repeats", [], rows)
        )
    return charts


def severities(one: Any) -> list[Chart]:
    """mAP against the severity, by family, of every matrix."""
    charts = []
    for number, matrix in enumerate(one.matrices):
        start = [matrix.clean["mAP"]] if "mAP" in matrix.clean else []
        x = [0.0] * len(start) + [float(severity) for severity in matrix.severities]
        lines = []
        for family in matrix.families:
            means = [matrix.column(at, "mAP", family) for at in range(len(matrix.severities))]
            lines.append(Line(family, x, [None if v is None else 100 * v for v in [*start, *means]]))
        description = f"mAP in percent against severity, {matrix.title}: " + "; ".join(
            f"{line.label} " + ", ".join(_shown(value) for value in line.y) for line in lines
        )
        svg = line_plot(
            f"{one.prefix}severity-{number}",
            description,
            lines,
            xlabel="severity (0: clean)" if start else "severity",
            ylabel="mAP, percent",
            zero=True,
        )
        charts.append(Chart(Markup(svg), matrix.title))
    return charts


def seen_and_unseen(one: Any) -> list[dict]:
    """Means over the corruptions that training had, and over those that it had not."""
    rows = []
    for label, results in one.compared.items():
        summary = results.get("summary", {})
        matrix = summary.get("matrix", {})
        rows += [
            {
                "run": label,
                "what": f"{what} types of the matrix",
                "mAP": matrix[what]["mAP"],
                "rank1": matrix[what].get("rank1"),
            }
            for what in ("seen", "unseen")
            if what in matrix
        ]
        for what, types in (("corrupted", "the types of CORRUPTION.TEST"), ("unseen", "ImageNet-C-bar")):
            if what in results["protocols"]:
                row, title = results["protocols"][what], f"protocol {what}: {types}"
                mAP, rank1 = (row.get(metric, {}).get("mean") for metric in ("mAP", "rank1"))
                if what in results.get("seen_in_training", {}):
                    title += f", {describe_seen(results, what)} seen in training"
                rows.append({"run": label, "what": title, "mAP": mAP, "rank1": rank1})
    if not any("unseen" in row["what"] for row in rows):
        raise UserError(
            "no unseen corruptions were tested; protocol unseen, or TEST.MATRIX where CORRUPTION.TRAIN leaves types "
            "out, gives them"
        )
    return rows


def cmc(one: Any) -> list[Chart]:
    """Rank-k by protocol, and by run where several are compared."""
    record = one.recorded("cmc")
    curves = {(one.run.label, name): values for name, values in record.cmc.items()}
    for run in one.runs[1:]:
        other = run.set_record(one.name)
        curves |= {(run.label, name): values for name, values in (other.cmc.items() if other else ())}
    names = _ordered(dict.fromkeys(name for _, name in curves))
    if len({label for label, _ in curves}) == 1:
        groups = {"": [(name, curves[one.run.label, name]) for name in names]}
    else:
        groups = {
            name: [(run.label, curves[run.label, name]) for run in one.runs if (run.label, name) in curves]
            for name in names
        }
    charts = []
    if not curves:
        raise UserError("no CMC curves were recorded")
    for number, (group, members) in enumerate(groups.items()):
        lines = [
            Line(label.replace("_", " "), range(1, len(values) + 1), [100 * v for v in values])
            for label, values in members
        ]
        rows = [[line.label, *(_shown(line.y[rank - 1]) for rank in RANKS if rank <= len(line.y))] for line in lines]
        caption = f"CMC, {group.replace('_', ' ')}" if group else "CMC by protocol"
        description = f"{caption}: " + "; ".join(f"{row[0]} Rank-1 {row[1]}" for row in rows)
        svg = line_plot(f"{one.prefix}cmc-{number}", description, lines, xlabel="rank k", ylabel="Rank-k, percent")
        columns = ["curve", *(f"Rank-{rank}" for rank in RANKS if rank <= max(len(line.y) for line in lines))]
        charts.append(Chart(Markup(svg), caption, columns, rows))
    return charts


def distances(one: Any) -> list[Chart]:
    """Distances of pairs of the same and of different identities, with the thresholds, of every protocol."""
    record = one.recorded("distances")
    charts = []
    for number, name in enumerate(_ordered(record.distances)):
        found = record.distances[name]
        shown = [point for point in found.points if point.name in ("equal error rate", "FAR 0.001")]
        thresholds = {f"{point.name}: {point.threshold:.3f}": point.threshold for point in shown}
        columns = ["at", f"{found.metric} distance up to", "true accepts, percent", "false accepts, percent"]
        rows = [
            [p.name, f"{p.threshold:.4f}", f"{100 * p.true_accept_rate:.2f}", f"{100 * p.false_accept_rate:.3f}"]
            for p in found.points
        ]
        sample = "all" if found.queries == found.all_queries else f"{found.queries} of {found.all_queries}"
        caption = (
            f"{name.replace('_', ' ')}: equal error rate {100 * found.equal_error_rate:.1f} percent; pairs of {sample} "
            "queries with the gallery, first repeat"
        )
        counts = {"same identity": found.same, "different": found.different}
        svg = histogram(
            f"{one.prefix}distances-{number}",
            caption,
            found.edges,
            counts,
            thresholds,
            xlabel=f"{found.metric} distance",
        )
        charts.append(Chart(Markup(svg), caption, columns, rows))
    if not charts:
        raise UserError("no distances were recorded")
    return charts


def training(runs: Sequence[Run]) -> list[dict]:
    """Of every stage of every run: its charts of loss terms, lr, gradient norm, accuracy and evaluations."""
    found = []
    for number, run in enumerate(runs):
        stages = [
            {"stage": printable(stage), "charts": _stage(f"train{number}-{at}", own)}
            for at, (stage, own) in enumerate(run.history.items())
            if own["epochs"]
        ]
        if stages:
            found.append({"run": run.label, "of": run.history_of, "stages": stages})
    if not found:
        raise UserError("there is no history.json, which training writes, in the run or beside its checkpoint")
    return found


def _stage(name: str, own: dict) -> list[Chart]:
    rows = own["epochs"]
    x = [row["epoch"] for row in rows]
    keys = list(dict.fromkeys(key for row in rows for key in row if key != "epoch"))

    def lines(chosen: Sequence[str]) -> list[Line]:
        return [Line(key.replace("_", " "), x, [row.get(key) for row in rows]) for key in chosen]

    losses = [key for key in keys if key == "loss" or key.endswith("_loss")]
    charts = [("losses", "loss terms", "loss", lines(losses), any(len(rows) > 1 for _ in rows))]
    if ACCURACY in keys:
        charts.append(("accuracy", "accuracy of the identity classifier", "share", lines([ACCURACY]), False))
    if NORM in keys:
        charts.append(("norm", "gradient norm before clipping", "norm", lines([NORM]), False))
    if cosines := [key for key in keys if key in COSINES]:
        charts.append(("cosines", "cosines of embeddings: all near 1 is a collapse", "cosine", lines(cosines), False))
    schedule = own.get("schedule")
    rates = lines([LR]) if LR in keys else []
    if schedule and schedule["epoch"] and len(schedule["epoch"]) == len(schedule["lr"]):
        rates = [Line("schedule", schedule["epoch"], schedule["lr"]), *rates]
    if rates:
        charts.append(("lr", "learning rate of the first group, and its schedule", "lr", rates, False))
    evaluations = own.get("evaluations", [])
    protocols = _ordered(dict.fromkeys(key for row in evaluations for key in row if key != "epoch"))
    if protocols:
        epochs = [row["epoch"] for row in evaluations]
        found = [
            Line(
                key.replace("_", " "), epochs, [None if row.get(key) is None else 100 * row[key] for row in evaluations]
            )
            for key in protocols
        ]
        charts.append(("evaluations", "mAP of the evaluations, one repeat", "mAP, percent", found, False))
    made = []
    for key, title, ylabel, chosen, log in charts:
        if not chosen:
            continue
        log = log and all(value is not None and value > 0 for line in chosen for value in line.y)
        last = "; ".join(f"{line.label} ends at {line.y[-1]:.4g}" for line in chosen if line.y[-1] is not None)
        svg = line_plot(
            f"{name}-{key}",
            f"{title} by epoch: {last}",
            chosen,
            xlabel="epoch",
            ylabel=ylabel,
            log=log,
            zero=key in ("lr", "norm", "accuracy"),
        )
        made.append(Chart(Markup(svg), title))
    return made
