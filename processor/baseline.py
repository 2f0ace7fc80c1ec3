"""Errors relative to those of a named baseline, TEST.BASELINE: the mCE of ImageNet-C, for retrieval.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
section 4, https://arxiv.org/abs/1903.12261. The error of a metric (mAP, mINP, Rank-1) is 1 - metric.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from yacs.config import CfgNode

from processor.comparisons import Fraction, Record, Results, Word, read_results_file, tested_on
from processor.evaluate import describe_evaluation, make_evaluation
from processor.results import SUMMARY_METRICS, results_by_set
from utils.errors import UserError
from utils.structures import DataBundle, Protocol

logger = logging.getLogger(__name__)

NO_ERROR = 1e-6  # errors and drops up to this are zero but for rounding

Cells = dict[str, dict[str, list[float]]]  # metric -> corruption -> the metric at each severity
Ratios = dict[str, float | None]  # by metric


class _Corruption(Record):
    backend: Word
    names: Annotated[list[Word], Field(max_length=1000)]
    severities: Annotated[list[int], Field(max_length=1000)]
    protocol_unseen: list[Word] = Field(default_factory=list, max_length=1000)


class _Matrix(Record):
    setting: Word
    severities: Annotated[list[int], Field(min_length=1, max_length=1000)]
    mAP: dict[Word, list[Fraction]]
    mINP: dict[Word, list[Fraction]]
    rank1: dict[Word, list[Fraction]]

    @model_validator(mode="after")
    def _has_all_cells(self) -> "_Matrix":
        for cells in (self.mAP, self.mINP, self.rank1):
            if (
                not cells
                or cells.keys() != self.mAP.keys()
                or {len(row) for row in cells.values()} != {len(self.severities)}
            ):
                raise ValueError("the matrix lacks cells")
        return self


class _Baseline(Results):
    corruption: _Corruption | None = None
    matrix: _Matrix | None = None


@dataclass(frozen=True)
class Baseline:
    """Checked results to divide by.

    Attributes:
        path: the file, for captions.
        results: data set, as in results.json -> its results there.
    """

    path: str
    results: dict[str, dict[str, Any]]


def read_baseline(
    cfg: CfgNode, data: DataBundle, protocols: Sequence[Protocol], matrix: Sequence[Protocol]
) -> Baseline | None:
    """Reads TEST.BASELINE and checks that a test compares with it; None where no baseline is named.

    Args:
        cfg: the configuration of the test.
        data: its `test_sets` are tested.
        protocols: tested ones.
        matrix: cells of the corruption matrix.

    Raises:
        UserError: it cannot be read; or its data set, conventions or corruptions are others (the message lists each);
            or no protocol is in both; or its mAP has no error to divide by.
    """
    if not cfg.TEST.BASELINE:
        return None
    path = Path(cfg.TEST.BASELINE)
    path = path / "results.json" if path.is_dir() else path
    if os.path.realpath(path) == os.path.realpath(Path(cfg.OUTPUT_DIR) / "results.json"):
        raise UserError(f"TEST.BASELINE {path}: this test writes this file; choose another OUTPUT_DIR")
    found = results_by_set(read_results_file(path, _Baseline, key="TEST.BASELINE"))
    by_title = {tested_on(result | {"dataset": name}): result for name, result in found.items()}
    evaluation = describe_evaluation(cfg, make_evaluation(cfg))
    results = {}
    for one in data.test_sets:
        result = by_title.get((one.splits.tested_name, one.splits.version))
        where = f"TEST.BASELINE {path}"
        if result is None:
            there = ", ".join(" ".join(filter(None, title)) or "an unnamed data set" for title in by_title)
            raise UserError(f"{where}: tested on {there}, this test is on {one.splits.title}; choose a baseline of it")
        differences = _differences(result, one, protocols, matrix, evaluation)
        if differences:
            listed = "\n  ".join(differences)
            raise UserError(
                f"{where}: its errors do not compare with those of this test on {one.splits.title}:\n  {listed}\n"
                "test one of the two again with the settings of the other"
            )
        _check_errors(where, result, protocols, bool(matrix))
        results[one.splits.name] = result
    return Baseline(str(path), results)


def _differences(
    result: Mapping[str, Any],
    data: DataBundle,
    protocols: Sequence[Protocol],
    matrix: Sequence[Protocol],
    evaluation: Mapping[str, Any],
) -> list[str]:
    """What differs between the results of a baseline and a test, one line each."""
    there = result.get("evaluation") or {}
    lines = [
        f"evaluation, {key}: {evaluation.get(key, False)}, in the baseline {there.get(key, False)}"
        for key in dict.fromkeys((*evaluation, *there))
        if evaluation.get(key) != there.get(key)
    ]
    common = [protocol for protocol in protocols if protocol.name in result["protocols"]]
    if not common:
        tested = ", ".join(protocol.name for protocol in protocols)
        lines.append(f"protocols: {tested}, in the baseline {', '.join(result['protocols'])}; none is in both")
    both = bool(matrix) and "matrix" in result
    corrupted = [protocol.name for protocol in common if not protocol.is_clean]
    if not corrupted and not both:
        return lines
    here, corruption = data.corruptions, result.get("corruption")
    if corruption is None:
        return [*lines, "corruptions: not recorded in the baseline, which is of an earlier version"]
    if here.backend != corruption["backend"]:
        lines.append(f"CORRUPTION.BACKEND: {here.backend}, in the baseline {corruption['backend']}")
    if set(here.severities) != set(corruption["severities"]):
        lines.append(f"severities: {sorted(here.severities)}, in the baseline {sorted(corruption['severities'])}")
    if set(corrupted) - {"unseen"} or both:
        lines += _other_types("corruption types", here.names, corruption["names"])
    if "unseen" in corrupted:
        lines += _other_types("types of protocol unseen", here.protocol_unseen, corruption.get("protocol_unseen", []))
    if both:
        setting, types = result["matrix"]["setting"], result["matrix"]["mAP"]
        if setting != matrix[0].setting:
            lines.append(f"TEST.MATRIX: {matrix[0].setting}, in the baseline {setting}")
        if set(types) != set(corruption["names"]):
            lines.append("the baseline's matrix has other types than it says; the file was changed")
        if set(result["matrix"]["severities"]) != set(corruption["severities"]):
            lines.append("the baseline's matrix has other severities than it says; the file was changed")
    return lines


def _other_types(what: str, here: Sequence[str], there: Sequence[str]) -> list[str]:
    only_here, only_there = (
        [name for name in own if name not in other] for own, other in ((here, there), (there, here))
    )
    sides = [("only in this test", only_here), ("only in the baseline", only_there)]
    texts = [f"{title} {', '.join(names)}" for title, names in sides if names]
    return [f"{what}: {'; '.join(texts)}"] if texts else []


def _check_errors(where: str, result: Mapping[str, Any], protocols: Sequence[Protocol], has_matrix: bool) -> None:
    """Raises UserError where every mAP of the baseline is 1, and warns of what else has no ratio."""
    common = [protocol.name for protocol in protocols if protocol.name in result["protocols"]]
    missing = [protocol.name for protocol in protocols if protocol.name not in result["protocols"]]
    perfect = [name for name in common if 1 - result["protocols"][name]["mAP"]["mean"] <= NO_ERROR]
    if perfect == common:
        raise UserError(f"{where}: its mAP is 1 in {', '.join(common)}: there is no error to divide by; choose another")
    if perfect:
        logger.warning("%s: its mAP is 1 in %s: no ratio of errors there", where, ", ".join(perfect))
    if missing:
        logger.warning("%s: lacks protocol %s: no ratio of errors there", where, ", ".join(missing))
    if has_matrix and "matrix" not in result:
        logger.warning("%s: has no corruption matrix: no mCE; test the baseline with TEST.MATRIX too", where)


def normalise(content: Mapping[str, Any], baseline: Baseline) -> dict[str, Any]:
    """Errors of a result divided by those of its baseline; 1 is as the baseline, less is better.

    With the error E = 1 - metric, of the test and of the baseline (b), c a corruption and s a severity:

        error of a protocol   E / E_b, E of the mean over the repeats
        CE of c               sum over s of E_cs / sum over s of E_b,cs
        mCE                   mean over c of CE
        relative CE of c      sum over s of (E_cs - E_clean) / sum over s of (E_b,cs - E_b,clean)
        relative mCE          mean over c of relative CE

    Args:
        content: results of one data set, as make_results returns them.
        baseline: of the same data set and corruptions.

    Returns:
        file, weight, dataset, seed     of the baseline
        errors                          by protocol that both have: {"mAP", "mINP", "rank1"}
        CE, relative_CE                 by metric and corruption, and
        mCE, relative_mCE               by metric; these four where both have a corruption matrix

        A ratio whose denominator is 0, or a drop that is not above 0, is None; so is a mean over such a ratio.
    """
    base = baseline.results[content["dataset"]]
    found: dict[str, Any] = {
        "file": baseline.path,
        "weight": base["weight"],
        "dataset": " ".join(filter(None, (base.get("dataset", ""), base.get("dataset_version", "")))),
        "seed": base.get("seed"),
        "errors": {
            protocol: {
                metric: _ratio(_error(row, metric), _error(base["protocols"][protocol], metric))
                for metric in SUMMARY_METRICS
            }
            for protocol, row in content["protocols"].items()
            if protocol in base["protocols"]
        },
    }
    if "matrix" not in content or "matrix" not in base:
        return found
    own, other = content["matrix"], base["matrix"]
    errors, relative = _corruption_errors(own, other), {}
    if "clean" in base["protocols"]:
        relative = _corruption_errors(own, other, content["protocols"]["clean"], base["protocols"]["clean"])
    found |= {"CE": errors, "mCE": _means(errors)}
    return found | ({"relative_CE": relative, "relative_mCE": _means(relative)} if relative else {})


def _corruption_errors(
    own: Mapping[str, Any],
    other: Mapping[str, Any],
    clean: Mapping[str, Any] | None = None,
    other_clean: Mapping[str, Any] | None = None,
) -> dict[str, Ratios]:
    """CE by metric and corruption of two matrices; relative CE with the clean results of both."""

    def total(matrix: Mapping[str, Any], metric: str, name: str, reference: Mapping[str, Any] | None) -> float:
        start = 0.0 if reference is None else _error(reference, metric)
        return sum(1 - value - start for value in matrix[metric][name])

    return {
        metric: {
            name: _ratio(total(own, metric, name, clean), total(other, metric, name, other_clean))
            for name in own[metric]
        }
        for metric in SUMMARY_METRICS
    }


def _error(protocol: Mapping[str, Any], metric: str) -> float:
    return 1 - protocol[metric]["mean"]


def _ratio(error: float, of_baseline: float) -> float | None:
    return error / of_baseline if of_baseline > NO_ERROR else None


def _means(ratios: Mapping[str, Ratios]) -> Ratios:
    """The mean over the corruptions, by metric; None where one of them has none."""
    means: Ratios = {}
    for metric, by_name in ratios.items():
        values = [value for value in by_name.values() if value is not None]
        means[metric] = sum(values) / len(values) if len(values) == len(by_name) else None
    return means
