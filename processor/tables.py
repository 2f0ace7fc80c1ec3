"""Tables for the log: metrics by protocol, the corruption matrix with its summary, the files of a run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from processor.results import results_by_set
from utils.escaping import printable

# Files that a run may leave in OUTPUT_DIR -> what they hold.
FILES = {
    "report.html": "all of it on one page: open it in a browser",
    "results.json": "means and standard deviations",
    "results.csv": "one row for every evaluation",
    "per_query.npz": "average precision of every query",
    "checkpoints": "checkpoints of the stages",
    "tensorboard": "training curves: tensorboard --logdir {path}",
    "history.json": "mean values of every epoch",
    "schedule_*.png": "learning rates",
    "ranked_list.png": "queries and their ranked galleries",
    "attention.png": "where the model looks",
    "corruption_matrix.png": "every type at every severity",
    "features": "features of the test sets",
    "report_data.json": "what the report is made from",
    "thresholds.csv": "which distance means the same identity",
    "config.yml": "the configuration, to run again",
    "log.txt": "this log",
}
COLUMNS = {"mINP": "mINP", "mAP": "mAP", "rank1": "Rank-1"}  # metric -> its title, in the order of the columns


def format_table(contents: Mapping[str, dict]) -> str:
    """One line per result and protocol: mINP, mAP and Rank-1 in percent, mean ± standard deviation over the repeats.

    Where one of the results has several data sets, a column names the data set.

    Args:
        contents: output directory -> content of its results.json; directories tell apart results of one checkpoint.
    """
    by_set = {directory: results_by_set(content) for directory, content in contents.items()}
    weights = [next(iter(results.values()))["weight"] for results in by_set.values()]
    labels = [
        printable(weight if weights.count(weight) == 1 else f"{weight} in {directory}")
        for directory, weight in zip(contents, weights, strict=True)
    ]
    with_sets = any("datasets" in content for content in contents.values())
    columns = ["checkpoint", *(["data set"] if with_sets else []), "protocol"]
    rows: list[tuple[list[str], list[str], object]] = [(columns, list(COLUMNS.values()), "repeats")]
    for label, results in zip(labels, by_set.values(), strict=True):
        for name, content in results.items():
            for protocol, row in content["protocols"].items():
                start = [label, *([printable(name)] if with_sets else []), printable(protocol)]
                cells = [f"{100 * row[name]['mean']:6.2f} ± {100 * row[name]['std']:4.2f}" for name in COLUMNS]
                rows.append((start, cells, row["repeats"]))
    widths = [max(map(len, column)) for column in zip(*(start for start, _, _ in rows), strict=True)]
    widths[-1] = len("corrupted_gallery")
    lines = [_line(start, widths, cells, repeats) for start, cells, repeats in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _line(start: list[str], widths: list[int], cells: list[str], repeats: object) -> str:
    texts = [f"{text:<{width}}" for text, width in zip(start, widths, strict=True)]
    return "  ".join([*texts, *(f"{cell:>13}" for cell in cells), f"{repeats:>7}"])


def format_matrix(content: dict, families: Mapping[str, tuple[str, ...]]) -> str:
    """The corruption matrix, mAP in percent: types in rows by family, severities in columns; below, its summary."""
    matrix, summary = content["matrix"], content["summary"]["matrix"]
    width = max(map(len, ("type", "mean", *(name for names in families.values() for name in names))))
    first = max(map(len, ("family", *families)))
    header = (
        f"{'family':<{first}}  {'type':<{width}}" + "".join(f"{s:>7}" for s in matrix["severities"]) + f"{'mean':>8}"
    )
    rule = "-" * len(header)

    def line(family: str, name: str, values: list[float], mean: float) -> str:
        return f"{family:<{first}}  {name:<{width}}" + "".join(f"{100 * v:7.2f}" for v in values) + f"{100 * mean:8.2f}"

    lines = [header, rule]
    for family, names in families.items():
        for position, name in enumerate(names):
            values = matrix["mAP"][name]
            lines.append(line("" if position else family, name, values, float(np.mean(values))))
        lines.append(rule)
    severities = [means["mAP"] for means in summary["severity"].values()]
    lines += [line("", "mean", severities, summary["mean_corrupted"]["mAP"]), ""]
    return "\n".join(lines + _format_summary(content["summary"]))


def _format_summary(summary: dict) -> list[str]:
    """The lines below the corruption matrix: mINP, mAP and Rank-1 in percent, of the drop in points."""
    matrix = summary["matrix"]
    rows = {"clean": summary["clean"], "mean corrupted": matrix["mean_corrupted"], "drop, points": matrix["drop"]}
    rows |= {"relative to clean": matrix["relative"], "relative drop": matrix["relative_drop"]}
    rows |= matrix["family"] | {name: matrix[name] for name in ("seen", "unseen") if name in matrix}
    lines = [f"{'':<17}" + "".join(f"{title:>8}" for title in COLUMNS.values())]
    for title, means in rows.items():
        values = [means[metric] for metric in COLUMNS]
        lines.append(f"{title:<17}" + "".join(f"{'-' if v is None else f'{100 * v:.2f}':>8}" for v in values))
    return lines


def format_files(output_dir: str | Path) -> str:
    """One line for every file of FILES that is in `output_dir`."""
    return "\n".join(
        f"  {printable(path)}  {meaning.format(path=printable(path))}"
        for pattern, meaning in FILES.items()
        for path in sorted(Path(output_dir).glob(pattern))
    )
