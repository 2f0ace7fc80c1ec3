"""What a report reads of results.json and history.json; see processor.results and processor.history.

Every field that a page can do without may be missing, and one that a schema refuses is left out, see `lenient`.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from processor.report.lenient import ABSENT, STRICT, WHOLE, Count, Fraction, Name, Number, Word


class _Part(BaseModel):
    model_config = STRICT


class _Metric(_Part):
    mean: Fraction
    std: Fraction = ABSENT


class _Protocol(_Part):
    mAP: _Metric = ABSENT
    mINP: _Metric = ABSENT
    rank1: _Metric = ABSENT
    rank5: _Metric = ABSENT
    rank10: _Metric = ABSENT
    repeats: Annotated[int, Field(ge=1, le=10**9)] = ABSENT


class _Evaluation(_Part):
    metric: Word
    ap: Word
    cmc: Word
    re_ranking: dict[Word, int | Number] | None
    flip: bool = ABSENT
    query_expansion: Count = ABSENT


class _Corruption(_Part):
    names: list[Word]
    severities: list[Count]
    backend: Word


class _Seen(_Part):
    seen: Annotated[int, Field(ge=0, le=1000)]
    of: Annotated[int, Field(ge=1, le=1000)]


Cells = dict[Word, list[Fraction]]  # corruption -> the metric at each severity


class _Matrix(_Part):
    setting: Word
    severities: Annotated[list[Count], Field(min_length=1, max_length=100)]
    mAP: Annotated[Cells, Field(min_length=1)]
    mINP: Annotated[Cells, WHOLE] = ABSENT
    rank1: Annotated[Cells, WHOLE] = ABSENT

    @model_validator(mode="after")
    def _has_all_cells(self) -> "_Matrix":
        for cells in (self.mAP, self.mINP or self.mAP, self.rank1 or self.mAP):
            if cells.keys() != self.mAP.keys() or any(len(row) != len(self.severities) for row in cells.values()):
                raise ValueError("the matrix lacks cells")
        return self


class _Means(_Part):
    mAP: Fraction
    rank1: Fraction = ABSENT


class _MatrixSummary(_Part):
    family: Annotated[dict[Word, _Means], WHOLE] = ABSENT
    seen: _Means = ABSENT
    unseen: _Means = ABSENT


class _Summary(_Part):
    matrix: _MatrixSummary = ABSENT


class _Results(_Part):
    protocols: dict[Word, _Protocol]
    weight: Name = ABSENT
    seed: int = ABSENT
    dataset: Name = ABSENT
    dataset_version: Name = ABSENT
    split: Word = ABSENT
    evaluation: _Evaluation = ABSENT
    corruption: _Corruption = ABSENT
    seen_in_training: Annotated[dict[Word, _Seen], Field(max_length=100)] = ABSENT
    matrix: Annotated[_Matrix, WHOLE] = ABSENT
    summary: _Summary = ABSENT


class _Sets(_Part):
    datasets: Annotated[dict[Name, _Results], Field(min_length=1)]


class _Row(_Part):
    """Values of an epoch, by name."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[Word, Number | None]
    epoch: Count


class _Schedule(_Part):
    epoch: list[Number]
    lr: list[Number]


class _Stage(_Part):
    epochs: list[_Row]
    evaluations: list[_Row] = Field(default_factory=list)
    schedule: _Schedule = ABSENT


RESULTS: TypeAdapter[Any] = TypeAdapter(_Results)
SETS: TypeAdapter[Any] = TypeAdapter(_Sets)
HISTORY: TypeAdapter[Any] = TypeAdapter(dict[Word, _Stage])
