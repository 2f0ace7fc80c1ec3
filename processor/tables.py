"""Tables for the log: metrics by protocol, the corruption matrix with its summary, the files of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from processor.results import results_by_set
from utils.escaping import printable
from utils.stages import STAGES
from utils.tables import make_table, make_tables

# Files that a run may leave in OUTPUT_DIR -> what they hold.
FILES = {
    "report.html": "all of it on one page: open it in a browser",
    "results.json": "means and standard deviations",
    "results.csv": "one row for every evaluation",
    "per_query.npz": "average precision of every query",
    "checkpoints": "checkpoints of the stages",
    "tensorboard": "training curves: tensorboard --logdir {path}",
    "history.json": "mean values of every epoch",
    "curves.png": "learning curves of every stage",
    "schedule_*.png": "learning rates",
    "ranked_list.png": "queries and their ranked galleries",
    "attention.png": "where the model looks",
    "corruption_matrix.png": "every type at every severity",
    "features": "features of the test sets",
    "report_data.json": "what the report is made from",
    "thresholds.csv": "which distance means the same identity",
    "config.yml": "the configuration, to run again",
    "log.txt": "this log",
    **{name: f"the test of stage {name}" for name in STAGES},
}
COLUMNS = {"mINP": "mINP", "mAP": "mAP", "rank1": "Rank-1"}  # metric -> its title, in the order of the columns


def format_table(contents: Mapping[str, dict]) -> str:
    """Tables, one for each data set: mINP, mAP and Rank-1 in percent by model and protocol, with the standard deviation
    over the repeats where there are several. Models are numbered where there are several, and named above.

    Where a checkpoint tells what it was trained on, the last column says how many of the protocol's corruption types
    were seen in training.

    Args:
        contents: output directory -> content of its results.json; directories tell apart results of one checkpoint.
    """
    by_set = {directory: results_by_set(content) for directory, content in contents.items()}
    weights = [next(iter(results.values()))["weight"] for results in by_set.values()]
    labels = [
        printable(weight if weights.count(weight) == 1 else f"{weight} in {directory}")
        for directory, weight in zip(contents, weights, strict=True)
    ]
    several = len(labels) > 1
    blocks = ["\n".join(f"model {number}: {label}" for number, label in enumerate(labels, start=1))] if several else []
    with_seen = any("seen_in_training" in result for results in by_set.values() for result in results.values())
    titled = any("datasets" in content for content in contents.values())
    for name in dict.fromkeys(name for results in by_set.values() for name in results):
        rows: list[list[object]] = []
        for number, results in enumerate(by_set.values(), start=1):
            for protocol, row in results[name]["protocols"].items() if name in results else ():
                cells = [_mean_and_std(row[metric], row["repeats"]) for metric in COLUMNS]
                seen = [describe_seen(results[name], protocol)] if with_seen else []
                rows.append([*([number] if several else []), printable(protocol), *cells, row["repeats"], *seen])
        header = [*(["model"] if several else []), "protocol", *COLUMNS.values(), "repeats"]
        header += ["types seen in training"] if with_seen else []
        table = make_tables(header, rows, "rlr" if several else "lr", keys=1 + several)
        blocks.append(f"{printable(name)}:\n\n{table}" if titled else table)
    return "\n\n".join(blocks)


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


def _mean_and_std(values: Mapping[str, float], repeats: int) -> str:
    mean = f"{100 * values['mean']:.2f}"
    return mean if repeats == 1 else f"{mean} ± {100 * values['std']:.2f}"


def format_matrix(content: dict, families: Mapping[str, tuple[str, ...]]) -> str:
    """The corruption matrix, mAP in percent: families (their means) and their types in rows, severities in columns;
    below, its summary."""
    matrix, summary = content["matrix"], content["summary"]["matrix"]

    def line(name: str, values: Sequence[float], mean: float) -> list[str]:
        return [name, *(f"{100 * value:.2f}" for value in (*values, mean))]

    rows = []
    for family, names in families.items():
        values = np.array([matrix["mAP"][name] for name in names])  # (types, severities)
        rows.append(line(f"**{family}**", values.mean(axis=0), float(values.mean())))
        rows += [line(name, row, float(row.mean())) for name, row in zip(names, values, strict=True)]
    severities = [means["mAP"] for means in summary["severity"].values()]
    rows.append(line("**mean**", severities, summary["mean_corrupted"]["mAP"]))
    table = make_tables(["type", *map(str, matrix["severities"]), "mean"], rows, "lr")
    return f"{table}\n\n{_format_summary(content['summary'])}"


def _format_summary(summary: dict) -> str:
    """The table below the corruption matrix: mINP, mAP and Rank-1 in percent, of the drop in points."""
    matrix = summary["matrix"]
    means = {"clean": summary["clean"], "mean corrupted": matrix["mean_corrupted"], "drop, points": matrix["drop"]}
    means |= {"relative to clean": matrix["relative"], "relative drop": matrix["relative_drop"]}
    means |= matrix["family"] | {name: matrix[name] for name in ("seen", "unseen") if name in matrix}
    rows = [
        [title, *("-" if row[metric] is None else f"{100 * row[metric]:.2f}" for metric in COLUMNS)]
        for title, row in means.items()
    ]
    return make_table(["over the matrix", *COLUMNS.values()], rows, "lr")


def format_baseline(content: dict) -> str:
    """Errors of a results.json in percent of those of its baseline: of each protocol, mCE and relative mCE."""
    baseline = content["baseline"]
    seed = "" if baseline["seed"] is None else f", seed {baseline['seed']}"
    weight, dataset, file = (printable(baseline[key]) for key in ("weight", "dataset", "file"))
    caption = f"errors in percent of those of the baseline {weight} on {dataset}{seed} ({file})"
    caption += "; lower is better, 100 is the baseline:"
    rows = {**baseline["errors"], **{name: baseline[name] for name in ("mCE", "relative_mCE") if name in baseline}}
    cells = [
        [
            printable(title).replace("_mCE", " mCE"),
            *("-" if ratios[metric] is None else f"{100 * ratios[metric]:.2f}" for metric in COLUMNS),
        ]
        for title, ratios in rows.items()
    ]
    table = make_table(["errors", *(f"1 - {title}" for title in COLUMNS.values())], cells, "lr")
    return f"{caption}\n\n{table}"


def format_files(output_dir: str | Path) -> str:
    """One line for every file of FILES that is in `output_dir`."""
    return "\n".join(
        f"  {printable(path)}  {meaning.format(path=printable(path))}"
        for pattern, meaning in FILES.items()
        for path in sorted(Path(output_dir).glob(pattern))
    )
