"""The doctor of a data set: what was read beside what was published, and everything that is wrong, file by file.

`python -m datasets check` prints its report. Nothing here raises for a single file, and nothing is left out silently.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from datasets.copy_format import MANIFEST, find_damaged, read_if_there, read_manifest, sha256
from datasets.corrupted_copy import original_of
from datasets.digests import compare_digests
from datasets.readers.file_errors import FileErrors
from datasets.readers.validation import DISTRACTOR_PID, all_records, count, differences, lost_queries
from datasets.repeated_directories import find_repeated, signature
from utils.errors import UserError
from utils.images import read_image
from utils.structures import SPLIT_NAMES, DatasetSplits, ImageRecord
from utils.text import printable

SHOWN = 20  # findings of a kind that a report names
QUOTED = 5  # names that one finding quotes
NOT_LOOKED_AT = "not looked at (--fast)"


class Level(Enum):
    """How bad a finding is; the value is the mark of its line."""

    FINE = "ok"
    WARNING = "WARNING"
    ERROR = "ERROR"


ANSI = {Level.FINE: "32", Level.WARNING: "33", Level.ERROR: "31"}  # green, yellow, red


@dataclass(frozen=True)
class Finding:
    """One line of a report. Findings of a `kind` stand together, and are named up to SHOWN."""

    level: Level
    kind: str
    text: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        title, root: of the data set.
        table: a header and a row for each split, texts.
        findings: all of them.
        fast: the pictures were not looked at.
    """

    title: str
    root: str
    table: tuple[tuple[str, ...], ...]
    findings: tuple[Finding, ...]
    fast: bool = False

    def number(self, level: Level) -> int:
        return sum(finding.level is level for finding in self.findings)


class DeepCheck(NamedTuple):
    """What to compare digests with: `file`, None for the one in the data set's root; `renew`: record them anew."""

    file: Path | None = None
    renew: bool = False


class Look(NamedTuple):
    """What a look at a picture gave: `size` (height, width), upright, the sha256 sum of the file, and its signature
    (reencodings.py); or `fault`, why it cannot be decoded."""

    size: tuple[int, int] | None = None
    digest: str = ""
    fault: str = ""
    signature: bytes = b""


def validate(
    splits: DatasetSplits,
    faults: FileErrors,
    *,
    fast: bool = False,
    refuse_counts: bool = True,
    deep: DeepCheck | None = None,
) -> Report:
    """Everything that can be told about a data set.

    Args:
        splits: the data set, as its names and lists say.
        faults: what reading those found.
        fast: open no picture; what depends on their content is not checked.
        refuse_counts: counts other than the published ones are a fault, else a warning.
        deep: also compare the content of every picture with what was recorded before; not with `fast`.
    """
    looks = {} if fast else look_at(record.path for record in all_records(splits))
    findings = [
        *check_counts(splits, refuse=refuse_counts),
        *check_empty(splits),
        *_name_all(Level.ERROR, "names", faults.messages, "names and lists: every entry is a picture that was read"),
        *check_common_paths(splits),
        *check_common_pids(splits),
        *check_matches(splits),
    ]
    if not fast:
        findings += [*check_decoding(looks), *check_duplicates(splits, looks), *check_sums(splits)]
        findings += check_reencodings(looks)
    if deep is not None:
        findings += check_digests(splits, looks, deep)
    return Report(splits.title, splits.root, _make_table(splits, looks, fast), tuple(findings), fast)


def look_at(paths: Iterable[str]) -> dict[str, Look]:
    """path -> what a look at the whole picture gives; each file once."""
    Image.init()  # its list of formats is filled on first use, which threads must not do at a time
    paths = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = list(tqdm(pool.map(_look, paths), "looking at pictures", len(paths), leave=False, disable=None))
    return dict(zip(paths, looks, strict=True))


def _look(path: str) -> Look:
    try:
        image = read_image(path)
    except UserError as error:
        return Look(fault=str(error))
    return Look(image.shape[:2], sha256(read_if_there(Path(path))), signature=signature(image))


def _name_all(level: Level, kind: str, texts: Iterable[str], fine: str) -> list[Finding]:
    """A finding for every text, or where there is none, that all is fine."""
    return [Finding(level, kind, text) for text in texts] or [Finding(Level.FINE, kind, fine)]


def check_counts(splits: DatasetSplits, *, refuse: bool) -> list[Finding]:
    """Counts other than the published ones; nothing where none are published."""
    if not splits.published:
        return []
    level = Level.ERROR if refuse else Level.WARNING
    return _name_all(level, "counts", differences(splits).values(), "counts: the published ones")


def check_empty(splits: DatasetSplits) -> list[Finding]:
    """Splits without pictures. One's own data may be for tests only."""
    return [
        Finding(Level.WARNING, "empty", "train: no pictures, a data set for tests only")
        if split == "train" and not splits.published
        else Finding(Level.ERROR, "empty", f"{split}: no pictures; unpack again, or look at the keys below DATASETS")
        for split in SPLIT_NAMES
        if not getattr(splits, split)
    ]


def _placed(splits: DatasetSplits, *names: str) -> Iterable[tuple[str, ImageRecord]]:
    return ((name, record) for name in names for record in getattr(splits, name))


def check_common_paths(splits: DatasetSplits) -> list[Finding]:
    """Files that are in training and in test."""
    trained = {record.path for record in splits.train}
    return [
        Finding(Level.ERROR, "paths", f"{record.path} is in train and in {split}; take it out of one of them")
        for split, record in _placed(splits, "query", "gallery")
        if record.path in trained
    ]


def check_common_pids(splits: DatasetSplits) -> list[Finding]:
    """Identities that are in training and in test, with a picture of each; nothing where pids mean other people."""
    if not splits.common_pids:
        return []
    train = {record.pid: record.path for record in splits.train}
    test = {record.pid: f"{split} ({record.path})" for split, record in _placed(splits, "query", "gallery")}
    common = train.keys() & test.keys()
    if splits.has_distractors:
        common -= {DISTRACTOR_PID}
    texts = [
        f"identity {pid} is in train ({train[pid]}) and in {test[pid]}; take the person out of one of them"
        for pid in sorted(common)
    ]
    return _name_all(Level.ERROR, "identities", texts, "identities: none is in train and in test")


def check_matches(splits: DatasetSplits) -> list[Finding]:
    """Queries that nothing in the gallery can match."""
    if not splits.query:
        return []
    lost = lost_queries(splits)
    if not lost:
        return [Finding(Level.FINE, "matches", "matches: every query has one in the gallery")]
    expected = "by another camera" if splits.has_cameras else "in another file"
    text = (
        f"{len(lost)} of {len(splits.query)} queries have no match in the gallery, the same identity {expected}: "
        f"{', '.join(lost[:QUOTED])}{', ...' if len(lost) > QUOTED else ''}"
    )
    return [Finding(Level.ERROR, "matches", text)]


def check_decoding(looks: dict[str, Look]) -> list[Finding]:
    """Pictures that cannot be decoded."""
    texts = [look.fault for look in looks.values() if look.fault]
    return _name_all(Level.ERROR, "decoding", texts, f"decoding: all {len(looks)} pictures can be read")


def check_duplicates(splits: DatasetSplits, looks: dict[str, Look]) -> list[Finding]:
    """Other files of the same content, in training and in test (a fault), or in query and in gallery (a warning)."""
    copies = defaultdict(lambda: {split: {} for split in SPLIT_NAMES})  # digest -> split -> path -> its text
    for split, record in _placed(splits, *SPLIT_NAMES):
        if digest := looks[record.path].digest:
            copies[digest][split][record.path] = f"{split} {record.path}"
    leaks, twins = [], []
    for found in copies.values():
        leaks += _pair(found["train"], {**found["gallery"], **found["query"]})
        twins += _pair(found["query"], found["gallery"])
    return [
        *_name_all(Level.ERROR, "leaks", leaks, "duplicates: no file of train has the content of one of test"),
        *_name_all(Level.WARNING, "twins", twins, "duplicates: no file of query has the content of another of gallery"),
    ]


def _pair(left: dict[str, str], right: dict[str, str]) -> list[str]:
    """Every file of either side beside a file of the other side that is not itself; path -> its text."""

    def other(path: str, side: dict[str, str]) -> str | None:
        return next((candidate for candidate in side if candidate != path), None)

    pairs = [(path, other(path, right)) for path in left] + [(other(path, left), path) for path in right]
    pairs = {frozenset(pair): pair for pair in pairs if None not in pair}
    return [f"the same content: {left[one]} and {right[two]}; remove one" for one, two in pairs.values()]


def check_sums(splits: DatasetSplits) -> list[Finding]:
    """Whether the files of a corrupted copy are those of its manifest; nothing for other data sets."""
    if not original_of(splits.name):
        return []
    directory = Path(splits.root)
    total, damaged = len(read_manifest(directory)["files"]), find_damaged(directory)
    text = f"sha256: all {total} files are those of {MANIFEST}"
    if damaged:
        text = (
            f"sha256: {len(damaged)} of {total} files DIFFER from {MANIFEST}, the first is {damaged[0]}; "
            "run the same export command again: it makes them anew"
        )
    return [Finding(Level.ERROR if damaged else Level.FINE, "sha256", text)]


def check_reencodings(looks: dict[str, Look]) -> list[Finding]:
    """Directories that hold the pictures of another one once more; nothing where there is none."""
    repeated = find_repeated(
        {path: look.signature for path, look in looks.items() if not look.fault},
        {path: look.size for path, look in looks.items() if look.size},
    )
    return [
        Finding(
            Level.WARNING,
            "reencodings",
            f"{found.directory}: {found.number} of its {found.total} pictures look like re-encodings (thumbnails, a "
            f"backup?) of those in {found.other}, e.g. {found.example} of {found.source}; leave one directory out",
        )
        for found in repeated
    ]


def check_digests(splits: DatasetSplits, looks: dict[str, Look], deep: DeepCheck) -> list[Finding]:
    """Pictures that are others than those recorded before."""
    digests = {path: look.digest for path, look in looks.items() if look.digest}
    found = compare_digests(splits.root, digests, file=deep.file, renew=deep.renew)
    changed = (
        f"{name}: its content is another than recorded in {found.file}; fetch it anew, or accept the pictures as they "
        "are with --record"
        for name in found.changed
    )
    fine = f"digests: {found.num_same} pictures are those recorded in {found.file}, {len(found.added)} recorded anew"
    return [
        *_name_all(Level.ERROR, "digests", changed, fine),
        *(Finding(Level.WARNING, "gone", f"{name}: recorded in {found.file}, and gone") for name in found.gone),
    ]


def _make_table(splits: DatasetSplits, looks: dict[str, Look], fast: bool) -> tuple[tuple[str, ...], ...]:
    different, rows = differences(splits), []
    for split in SPLIT_NAMES:
        records, found, published = getattr(splits, split), count(splits, split), splits.published.get(split)
        cameras = str(len({record.camid for record in records})) if splits.has_cameras else "unknown"
        sizes = NOT_LOOKED_AT if fast else _describe_sizes(looks[record.path].size for record in records)
        expected = published.describe() if published else "none"
        if split in different:
            expected += ", DIFFERS"
        rows.append((split, str(found.pictures), str(found.identities), cameras, expected, sizes))
    return (("split", "pictures", "identities", "cameras", "published", "height x width"), *rows)


def _describe_sizes(sizes: Iterable[tuple[int, int] | None]) -> str:
    """The smallest and the largest by area."""
    known = sorted({size for size in sizes if size}, key=lambda size: (size[0] * size[1], size))
    if not known:
        return "none"
    return " to ".join(f"{height}x{width}" for height, width in dict.fromkeys((known[0], known[-1])))


def format_report(report: Report, *, colour: bool = False) -> str:
    """The report as text, with marks coloured by ANSI codes where `colour`."""
    widths = [max(map(len, column)) for column in zip(*report.table, strict=True)]
    lines = [printable(f"{report.title} in {report.root}"), ""]
    for row in report.table:
        lines.append("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    lines.append("")
    for (level, _), findings in groupby(report.findings, lambda finding: (finding.level, finding.kind)):
        texts = [finding.text for finding in findings]
        if len(texts) > SHOWN:
            texts = [*texts[:SHOWN], f"... and {len(texts) - SHOWN} more"]
        lines += [f"{_paint(level, level.value, colour)} {printable(text)}" for text in texts]
    faults, warnings = report.number(Level.ERROR), report.number(Level.WARNING)
    level = Level.ERROR if faults else Level.WARNING if warnings else Level.FINE
    verdict = _paint(level, f"{_number(faults, 'fault')}, {_number(warnings, 'warning')}", colour)
    lines += ["", f"{verdict}; content of the pictures {NOT_LOOKED_AT}" if report.fast else verdict]
    return "\n".join(lines)


def _number(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _paint(level: Level, text: str, colour: bool) -> str:
    return f"\033[{ANSI[level]}m{text}\033[0m" if colour else text
