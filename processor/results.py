"""What a test leaves behind: results.csv, results.json, whose figures all come from its rows, and tables for people."""

import json
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from utils.files import write_files
from utils.structures import CorruptionSet, Protocol, RetrievalMetrics
from utils.text import format_csv, printable

METRICS = ("mAP", "mINP", "rank1", "rank5", "rank10")
COLUMNS = ("dataset", "dataset_version", "protocol", "corruption", "severity", "repeat", "seed", *METRICS,
           "num_queries", "num_valid_queries", "evaluation")  # fmt: skip
SUMMARY_METRICS = METRICS[:3]


def make_rows(
    results: dict[str, RetrievalMetrics],
    protocols: tuple[Protocol, ...],
    *,
    dataset: str,
    dataset_version: str = "",
    seed: int,
    evaluation: dict,
) -> list[dict]:
    """The rows of results.csv, a dict of COLUMNS for every draw of every protocol; metrics are fractions in [0, 1].

    In the four settings, `corruption` is "clean", or "random" with severity "random"; in a cell of the corruption
    matrix they are the type and the severity, and `protocol` is the setting that says which sides are corrupted.
    """
    rows = []
    for protocol in protocols:
        condition, metrics = protocol.condition, results[protocol.name]
        rows += [
            {
                "dataset": dataset,
                "dataset_version": dataset_version,
                "protocol": protocol.setting,
                "corruption": condition.corruption,
                "severity": "" if condition.is_clean else condition.severity or "random",
                "repeat": repeat,
                "seed": seed,
                "mAP": single.mAP,
                "mINP": single.mINP,
                **{f"rank{k}": single.rank(k) for k in (1, 5, 10)},
                "num_queries": single.num_queries,
                "num_valid_queries": single.num_valid_queries,
                "evaluation": format_evaluation(evaluation),
            }
            for repeat, single in enumerate(metrics.repeats or (metrics,))
        ]
    return rows


def format_evaluation(evaluation: dict) -> str:
    """In a few words: "euclidean, AP step, CMC standard", and the re-ranking."""
    words = f"{evaluation['metric']}, AP {evaluation['ap']}, CMC {evaluation['cmc']}"
    settings = evaluation["re_ranking"]
    return words if settings is None else f"{words}, re-ranked " + ", ".join(f"{k} {v}" for k, v in settings.items())


def make_results(rows: list[dict], *, weight: str, corruptions: CorruptionSet, evaluation: dict) -> dict:
    """The content of results.json, from the rows of results.csv; figures are fractions in [0, 1].

    dataset, weight, seed    what was tested; weight is the checkpoint
    dataset_version          which of several published forms of the data set, e.g. MSMT17_V2; "" where there is one
    corruption               what the corrupted sets draw from: "backend", "names", "severities"; "seen": those of the
                             names that CORRUPTION.TRAIN stands for
    evaluation               "metric", "ap", "cmc" and "re_ranking": see utils.metrics
    protocols                by setting: {"mAP", "mINP", "rank1", "rank5", "rank10": {"mean", "std"}, "repeats"}, std
                             being the sample standard deviation over the draws, 0 for one
    matrix                   with TEST.MATRIX only: "setting", "repeats", "severities", and "mAP", "mINP", "rank1": by
                             type, the mean over the draws at each severity
    summary                  see make_summary
    """
    settings, cells = [row for row in rows if not _is_cell(row)], [row for row in rows if _is_cell(row)]
    content = {
        "dataset": rows[0]["dataset"],
        "dataset_version": rows[0]["dataset_version"],
        "weight": weight,
        "seed": rows[0]["seed"],
        "corruption": {
            "backend": corruptions.backend,
            "names": list(corruptions.names),
            "severities": list(corruptions.severities),
            "seen": list(corruptions.seen),
        },
        "evaluation": evaluation,
        "protocols": {name: _mean_and_std(draws) for name, draws in _group(settings, "protocol").items()},
    }
    if cells:
        content["matrix"] = _make_matrix(cells)
    return {**content, "summary": make_summary(rows, corruptions)}


def make_summary(rows: list[dict], corruptions: CorruptionSet) -> dict:
    """The figures that a test comes down to, each {"mAP", "mINP", "rank1"}.

    clean              of the clean setting
    corrupted, corrupted_query, corrupted_gallery     of a corrupted setting:
      mean_corrupted   mean over its draws (in a matrix: over all cells), mPC of Michaelis et al.,
                       https://arxiv.org/abs/1907.07484
      drop             clean - mean_corrupted; 0.1 are ten points
      relative         mean_corrupted / clean, their rPC; null where clean is 0
      relative_drop    1 - relative
    matrix             of all cells, the four above and the means over those of a "family", by name, of a "severity", by
                       "1" to "5", and, where there are both, of the "seen" and the "unseen" types

    What is relative to clean is there where clean was tested, as it always is with a matrix.
    """
    settings, cells = [row for row in rows if not _is_cell(row)], [row for row in rows if _is_cell(row)]
    draws = _group(settings, "protocol")
    clean = draws.pop("clean", [])
    summary = {"clean": _means(clean)} if clean else {}
    summary |= {setting: _against_clean(corrupted, clean) for setting, corrupted in draws.items()}
    if not cells:
        return summary

    def mean_of(names: tuple[str, ...]) -> dict[str, float]:
        return _means([row for row in cells if row["corruption"] in names])

    summary["matrix"] = {
        **_against_clean(cells, clean),
        "family": {family: mean_of(names) for family, names in corruptions.families.items()},
        "severity": {str(severity): _means(group) for severity, group in _group(cells, "severity").items()},
    }
    if corruptions.seen and corruptions.unseen:
        summary["matrix"] |= {"seen": mean_of(corruptions.seen), "unseen": mean_of(corruptions.unseen)}
    return summary


def _is_cell(row: dict) -> bool:
    return row["corruption"] not in ("clean", "random")


def _group(rows: list[dict], column: str) -> dict[Any, list[dict]]:
    """The rows by their value in a column, values in the order of their first row."""
    groups: dict[Any, list[dict]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def _means(rows: list[dict]) -> dict[str, float]:
    return {metric: float(np.mean([row[metric] for row in rows])) for metric in SUMMARY_METRICS}


def _mean_and_std(rows: list[dict]) -> dict:
    summary: dict = {}
    for metric in METRICS:
        values = [row[metric] for row in rows]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        summary[metric] = {"mean": float(np.mean(values)), "std": std}
    return {**summary, "repeats": len(rows)}


def _against_clean(corrupted: list[dict], clean: list[dict]) -> dict:
    means = _means(corrupted)
    if not clean:
        return {"mean_corrupted": means}
    reference = _means(clean)
    relative = {metric: means[metric] / reference[metric] if reference[metric] else None for metric in means}
    return {
        "mean_corrupted": means,
        "drop": {metric: reference[metric] - means[metric] for metric in means},
        "relative": relative,
        "relative_drop": {metric: None if share is None else 1 - share for metric, share in relative.items()},
    }


def _make_matrix(cells: list[dict]) -> dict:
    means = {
        name: [_means(draws) for draws in _group(rows, "severity").values()]
        for name, rows in _group(cells, "corruption").items()
    }
    return {
        "setting": cells[0]["protocol"],
        "repeats": len(_group(cells, "repeat")),
        "severities": list(_group(cells, "severity")),
        **{metric: {name: [mean[metric] for mean in row] for name, row in means.items()} for metric in SUMMARY_METRICS},
    }


class ResultFiles:
    """results.json and results.csv of one test, written again where the test goes on.

    Files of an earlier test with other numbers are kept under a number; those that this test wrote are replaced.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self._written: dict[str, bytes] = {}
        self._kept: list[list[Path]] = []

    def write(self, content: dict, rows: list[dict]) -> None:
        """Writes both files, or neither.

        Args:
            content: of results.json.
            rows: of results.csv.
        """
        table = format_csv(COLUMNS, ([row[column] for column in COLUMNS] for row in rows))
        texts = {".json": json.dumps(content, indent=2) + "\n", ".csv": table}
        new = {suffix: text.encode("utf-8") for suffix, text in texts.items()}
        places = {suffix: self.output_dir / f"results{suffix}" for suffix in new}
        self._kept.append(write_files({places[s]: partial(Path.write_bytes, data=data) for s, data in new.items()}))
        for kept in self._kept:
            # This test's own, which are out of date now, or those of an earlier test that came to the same in the end.
            there = {path.suffix: path for path in kept if os.path.lexists(path)}
            for known in (self._written, new):
                if there.keys() == known.keys() and all(_holds(there[suffix], known[suffix]) for suffix in there):
                    for path in there.values():
                        path.unlink()
                    break
        self._written = new


def _holds(path: Path, data: bytes) -> bool:
    """Whether it is a regular file, no link, with this content."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size == len(data) and path.read_bytes() == data


def format_table(contents: dict[str, dict]) -> str:
    """One line per result and test setting: mINP, mAP and Rank-1 in percent, mean and deviation over the repeats.

    Args:
        contents: output directory -> content of its results.json; the directories tell apart results of one checkpoint.
    """
    weights = [content["weight"] for content in contents.values()]
    labels = [
        printable(weight if weights.count(weight) == 1 else f"{weight} in {place}")
        for place, weight in zip(contents, weights, strict=True)
    ]
    label_width = max(len("checkpoint"), *map(len, labels))
    setting_width = len("corrupted_gallery")
    header = f"{'checkpoint':<{label_width}}  {'setting':<{setting_width}}  " + "  ".join(
        f"{name:>13}" for name in ("mINP", "mAP", "Rank-1")
    )
    lines = [header + "  repeats", "-" * len(header + "  repeats")]
    for label, content in zip(labels, contents.values(), strict=True):
        for setting, row in content["protocols"].items():
            cells = [
                f"{100 * row[name]['mean']:6.2f} ± {100 * row[name]['std']:4.2f}" for name in ("mINP", "mAP", "rank1")
            ]
            lines.append(
                f"{label:<{label_width}}  {printable(setting):<{setting_width}}  "
                + "  ".join(f"{cell:>13}" for cell in cells)
                + f"  {row['repeats']:>7}"
            )
    return "\n".join(lines)


def format_matrix(content: dict, families: dict[str, tuple[str, ...]]) -> str:
    """The corruption matrix, mAP in percent, types in rows by family, severities in columns; below, its summary."""
    matrix, summary = content["matrix"], content["summary"]["matrix"]
    header = f"{'family':<7}  {'type':<17}" + "".join(f"{s:>7}" for s in matrix["severities"]) + f"{'mean':>8}"
    rule = "-" * len(header)

    def line(family: str, name: str, values: list[float], mean: float) -> str:
        return f"{family:<7}  {name:<17}" + "".join(f"{100 * v:7.2f}" for v in values) + f"{100 * mean:8.2f}"

    lines = [header, rule]
    for family, names in families.items():
        for position, name in enumerate(names):
            values = matrix["mAP"][name]
            lines.append(line("" if position else family, name, values, float(np.mean(values))))
        lines.append(rule)
    severities = [means["mAP"] for means in summary["severity"].values()]
    lines += [line("", "mean", severities, summary["mean_corrupted"]["mAP"]), ""]
    return "\n".join(lines + format_summary(content["summary"]))


def format_summary(summary: dict) -> list[str]:
    """The lines below the corruption matrix: mINP, mAP and Rank-1 in percent, of the drop in points."""
    matrix = summary["matrix"]
    figures = {"clean": summary["clean"], "mean corrupted": matrix["mean_corrupted"], "drop, points": matrix["drop"]}
    figures |= {"relative to clean": matrix["relative"], "relative drop": matrix["relative_drop"]}
    figures |= matrix["family"] | {name: matrix[name] for name in ("seen", "unseen") if name in matrix}
    lines = [f"{'':<17}" + "".join(f"{title:>8}" for title in ("mINP", "mAP", "Rank-1"))]
    for title, means in figures.items():
        values = [means[metric] for metric in ("mINP", "mAP", "rank1")]
        lines.append(f"{title:<17}" + "".join(f"{'-' if v is None else f'{100 * v:.2f}':>8}" for v in values))
    return lines
