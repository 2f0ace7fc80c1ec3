"""report_data.json: what a report needs and no other file of OUTPUT_DIR has, checked when it is read."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from utils.errors import UserError
from utils.files import MIB, read_text, write_files

FILE = "report_data.json"
MAX_BYTES = 32 * MIB  # that of a Market-sized test has 2 MiB

Fraction = Annotated[float, Field(ge=0, le=1 + 1e-6, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Distance = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=10_000)]
Word = Annotated[str, Field(max_length=100)]
JPEG = Annotated[str, Field(max_length=200_000, pattern=r"^[A-Za-z0-9+/]+=*$")]  # base64


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class Point(_Model):
    """An operating point, see utils.metrics.verification."""

    name: Word
    threshold: Distance
    true_accept_rate: Fraction
    false_accept_rate: Fraction


class Distances(_Model):
    """Distances of a protocol's first repeat: pairs of the same and of different identities between `edges`."""

    metric: Word
    edges: list[Distance]
    same: list[Count]
    different: list[Count]
    points: list[Point]
    equal_error_rate: Fraction
    queries: Count  # whose pairs are counted
    all_queries: Count


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
    """What is known of the test on one data set.

    `reasons` says, by section, why one is missing; `protocol` is the corrupted one that galleries show.
    """

    title: Text
    queries: Count
    gallery: Count
    identities: Count
    families: dict[Word, list[Word]]
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


def digest(results: dict) -> str:
    """A short digest of the content of a results.json."""
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()[:16]


def write_record(output_dir: Path, record: Record) -> None:
    """Writes report_data.json over an earlier one."""
    text = record.model_dump_json(exclude_defaults=True)
    write_files({output_dir / FILE: lambda partial: partial.write_text(text, encoding="utf-8")}, replace=True)


def read_record(output_dir: Path, results: dict) -> tuple[Record | None, str]:
    """The record of a test with these results, or None and why there is none."""
    path = output_dir / FILE
    if not path.exists():
        return None, f"there is no {FILE}, which a test writes with TEST.REPORT True; test again to have it"
    try:
        record = Record.model_validate_json(read_text(path, max_bytes=MAX_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return None, f"{FILE} cannot be read ({place}: {first['msg']:.200}); test again to write it"
    except UserError as error:
        return None, f"{error}"
    if record.results != digest(results):
        return None, f"{FILE} belongs to another test than results.json; test again with TEST.REPORT True"
    return record, ""
