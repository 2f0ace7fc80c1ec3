"""What a test leaves behind: results.json, results.csv and a table for people."""

import csv
import io
import json
from functools import partial
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.files import write_files
from utils.structures import Protocol, RetrievalMetrics

COLUMNS = ("dataset", "protocol", "corruption", "severity", "repeat", "seed", "mAP", "mINP", "rank1", "rank5", "rank10",
           "num_queries", "num_valid_queries")  # fmt: skip


def metric_values(metrics: RetrievalMetrics) -> dict[str, float]:
    """The reported figures of one evaluation, fractions in [0, 1]."""
    return {
        "mAP": metrics.mAP,
        "mINP": metrics.mINP,
        "rank1": metrics.rank(1),
        "rank5": metrics.rank(5),
        "rank10": metrics.rank(10),
    }


def summarise(metrics: RetrievalMetrics) -> dict:
    """{"mAP": {"mean", "std"}, ..., "repeats": R}; std is the sample standard deviation over the draws, 0 for one."""
    rows = [metric_values(repeat) for repeat in metrics.repeats or (metrics,)]
    summary: dict = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        summary[name] = {
            "mean": float(np.mean(values)),
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
        }
    return {**summary, "repeats": len(rows)}


def make_results(results: dict[str, RetrievalMetrics], *, dataset: str, weight: str, seed: int) -> dict:
    """The content of results.json."""
    protocols = {name: summarise(metrics) for name, metrics in results.items()}
    return {"dataset": dataset, "weight": weight, "seed": seed, "protocols": protocols}


def write_results(
    output_dir: str | Path, content: dict, results: dict[str, RetrievalMetrics], protocols: tuple[Protocol, ...]
) -> None:
    """Writes results.json and results.csv; files of an earlier test with other numbers are kept under a number."""
    output_dir = Path(output_dir)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for protocol in protocols:
        condition = protocol.gallery if protocol.query.is_clean else protocol.query
        metrics = results[protocol.name]
        for repeat, single in enumerate(metrics.repeats or (metrics,)):
            writer.writerow(
                {
                    "dataset": content["dataset"],
                    "protocol": protocol.name,
                    "corruption": condition.corruption,
                    "severity": "" if condition.is_clean else condition.severity or "random",
                    "repeat": repeat,
                    "seed": content["seed"],
                    **metric_values(single),
                    "num_queries": single.num_queries,
                    "num_valid_queries": single.num_valid_queries,
                }
            )
    texts = {"results.json": json.dumps(content, indent=2) + "\n", "results.csv": buffer.getvalue()}
    write_files({output_dir / name: partial(_write_utf8, text=text) for name, text in texts.items()})


def _write_utf8(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def read_results(directory: str | Path) -> dict:
    """The results.json of an output directory.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = Path(directory) / "results.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give the OUTPUT_DIR of a finished test") from error
    if not isinstance(content, dict) or not {"weight", "protocols"} <= content.keys():
        raise UserError(f"{path}: holds no 'weight' and 'protocols'; give the OUTPUT_DIR of a finished test")
    return content


def format_table(contents: list[dict]) -> str:
    """One line per result and test setting: mINP, mAP and Rank-1 in percent, mean and deviation over the repeats."""
    label_width = max(len("checkpoint"), *(len(content["weight"]) for content in contents))
    setting_width = len("corrupted_gallery")
    header = f"{'checkpoint':<{label_width}}  {'setting':<{setting_width}}  " + "  ".join(
        f"{name:>13}" for name in ("mINP", "mAP", "Rank-1")
    )
    lines = [header + "  repeats", "-" * len(header + "  repeats")]
    for content in contents:
        for setting, row in content["protocols"].items():
            cells = [
                f"{100 * row[name]['mean']:6.2f} ± {100 * row[name]['std']:4.2f}" for name in ("mINP", "mAP", "rank1")
            ]
            lines.append(
                f"{content['weight']:<{label_width}}  {setting:<{setting_width}}  "
                + "  ".join(f"{cell:>13}" for cell in cells)
                + f"  {row['repeats']:>7}"
            )
    return "\n".join(lines)
