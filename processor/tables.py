"""Tables for the log: metrics by protocol, the corruption matrix with its summary, the files of a run."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from processor.results import results_by_set
from utils.escaping import printable

# Files that a run may leave in OUTPUT_DIR -> what they hold.
FILES = {
    "results.json": "means and standard deviations",
    "results.csv": "one row for every evaluation",
    "per_query.npz": "average precision of every query",
    "checkpoints": "checkpoints of the stages",
    "tensorboard": "training curves: tensorboard --logdir {path}",
    "schedule_*.png": "learning rates",
    "ranked_list.png": "queries and their ranked galleries",
    "attention.png": "where the model looks",
    "corruption_matrix.png": "every type at every severity",
    "features": "features of the test sets",
    "thresholds.csv": "which distance means the same identity",
    "config.yml": "the configuration, to run again",
    "log.txt": "this log",
}
COLUMNS = {"mINP": "mINP", "mAP": "mAP", "rank1": "Rank-1"}  # metric -> its title, in the order of the columns


def format_table(contents: Mapping[str, dict]) -> str:
    """One line per result and protocol: mINP, mAP and Rank-1 in percent, mean ± standard deviation over the repeats.

    Where one of the results has several data sets, a column names the data set. Where a checkpoint tells what it was
    trained on, the last column says how many of the protocol's corruption types were seen in training.

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
    with_seen = any("seen_in_training" in result for results in by_set.values() for result in results.values())
    rows: list[tuple[list[str], list[str], str]] = [
        (columns, list(COLUMNS.values()), "repeats" + "  types seen in training" * with_seen)
    ]
    for label, results in zip(labels, by_set.values(), strict=True):
        for name, content in results.items():
            for protocol, row in content["protocols"].items():
                start = [label, *([printable(name)] if with_sets else []), printable(protocol)]
                cells = [f"{100 * row[name]['mean']:6.2f} ± {100 * row[name]['std']:4.2f}" for name in COLUMNS]
                seen = f"  {describe_seen(content, protocol)}" if with_seen else ""
                rows.append((start, cells, f"{row['repeats']:>7}{seen}"))
    widths = [max(map(len, column)) for column in zip(*(start for start, _, _ in rows), strict=True)]
    widths[-1] = len("corrupted_gallery")
    lines = [_line(start, widths, cells, repeats) for start, cells, repeats in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def describe_seen(content: dict, protocol: str) -> str:
    """How many of the corruptions of a protocol the checkpoint was trained on: "all 20", "9 of 20", "none of 10"; "-"
    for clean."""
    if protocol == "clean":
        return "-"
    found = content.get("seen_in_training", {}).get(protocol)
    if found is None:
        return "not known"
    seen, total = found["seen"], found["of"]
    return f"all {total}" if seen == total else f"{seen or 'none'} of {total}"


def _line(start: list[str], widths: list[int], cells: list[str], end: str) -> str:
    texts = [f"{text:<{width}}" for text, width in zip(start, widths, strict=True)]
    return "  ".join([*texts, *(f"{cell:>13}" for cell in cells), end])


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


def format_baseline(content: dict) -> str:
    """Errors of a results.json in percent of those of its baseline: of each protocol, mCE and relative mCE."""
    baseline = content["baseline"]
    seed = "" if baseline["seed"] is None else f", seed {baseline['seed']}"
    weight, dataset, file = (printable(baseline[key]) for key in ("weight", "dataset", "file"))
    caption = f"errors in percent of those of the baseline {weight} on {dataset}{seed} ({file})"
    caption += "; lower is better, 100 is the baseline:"
    rows = {**baseline["errors"], **{name: baseline[name] for name in ("mCE", "relative_mCE") if name in baseline}}
    lines = ["".join([f"{'':<17}", *(f"{f'1 - {title}':>12}" for title in COLUMNS.values())])]
    for title, ratios in rows.items():
        cells = ("-" if ratios[metric] is None else f"{100 * ratios[metric]:.2f}" for metric in COLUMNS)
        lines.append(f"{printable(title).replace('_mCE', ' mCE'):<17}" + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join([caption, *lines])


def format_files(output_dir: str | Path) -> str:
    """One line for every file of FILES that is in `output_dir`."""
    return "\n".join(
        f"  {printable(path)}  {meaning.format(path=printable(path))}"
        for pattern, meaning in FILES.items()
        for path in sorted(Path(output_dir).glob(pattern))
    )
