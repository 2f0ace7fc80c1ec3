"""results.json of other runs, which TEST.COMPARE puts beside this run's, read into checked records."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from processor.results import results_by_set
from utils.errors import UserError
from utils.files import MIB, read_text
from utils.structures import DatasetSplits

logger = logging.getLogger(__name__)

MAX_BYTES = 16 * MIB  # a corruption matrix of 20 types and 5 severities has 20 KiB
MAX_SHOWN = 200  # characters of a wrong value in a message

Fraction = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]  # a mean of ones may round up
Name = Annotated[str, Field(max_length=4096)]  # as of a path
Word = Annotated[str, Field(max_length=100)]


class Record(BaseModel):
    """Fields that are checked; any others in the file are kept as they are."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Metric(Record):
    mean: Fraction
    std: Fraction


class _Protocol(Record):
    mAP: _Metric
    mINP: _Metric
    rank1: _Metric
    repeats: Annotated[int, Field(ge=1, le=10**9)]


class _Seen(Record):
    seen: Annotated[int, Field(ge=0, le=1000)]
    of: Annotated[int, Field(ge=1, le=1000)]


class Results(Record):
    """What the comparison reads of a results.json; see processor.results.make_results."""

    weight: Name
    protocols: dict[Word, _Protocol]
    dataset: Name = ""
    dataset_version: Name = ""
    seen_in_training: Annotated[dict[Word, _Seen], Field(max_length=100)] = Field(default_factory=dict)
    split: Word = "test"
    evaluation: (
        Annotated[dict[Word, Word | bool | int | dict[Word, int | float] | None], Field(max_length=20)] | None
    ) = None


def read_results(directory: str | Path) -> dict:
    """The content of the results.json of an output directory, of one data set or of several.

    Raises:
        UserError: there is none, it is damaged or too large, or a value has another type or range.
    """
    return read_results_file(Path(directory) / "results.json")


def read_results_file(path: Path, record: type[Results] = Results, *, key: str = "") -> dict:
    """The content of a results.json.

    Args:
        path: the file.
        record: what is checked of the results of each data set.
        key: of the configuration that names the file, for messages.

    Raises:
        UserError: there is none, it is damaged or too large, or a value has another type or range.
    """
    where, advice = f"{key} {path}".strip(), "give the OUTPUT_DIR of a finished test"
    try:
        text = read_text(path, max_bytes=MAX_BYTES)
        several = _sets_of(record).model_validate_json(text)
        content = several if several.datasets else record.model_validate_json(text)
        return content.model_dump(exclude_unset=True)
    except ValidationError as error:
        raise UserError(f"{where}: {_describe(error)}; {advice}") from error
    except UserError as error:
        raise UserError(f"{where}: cannot be read ({str(error).removeprefix(f'{path}: ')}); {advice}") from error


def _sets_of(record: type[Results]) -> Any:
    """The record of a results.json that may be of several data sets; see processor.results.join_results."""
    sets = Annotated[dict[Name, record], Field(min_length=1)] | None  # type: ignore[valid-type]
    return create_model("Sets", __base__=Record, datasets=(sets, None))


def read_comparable(
    directories: Iterable[str], *, tested: Sequence[DatasetSplits], evaluation: dict
) -> dict[str, dict]:
    """Reads the results of other runs, by directory, to be shown beside those of a test.

    Results that cannot be read are left out with a warning: they must not cost the results of this test. So are
    warnings, and no more, another data set and another way of evaluating. Of results on several data sets, those on
    the data sets of this test are read, if there are any.

    Args:
        directories: TEST.COMPARE.
        tested: what this test is on.
        evaluation: how it evaluates, as in results.json.
    """
    compared = {}
    here = [(splits.tested_name, splits.version) for splits in tested]
    for directory in directories:
        try:
            content = read_results(directory)
        except UserError as error:
            logger.warning("TEST.COMPARE: %s. It is left out of the table", error)
            continue
        results = results_by_set(content)
        comparable = {name: other for name, other in results.items() if tested_on(other) in here}
        shown = comparable or results
        compared[directory] = content | {"datasets": shown} if "datasets" in content else content
        advice = "do not compare their metrics"
        for other in shown.values():
            if other.get("evaluation") != evaluation:
                found = other.get("evaluation")
                logger.warning(
                    "%s was evaluated differently (%s) from this test (%s): %s",
                    *(other["weight"], found, evaluation, advice),
                )
            if not comparable:
                name, titles = " ".join(tested_on(other)).strip(), " or ".join(splits.title for splits in tested)
                logger.warning("%s was tested on %s, not on %s: %s", other["weight"], name, titles, advice)
    return compared


def tested_on(content: dict) -> tuple[str, str]:
    """What a result tells that it is on: name, with " validation" where it is that, and version."""
    split = content.get("split", "test")
    name = content.get("dataset", "")
    return (name if split == "test" else f"{name} {split}"), content.get("dataset_version", "")


def _describe(error: ValidationError) -> str:
    """The first error, and the number of the others."""
    first, *others = error.errors(include_url=False)
    if first["type"] in ("missing", "model_type") and len(first["loc"]) < 2:
        return "holds no 'weight' and 'protocols'"
    place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
    is_value = place and not isinstance(first["input"], dict | list)
    reason = f"{place}{first['msg']}" + (f", found {first['input']!r}" if is_value else "")
    return reason[:MAX_SHOWN] + (f"; and {len(others)} more errors" if others else "")
