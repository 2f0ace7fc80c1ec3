"""report_data.json: what a report needs and no other file of OUTPUT_DIR has, checked when it is read.

A field that is damaged is left out, see `lenient`, and so is all that it alone completes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, model_validator

from processor.report.lenient import STRICT, WHOLE, Count, Fraction, LeftOut, Number, Text, Word, read_leniently
from utils.errors import UserError
from utils.files import MIB, read_json_object, write_files

FILE = "report_data.json"
MAX_BYTES = 32 * MIB  # that of a Market-sized test has 2 MiB

ADVICE = "test again to write it"

JPEG = Annotated[str, Field(max_length=200_000, pattern=r"^[A-Za-z0-9+/]+=*$")]  # base64


class _Model(BaseModel):
    model_config = STRICT


class Point(_Model):
    """An operating point, see utils.metrics.verification."""

    name: Word
    threshold: Number
    true_accept_rate: Fraction
    false_accept_rate: Fraction


class Distances(_Model):
    """Distances of a protocol's first repeat: pairs of the same and of different identities between `edges`."""

    metric: Word
    edges: list[Number]
    same: list[Count]
    different: list[Count]
    points: list[Point]
    equal_error_rate: Fraction
    queries: Count  # whose pairs are counted
    all_queries: Count

    @model_validator(mode="after")
    def _fits(self) -> "Distances":
        if not len(self.same) == len(self.different) == len(self.edges) - 1:
            raise ValueError("counts and edges do not fit")
        return self


class Cell(_Model):
    """Means over the queries of a sampled protocol that had this corruption, over all repeats."""

    corruption: Word
    severity: Count
    queries: Count
    mAP: Fraction
    rank1: Fraction


class Match(_Model):
    """An image of a ranked gallery."""

    image: JPEG
    pid: int
    camid: int
    right: bool


class Ranked(_Model):
    """A query under one condition and the top of its ranked gallery; `first` is the rank of its first match."""

    image: JPEG
    corruption: Word = ""
    severity: Count = 0
    ap: Fraction
    first: Count
    top: list[Match]
    attention: JPEG | None = None


class QueryGallery(_Model):
    """A query, clean and corrupted; `corrupted_ap` is the mean over all repeats."""

    path: Text
    pid: int
    camid: int
    is_worst: bool
    clean: Ranked
    corrupted: Ranked
    corrupted_ap: Fraction
    attention_correlation: float | None = None


class IdentityRow(_Model):
    """An identity: mean average precision of its queries, clean and corrupted, the latter over all repeats."""

    pid: int
    queries: Count
    clean: Fraction
    corrupted: Fraction


class SetRecord(_Model):
    """What is known of the test on one data set; a count of 0 is not known.

    `reasons` says, by section, why one is missing; `protocol` is the corrupted one that galleries show.
    """

    title: Text = ""
    queries: Count = 0
    gallery: Count = 0
    identities: Count = 0
    families: Annotated[dict[Word, list[Word]], WHOLE] = {}
    protocol: Word = ""
    cmc: dict[Word, list[Fraction]] = {}
    distances: dict[Word, Distances] = {}
    cells: dict[Word, list[Cell]] = {}
    galleries: list[QueryGallery] = []
    identity_rows: list[IdentityRow] = []
    reasons: dict[Word, Text] = {}


class Training(_Model):
    """What the checkpoint says of its training."""

    stage: Word = ""
    epoch: Count = 0
    images_seen: Count = 0
    training_seconds: Annotated[float, Field(ge=0)] = 0.0
    dataset: Text = ""
    dataset_version: Text = ""
    images: Count = 0
    identities: Count = 0
    cameras: Count = 0
    seed: int = 0
    corruptions: list[Word] = []
    versions: dict[Word, Word] = {}


class Record(_Model):
    """The whole file. `results` is the digest of the results.json that it belongs to."""

    results: Word
    command: Text = ""
    facts: dict[Word, Text] = {}
    training: Training | None = None
    warnings: dict[Text, Count] = {}
    sets: dict[Text, SetRecord] = {}


@dataclass(frozen=True)
class About:
    """What the command line knows of a run.

    Attributes:
        command: that repeats it.
        defaults: text of the configuration with no key given; a report shows what differs from it.
    """

    command: str = ""
    defaults: str = ""


_SCHEMA = TypeAdapter(Record)


def digest(results: dict) -> str:
    """A short digest of the content of a results.json."""
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()[:16]


def write_record(output_dir: Path, record: Record) -> None:
    """Writes report_data.json over an earlier one."""
    text = record.model_dump_json(exclude_defaults=True)
    write_files({output_dir / FILE: lambda partial: partial.write_text(text, encoding="utf-8")}, replace=True)


@dataclass(frozen=True)
class ReadRecord:
    """What a report_data.json gave: the record, or None and the reason; and which fields were left out."""

    record: Record | None
    reason: str = ""
    left_out: Sequence[LeftOut] = ()


def read_record(output_dir: Path, results: dict) -> ReadRecord:
    """The record of a test whose results.json has this content, if there is one."""
    path = output_dir / FILE
    if not path.exists():
        reason = f"there is no {FILE}, which a test writes with TEST.REPORT True; test again to have it"
        return ReadRecord(None, reason)
    try:
        record, left_out = read_leniently(_SCHEMA, read_json_object(path, max_bytes=MAX_BYTES), FILE, ADVICE)
        of_these = record.results == digest(results)
    except (UserError, RecursionError) as error:
        reason = f"{error}".removeprefix(f"{path}: ").removeprefix(f"{FILE}: ").removesuffix(f"; {ADVICE}")
        return ReadRecord(None, f"{FILE} cannot be read", [LeftOut(FILE, "", reason, ADVICE)])
    if not of_these:
        reason = f"{FILE} belongs to another test than results.json; test again with TEST.REPORT True"
        return ReadRecord(None, reason)
    return ReadRecord(record, "", left_out)
