"""results.csv, one row per evaluation, and results.json, which is computed from these rows alone."""

import json
import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from utils.escaping import format_csv
from utils.files import write_files
from utils.structures import Condition, CorruptionSet, Protocol, RetrievalMetrics

METRICS = ("mAP", "mINP", "rank1", "rank5", "rank10")
COLUMNS = (
    *("dataset", "dataset_version", "protocol", "corruption", "severity", "repeat", "seed"),
    *METRICS,
    *("num_queries", "num_valid_queries", "evaluation"),
)
SUMMARY_METRICS = METRICS[:3]


def make_rows(
    results: dict[str, RetrievalMetrics],
    protocols: tuple[Protocol, ...],
    *,
    dataset: str,
    dataset_version: str = "",
    seed: int,
    evaluation: dict,
    split: str = "test",
) -> list[dict]:
    """The rows of results.csv, a dict of COLUMNS for every repeat of every protocol; metrics are fractions in [0, 1].

    In the protocols, `corruption` is "clean", or "random" (in protocol unseen "unseen") with severity "random". In a
    cell of the corruption matrix they are its type and severity, and `protocol` says which sides are corrupted. Where
    `split` is validation, `evaluation` says so.
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
                "evaluation": format_evaluation(evaluation) + ("" if split == "test" else f", on {split} identities"),
            }
            for repeat, single in enumerate(metrics.repeats or (metrics,))
        ]
    return rows


def format_evaluation(evaluation: dict) -> str:
    """In words: "euclidean, AP step, CMC standard", and flip, query expansion and re-ranking where they are used."""
    words = f"{evaluation['metric']}, AP {evaluation['ap']}, CMC {evaluation['cmc']}"
    if evaluation.get("flip"):
        words += ", flip"
    if neighbours := evaluation.get("query_expansion"):
        words += f", query expansion {neighbours}"
    settings = evaluation["re_ranking"]
    return words if settings is None else f"{words}, re-ranked " + ", ".join(f"{k} {v}" for k, v in settings.items())


def make_results(
    rows: list[dict],
    *,
    weight: str,
    corruptions: CorruptionSet,
    evaluation: dict,
    unknown_keys: Sequence[str] = (),
    split: str = "test",
    selected_on: Sequence[str] = (),
) -> dict:
    """The content of results.json, from the rows of results.csv; metrics are fractions in [0, 1].

    dataset, weight, seed    what was tested; weight is the checkpoint
    dataset_version          which of several published forms of the data set, e.g. MSMT17_V2; "" where there is one
    split                    "validation" where held-back identities of the training set were tested (TEST.SPLIT)
    selected_on              where the checkpoint is the best of the evaluated epochs: the sets that say so
    corruption               what the corrupted sets sample from: "backend", "names", "severities"; "seen": those of the
                             names that the checkpoint was trained on, or, where the checkpoint does not tell, that
                             CORRUPTION.TRAIN stands for; where protocol unseen was tested, "protocol_unseen": its
                             names; "trained": the corruptions that the checkpoint was trained on, where it tells
    evaluation               "metric", "ap", "cmc" and "re_ranking": see utils.metrics; "flip" (TEST.FLIP) and
                             "query_expansion" (its k) only where they are used
    protocols                by protocol: {"mAP", "mINP", "rank1", "rank5", "rank10": {"mean", "std"}, "repeats"}; std
                             is the sample standard deviation over the repeats, 0 for one repeat
    seen_in_training         where the checkpoint tells, by corrupted protocol: {"seen", "of"}, how many of its
                             corruptions the checkpoint was trained on
    matrix                   with TEST.MATRIX only: "setting" (the protocol), "repeats", "severities", and "mAP",
                             "mINP", "rank1": by type, the mean over the repeats at each severity
    summary                  see make_summary
    unknown_keys             keys of the configuration file that are not known and were left out, where there are any
    """
    random, cells = _split_off_cells(rows)
    content: dict[str, Any] = {
        "dataset": rows[0]["dataset"],
        "dataset_version": rows[0]["dataset_version"],
        **({} if split == "test" else {"split": split}),
        "weight": weight,
        **({"selected_on": list(selected_on)} if selected_on else {}),
        "seed": rows[0]["seed"],
        "corruption": {
            "backend": corruptions.backend,
            "names": list(corruptions.names),
            "severities": list(corruptions.severities),
            "seen": list(corruptions.seen),
            **({"protocol_unseen": list(corruptions.protocol_unseen)} if corruptions.protocol_unseen else {}),
            **({} if corruptions.trained is None else {"trained": list(corruptions.trained)}),
        },
        "evaluation": evaluation,
        "protocols": {name: _mean_and_std(repeats) for name, repeats in _group(random, "protocol").items()},
    }
    if corruptions.trained is not None:
        content["seen_in_training"] = {
            protocol: {"seen": sum(name in corruptions.trained for name in tested), "of": len(tested)}
            for protocol in content["protocols"]
            if protocol != "clean" and (tested := corruptions.tested_by(protocol))
        }
    if cells:
        content["matrix"] = _make_matrix(cells)
    if unknown_keys:
        content["unknown_keys"] = list(unknown_keys)
    return {**content, "summary": make_summary(rows, corruptions)}


def join_results(results: Sequence[dict]) -> dict:
    """The content of results.json for several data sets.

    weight, seed    what was tested
    datasets        data set, as DATASETS.TEST or NAMES has it -> its results, as `make_results` returns them
    """
    first = results[0]
    return {
        "weight": first["weight"],
        "seed": first["seed"],
        "datasets": {content["dataset"]: content for content in results},
    }


def results_by_set(content: dict) -> dict[str, dict]:
    """The results of each data set in a results.json, which has one or several: data set -> its results."""
    return content["datasets"] if "datasets" in content else {content.get("dataset", ""): content}


def make_summary(rows: list[dict], corruptions: CorruptionSet) -> dict:
    """The summary of a test, each entry {"mAP", "mINP", "rank1"}.

    clean              of the clean protocol
    corrupted, corrupted_query, corrupted_gallery, unseen     of a corrupted protocol:
      mean_corrupted   mean over its repeats (in a matrix: over all cells), mPC of Michaelis et al.,
                       https://arxiv.org/abs/1907.07484
      drop             clean - mean_corrupted; 0.1 are ten points
      relative         mean_corrupted / clean, their rPC; null where clean is 0
      relative_drop    1 - relative
    matrix             of all cells, the four above and the means over those of a "family", by name, of a "severity", by
                       "1" to "5", and, where there are both, of the "seen" and the "unseen" types

    Values relative to clean are there where clean was tested, as it always is with a matrix.
    """
    random, cells = _split_off_cells(rows)
    by_protocol = _group(random, "protocol")
    clean = by_protocol.pop("clean", [])
    summary: dict[str, Any] = {"clean": _means(clean)} if clean else {}
    summary |= {protocol: _against_clean(corrupted, clean) for protocol, corrupted in by_protocol.items()}
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


def _split_off_cells(rows: list[dict]) -> tuple[list[dict], list[dict]]:
    """The rows of the protocols, and those of the cells of the corruption matrix."""
    return [row for row in rows if not _is_cell(row)], [row for row in rows if _is_cell(row)]


def _is_cell(row: dict) -> bool:
    return row["corruption"] != "clean" and not Condition(row["corruption"]).is_sampled


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
        "relative_drop": {metric: None if value is None else 1 - value for metric, value in relative.items()},
    }


def _make_matrix(cells: list[dict]) -> dict:
    means = {
        name: [_means(repeats) for repeats in _group(rows, "severity").values()]
        for name, rows in _group(cells, "corruption").items()
    }
    return {
        "setting": cells[0]["protocol"],
        "repeats": len(_group(cells, "repeat")),
        "severities": list(_group(cells, "severity")),
        **{metric: {name: [mean[metric] for mean in row] for name, row in means.items()} for metric in SUMMARY_METRICS},
    }


class ResultFiles:
    """results.json and results.csv of one test, which writes them again as it proceeds.

    Files of an earlier test with other results are backed up as NAME.1; those that this test wrote are replaced.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self._written: dict[str, bytes] = {}
        self._backups: list[list[Path]] = []

    def write(self, content: dict, rows: list[dict]) -> None:
        """Writes both files, or neither.

        Args:
            content: of results.json.
            rows: of results.csv.
        """
        table = format_csv(COLUMNS, ([row[column] for column in COLUMNS] for row in rows))
        texts = {".json": json.dumps(content, indent=2) + "\n", ".csv": table}
        new = {suffix: text.encode("utf-8") for suffix, text in texts.items()}
        paths = {suffix: self.output_dir / f"results{suffix}" for suffix in new}
        self._backups.append(write_files({paths[s]: partial(Path.write_bytes, data=data) for s, data in new.items()}))
        for backup in self._backups:
            # Not kept: this test's own, now out of date, or those of an earlier test with the same results in the end.
            there = {path.suffix: path for path in backup if os.path.lexists(path)}
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
