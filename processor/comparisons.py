"""Results of other runs, which TEST.COMPARE puts beside those of this one, read into checked records."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from utils.errors import UserError
from utils.files import MIB, read_text

MAX_BYTES = 16 * MIB  # a corruption matrix of 20 types and 5 severities has 20 KiB
SHOWN = 200  # characters of what was found

Fraction = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]  # a mean of ones may round up
Name = Annotated[str, Field(max_length=4096)]  # as of a path
Word = Annotated[str, Field(max_length=100)]


class _Record(BaseModel):
    """What is checked; whatever else stands in the file is kept as it is."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Metric(_Record):
    mean: Fraction
    std: Fraction


class _Protocol(_Record):
    mAP: _Metric
    mINP: _Metric
    rank1: _Metric
    repeats: Annotated[int, Field(ge=1, le=10**9)]


class _Results(_Record):
    """What the table and the warnings about other settings read of a results.json; see processor.results.make_results."""

    weight: Name
    protocols: dict[Word, _Protocol]
    dataset: Name = ""
    dataset_version: Name = ""
    evaluation: Annotated[dict[Word, Word | dict[Word, int | float] | None], Field(max_length=20)] | None = None


def read_results(directory: str | Path) -> dict:
    """The content of the results.json of an output directory.

    Raises:
        UserError: there is none, it is damaged or too large, or a value has another type or range.
    """
    path = Path(directory) / "results.json"
    advice = "give the OUTPUT_DIR of a finished test"
    try:
        return _Results.model_validate_json(read_text(path, max_bytes=MAX_BYTES)).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise UserError(f"{path}: {_describe(error)}; {advice}") from error
    except UserError as error:
        raise UserError(f"{path}: cannot be read ({str(error).removeprefix(f'{path}: ')}); {advice}") from error


def _describe(error: ValidationError) -> str:
    """The first thing that is wrong, and how many others are."""
    first, *others = error.errors(include_url=False)
    if first["type"] in ("missing", "model_type") and len(first["loc"]) < 2:
        return "holds no 'weight' and 'protocols'"
    place = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
    plain = place and not isinstance(first["input"], dict | list)
    reason = f"{place}{first['msg']}" + (f", found {first['input']!r}" if plain else "")
    return reason[:SHOWN] + (f"; {len(others)} more such" if others else "")
