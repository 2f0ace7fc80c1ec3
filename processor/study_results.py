"""Results of a study: study.csv, study.json, and tables for the terminal, Markdown and LaTeX."""

import csv
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from processor.per_query import read_average_precision
from processor.plots import save_study
from processor.results import COLUMNS, METRICS
from processor.study import Plan, Study
from processor.study_runner import seconds_of
from processor.tables import describe_seen
from utils.checkpoints import load_checkpoint
from utils.escaping import format_csv
from utils.files import MIB, read_json_object, read_text, write_files
from utils.logging import format_seconds
from utils.metrics.bootstrap import Interval, paired_bootstrap
from utils.tables import make_table, make_tables

logger = logging.getLogger(__name__)

OVER_SEEDS = 5  # seeds from which an interval over seeds is given


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
        seconds: wall time of the training steps of one seed, the mean over the seeds; None: not known.
        seen: corrupted protocol -> how many of its corruption types were seen in training, in words.
        note: why it is not compared with the baseline; "" where it is.
    """

    seeds: tuple[int, ...]
    protocols: dict[str, dict[str, list[float]]]
    within_seeds: dict[str, Interval]
    over_seeds: dict[str, Interval]
    images_seen: float | None
    seconds: float | None
    note: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)


def collect(study: Study, plan: Plan) -> dict[str, VariantResult]:
    """Reads what the finished jobs left; variants without a finished test are left out.

    Raises:
        UserError: a file of a finished job cannot be read.
    """
    done = {key: place for key, place in plan.tests.items() if seconds_of(plan.jobs[place]) is not None}
    tests = {key: _Test(place) for key, place in done.items()}
    results = {}
    for name in study.variants:
        own = {seed: tests[name, seed] for seed in study.seeds if (name, seed) in tests}
        if not own:
            continue
        contents = [test.protocols for test in own.values()]
        protocols = {
            protocol: {metric: [content[protocol][metric]["mean"] for content in contents] for metric in METRICS}
            for protocol in contents[0]
            if all(protocol in content for content in contents)
        }
        pairs = [(test, tests[study.baseline, seed]) for seed, test in own.items() if (study.baseline, seed) in tests]
        pairs = pairs if name != study.baseline else []
        note = next(filter(None, (test.why_not_comparable(baseline) for test, baseline in pairs)), "")
        if note:
            logger.warning("variant %s is not compared with %s: %s", name, study.baseline, note)
        differences = {} if note else {protocol: _differences(pairs, protocol) for protocol in protocols if pairs}
        found = {protocol: rows for protocol, rows in differences.items() if rows.size}
        results[name] = VariantResult(
            seeds=tuple(own),
            protocols=protocols,
            within_seeds={protocol: paired_bootstrap(rows) for protocol, rows in found.items()},
            over_seeds={
                protocol: paired_bootstrap(rows, over_seeds=True)
                for protocol, rows in found.items()
                if len(pairs) >= OVER_SEEDS
            },
            images_seen=_total(plan, [(name, seed) for seed in own][:1], "images_seen"),
            seconds=_total(plan, [(name, seed) for seed in own], "training_seconds"),
            note=note,
            seen={
                protocol: _seen([test.content for test in own.values()], protocol)
                for protocol in protocols
                if protocol != "clean"
            },
        )
    return results


class _Test:
    """The finished test of one variant and seed, in `directory`."""

    def __init__(self, directory: Path) -> None:
        content = read_json_object(directory / "results.json", max_bytes=MIB)
        self.content, self.protocols = content, content["protocols"]
        self.data = " ".join(filter(None, (content["dataset"], content.get("split"), content["dataset_version"])))
        self.conventions = {key: content["evaluation"][key] for key in ("ap", "cmc")}
        self.paths, self.precision = read_average_precision(directory)

    def why_not_comparable(self, baseline: "_Test") -> str:
        """Why a difference to the baseline says nothing about the models; "" where it does."""
        if self.data != baseline.data:
            return f"it was tested on {self.data}, the baseline on {baseline.data}"
        if self.conventions != baseline.conventions:
            return f"its metrics are {self.conventions}, those of the baseline {baseline.conventions}"
        if not np.array_equal(self.paths, baseline.paths):
            return "it was tested with other queries than the baseline"
        return ""


def _differences(pairs: list[tuple[_Test, _Test]], protocol: str) -> np.ndarray:
    """(S, Q') average precision of a variant minus that of the baseline, of the queries that have a match; (0, 0) where
    a test lacks the protocol."""
    if not all(protocol in test.precision for pair in pairs for test in pair):
        return np.zeros((0, 0))
    found = np.stack([test.precision[protocol] - baseline.precision[protocol] for test, baseline in pairs])
    return found[:, np.isfinite(found).all(axis=0)]


def _seen(contents: list[dict], protocol: str) -> str:
    """How many of a protocol's corruption types were seen in training; all that the seeds say, where they differ."""
    return " or ".join(dict.fromkeys(describe_seen(content, protocol) for content in contents))


def _total(plan: Plan, runs: list[tuple[str, int]], key: str) -> float | None:
    """What the checkpoints of the stages of a run record, the mean over the runs; None where one does not."""
    metas = [load_checkpoint(plan.jobs[place].result).get("meta", {}) for run in runs for place in plan.stages[run]]
    return sum(meta[key] for meta in metas) / len(runs) if all(key in meta for meta in metas) else None


def write_study(study: Study, plan: Plan, results: Mapping[str, VariantResult]) -> str:
    """Writes study.csv, study.json, study.md, study.tex and study.png into the directory of the study.

    Returns:
        The same table for the terminal, its columns spread over several where it is wide.
    """
    directory = study.output_dir
    header, rows = _table(study, results)
    missing = missing_tests(study, results)
    listed = "; ".join(f"{name}, seed {', '.join(map(str, seeds))}" for name, seeds in missing.items())
    notes = [f"not done: {listed}"] if missing else []
    texts = {
        "study.csv": _csv(plan),
        "study.json": json.dumps(_as_json(study, results), indent=2) + "\n",
        "study.md": "\n\n".join([make_table(header, rows, "lr"), *notes]) + "\n",
        "study.tex": make_table(
            header, [[cell.replace("±", "$\\pm$") for cell in row] for row in rows], "lr", layout="latex_booktabs"
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
    return "\n\n".join([make_tables(header, rows, "lr"), *notes])


def missing_tests(study: Study, results: Mapping[str, VariantResult]) -> dict[str, list[int]]:
    """Variant -> seeds whose test is not done."""
    seeds = {name: results[name].seeds if name in results else () for name in study.variants}
    missing = {name: [seed for seed in study.seeds if seed not in done] for name, done in seeds.items()}
    return {name: left for name, left in missing.items() if left}


def _table(study: Study, results: Mapping[str, VariantResult]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: mAP in percent of every protocol, mean ± standard deviation over the seeds, and differences to
    the baseline in points with their 95 % interval."""
    protocols = list(dict.fromkeys(name for result in results.values() for name in result.protocols))
    found = {name for result in results.values() for name in result.within_seeds}
    compared = [name for name in protocols if name in found]
    several = any(result.over_seeds for result in results.values())
    header = ["variant", "seeds", *(f"mAP {name}" for name in protocols)]
    header += [f"{name}, difference [95 % over {'seeds' if several else 'queries'}]" for name in compared]
    header += ["types seen in training", "images seen", "training time"]
    rows = []
    for name, result in results.items():
        row = [f"{name} (baseline)" if name == study.baseline else name, str(len(result.seeds))]
        row += [_mean_and_std(result.protocols.get(protocol, {}).get("mAP", [])) for protocol in protocols]
        intervals = result.over_seeds or result.within_seeds
        row += [_interval(intervals.get(protocol)) for protocol in compared]
        row.append(", ".join(f"{protocol} {seen}" for protocol, seen in result.seen.items()) or "-")
        row.append("-" if result.images_seen is None else f"{result.images_seen:,.0f}")
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
            "types_seen_in_training": dict(result.seen),
            "images_seen": result.images_seen,
            "training_seconds": result.seconds,
            **({"not_compared": result.note} if result.note else {}),
        }
        for name, result in results.items()
    }
    missing = missing_tests(study, results)
    content = {"base": str(study.base), "baseline": study.baseline, "variants": variants}
    return content | ({"not_done": missing} if missing else {})
