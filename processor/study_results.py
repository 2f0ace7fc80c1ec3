"""Results of a study: study.csv, study.json, and tables for the terminal, Markdown and LaTeX."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from processor.per_query import read_average_precision
from processor.plots import save_study
from processor.results import COLUMNS, METRICS
from processor.study import Plan, Study
from processor.study_runner import seconds_of
from utils.checkpoints import load_checkpoint
from utils.errors import UserError
from utils.escaping import format_csv
from utils.files import MIB, read_json_object, read_text, write_files
from utils.logging import format_seconds
from utils.metrics.bootstrap import Interval, paired_bootstrap

OVER_SEEDS = 5  # seeds from which an interval over seeds is given
COMPARED = ("clean", "corrupted", "unseen")  # protocols whose differences are in the table; study.json has all


@dataclass(frozen=True)
class VariantResult:
    """What a study found of one variant.

    Attributes:
        seeds: those whose test is done.
        protocols: protocol -> metric -> one value for each of these seeds, the mean over the repeats; in [0, 1].
        within_seeds: protocol -> difference in mAP to the baseline, over the seeds that both have, with the interval
            that other queries may give.
        over_seeds: the same with the interval that other seeds may give; {} for fewer than OVER_SEEDS seeds.
        images_seen: images that the trained network saw, forward, in all stages of one seed; None: not known.
        seconds: wall time of training of one seed, the mean over the seeds; None: not known.
    """

    seeds: tuple[int, ...]
    protocols: dict[str, dict[str, list[float]]]
    within_seeds: dict[str, Interval]
    over_seeds: dict[str, Interval]
    images_seen: int | None
    seconds: float | None


def collect(study: Study, plan: Plan) -> dict[str, VariantResult]:
    """Reads what the finished jobs left; variants without a finished test are left out.

    Raises:
        UserError: a file of a finished job cannot be read.
    """
    done = {key: place for key, place in plan.tests.items() if seconds_of(plan.jobs[place]) is not None}
    precision = {key: read_average_precision(place) for key, place in done.items()}
    results = {}
    for name in study.variants:
        seeds = tuple(seed for seed in study.seeds if (name, seed) in done)
        if not seeds:
            continue
        contents = [read_json_object(done[name, seed] / "results.json", max_bytes=MIB)["protocols"] for seed in seeds]
        protocols = {
            protocol: {metric: [content[protocol][metric]["mean"] for content in contents] for metric in METRICS}
            for protocol in contents[0]
            if all(protocol in content for content in contents)
        }
        both = [seed for seed in seeds if (study.baseline, seed) in done]
        pairs = [(precision[name, seed], precision[study.baseline, seed]) for seed in both]
        compared = name != study.baseline and bool(both)
        differences = {
            protocol: _differences(pairs, protocol)
            for protocol in protocols
            if compared and all(protocol in ap for pair in pairs for ap in pair)
        }
        results[name] = VariantResult(
            seeds=seeds,
            protocols=protocols,
            within_seeds={protocol: paired_bootstrap(found) for protocol, found in differences.items()},
            over_seeds={
                protocol: paired_bootstrap(found, over_seeds=True)
                for protocol, found in differences.items()
                if len(both) >= OVER_SEEDS
            },
            images_seen=_images_seen(plan, [(name, seed) for seed in seeds]),
            seconds=_training_seconds(plan, [(name, seed) for seed in seeds]),
        )
    return results


def _differences(pairs: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]], protocol: str) -> np.ndarray:
    """(S, Q') average precision of a variant minus that of the baseline, of the queries that have a match.

    Raises:
        UserError: the two were tested on different queries.
    """
    lengths = {len(ap[protocol]) for pair in pairs for ap in pair}
    if len(lengths) > 1:
        raise UserError(f"{protocol}: tests with {sorted(lengths)} queries; a variant and its baseline need the same")
    found = np.stack([variant[protocol] - baseline[protocol] for variant, baseline in pairs])
    return found[:, np.isfinite(found).all(axis=0)]


def _images_seen(plan: Plan, runs: list[tuple[str, int]]) -> int | None:
    """Images seen in training by one seed, as the checkpoints of its stages record."""
    total = 0
    for place in plan.stages[runs[0]]:
        meta = load_checkpoint(plan.jobs[place].result).get("meta", {})
        if "images_seen" not in meta:
            return None
        total += meta["images_seen"]
    return total


def _training_seconds(plan: Plan, runs: list[tuple[str, int]]) -> float | None:
    seconds = [seconds_of(plan.jobs[place]) for run in runs for place in plan.stages[run]]
    known = [one for one in seconds if one is not None]
    return sum(known) / len(runs) if len(known) == len(seconds) else None


def write_study(study: Study, plan: Plan, results: Mapping[str, VariantResult]) -> str:
    """Writes study.csv, study.json, study.md, study.tex and study.png into the directory of the study.

    Returns:
        The table for the terminal.
    """
    directory = study.output_dir
    header, rows = _table(study, results)
    texts = {
        "study.csv": _csv(plan),
        "study.json": json.dumps(_as_json(study, results), indent=2) + "\n",
        "study.md": tabulate(rows, header, tablefmt="github", disable_numparse=True) + "\n",
        "study.tex": tabulate(
            [[cell.replace("±", "$\\pm$") for cell in row] for row in rows],
            header,
            tablefmt="latex_booktabs",
            disable_numparse=True,
        ).replace("\\$\\textbackslash{}pm\\$", "$\\pm$")
        + "\n",
    }

    def writer(text: str) -> Any:
        return lambda path: path.write_text(text, encoding="utf-8")

    write_files({directory / name: writer(text) for name, text in texts.items()}, replace=True)
    points = {
        name: (result.protocols["clean"]["mAP"], result.protocols["corrupted"]["mAP"])
        for name, result in results.items()
        if {"clean", "corrupted"} <= result.protocols.keys()
    }
    if points:
        save_study(directory / "study.png", points, baseline=study.baseline)
    return tabulate(rows, header, tablefmt="simple", disable_numparse=True)


def _table(study: Study, results: Mapping[str, VariantResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mAP in percent of every protocol, mean ± standard deviation over the seeds, and differences to
    the baseline in points with their 95 % interval."""
    protocols = list(dict.fromkeys(name for result in results.values() for name in result.protocols))
    found = {name for result in results.values() for name in result.within_seeds}
    compared = [name for name in protocols if name in found and name in COMPARED]
    several = any(result.over_seeds for result in results.values())
    header = ["variant", "seeds", *(f"mAP {name}" for name in protocols)]
    header += [f"{name}, difference [95 % over {'seeds' if several else 'queries'}]" for name in compared]
    header += ["images seen", "training time"]
    rows = []
    for name, result in results.items():
        row = [f"{name} (baseline)" if name == study.baseline else name, str(len(result.seeds))]
        row += [_mean_and_std(result.protocols.get(protocol, {}).get("mAP", [])) for protocol in protocols]
        intervals = result.over_seeds or result.within_seeds
        row += [_interval(intervals.get(protocol)) for protocol in compared]
        row.append("-" if result.images_seen is None else f"{result.images_seen:,}")
        row.append("-" if result.seconds is None else format_seconds(result.seconds))
        rows.append(row)
    return header, rows


def _mean_and_std(values: list[float]) -> str:
    if not values:
        return "-"
    mean = f"{100 * np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.2f}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    mean, low, high = (100 * value for value in interval)
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _csv(plan: Plan) -> str:
    """One row for each variant, seed, protocol and repeat: the rows of each results.csv, with the variant before."""
    rows = []
    for (name, _), place in plan.tests.items():
        if seconds_of(plan.jobs[place]) is not None:
            text = read_text(place / "results.csv", max_bytes=64 * MIB)
            rows += [[name, *(row[column] for column in COLUMNS)] for row in csv.DictReader(text.splitlines())]
    return format_csv(("variant", *COLUMNS), rows)


def _as_json(study: Study, results: Mapping[str, VariantResult]) -> dict[str, Any]:
    """Everything in the tables as numbers; metrics and differences are fractions in [0, 1]."""
    variants = {
        name: {
            "overrides": list(study.variants[name]),
            "seeds": list(result.seeds),
            "protocols": result.protocols,
            "difference_within_seeds": {key: value._asdict() for key, value in result.within_seeds.items()},
            "difference_over_seeds": {key: value._asdict() for key, value in result.over_seeds.items()},
            "images_seen": result.images_seen,
            "training_seconds": result.seconds,
        }
        for name, result in results.items()
    }
    return {"base": str(study.base), "baseline": study.baseline, "variants": variants}
