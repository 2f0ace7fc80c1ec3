"""Validates a data set: counts against the published ones, and every error, file by file (`python -m datasets check`).

Nothing here raises for a single file, and nothing is left out silently.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from datasets.copy_format import MANIFEST, RERUN, find_damaged, read_if_exists, read_manifest, sha256
from datasets.corrupted_copy import original_of
from datasets.decoding import map_images
from datasets.digests import compare_digests
from datasets.readers.file_errors import FileErrors
from datasets.readers.validation import (
    DISTRACTOR_PID,
    all_records,
    count,
    describe_without_match,
    differences,
    queries_without_match,
)
from datasets.repeated_directories import find_repeated, signature
from datasets.report import NOT_OPENED, Finding, Level, Report, make_findings
from utils.errors import UserError
from utils.images import read_image
from utils.structures import SPLIT_NAMES, DatasetSplits, ImageRecord

TESTED = SPLIT_NAMES[1:]
QUOTED = 5  # names that one finding quotes


class DeepCheck(NamedTuple):
    """What to compare digests with: `file`, None for the one in the data set's root; `renew`: record them again."""

    file: Path | None = None
    renew: bool = False


class ImageInfo(NamedTuple):
    """What opening an image gives: `size` (height, width), upright, sha256 `digest` of the file, and `signature`
    (repeated_directories.py); or `error`, why it cannot be decoded."""

    size: tuple[int, int] | None = None
    digest: str = ""
    error: str = ""
    signature: bytes = b""


def validate(
    splits: DatasetSplits,
    errors: FileErrors,
    *,
    fast: bool = False,
    refuse_counts: bool = True,
    deep: DeepCheck | None = None,
) -> Report:
    """Runs every check of a data set.

    Args:
        splits: the data set, as its names and lists say.
        errors: of single files, collected when those were read.
        fast: open no image; checks of their content are skipped.
        refuse_counts: counts other than the published ones are an error, else a warning.
        deep: also compare the content of every image with recorded digests; not with `fast`.
    """
    infos = {} if fast else inspect_images(record.path for record in all_records(splits))
    fine = "names and lists: every entry is an image that was read"
    findings = [
        *check_counts(splits, refuse=refuse_counts),
        *check_empty(splits),
        *make_findings(Level.ERROR, "names", errors.messages, fine),
        *check_common_paths(splits),
        *check_common_pids(splits),
        *check_matches(splits),
    ]
    if not fast:
        findings += [*check_decoding(infos), *check_duplicates(splits, infos), *check_sums(splits)]
        findings += check_repeated_directories(infos)
    if deep is not None:
        findings += check_digests(splits, infos, deep)
    digests = {path: info.digest for path, info in infos.items() if info.digest}
    return Report(splits.title, splits.root, _make_table(splits, infos, fast), tuple(findings), fast, digests)


def check_across(train: Iterable[DatasetSplits], tested: Iterable[DatasetSplits], digests: dict[str, str]) -> Report:
    """Compares the images of several data sets: none of a training set is in another, or in the test set of another.

    Args:
        train: the training sets.
        tested: the test sets.
        digests: path -> sha256 sum, of the images that could be opened.
    """
    in_train, in_test = (_places(sets, names, digests) for sets, names in ((train, ["train"]), (tested, TESTED)))
    twice = [list(places.values())[:2] for places in in_train.values() if len(places) > 1]
    leaks = [
        [one, other]
        for digest, places in in_train.items()
        for name, one in places.items()
        for other_name, other in in_test[digest].items()
        if name != other_name
    ]
    found = [f"the same content: {one} and {other}; leave one of the data sets out" for one, other in twice + leaks]
    fine = "duplicates: no training image is in another data set"
    names = ", ".join(dict.fromkeys(splits.title for splits in (*train, *tested)))
    return Report(names, "", (), tuple(make_findings(Level.ERROR, "data sets", found, fine)))


def _places(sets: Iterable[DatasetSplits], names: Iterable[str], digests: dict[str, str]) -> dict[str, dict[str, str]]:
    """Digest -> data set -> a text with the first image there of that content."""
    places: dict[str, dict[str, str]] = defaultdict(dict)
    for splits in sets:
        for split, record in _records_of(splits, *names):
            if digest := digests.get(record.path):
                places[digest].setdefault(splits.name, f"{split} of {splits.name}, {record.path}")
    return places


def inspect_images(paths: Iterable[str]) -> dict[str, ImageInfo]:
    """Decodes images; returns path -> what that gives, each file once."""
    return map_images(_inspect, paths, "opening images")


def _inspect(path: str) -> ImageInfo:
    try:
        image = read_image(path)
    except UserError as error:
        return ImageInfo(error=str(error))
    height, width, _ = image.shape
    return ImageInfo((height, width), sha256(read_if_exists(Path(path))), signature=signature(image))


def check_counts(splits: DatasetSplits, *, refuse: bool) -> list[Finding]:
    """Counts other than the published ones; nothing where none are published."""
    if not splits.published:
        return []
    level = Level.ERROR if refuse else Level.WARNING
    return make_findings(level, "counts", differences(splits).values(), "counts: the published ones")


def check_empty(splits: DatasetSplits) -> list[Finding]:
    """Splits without images. Custom data, and some published data sets, are for tests only."""
    return [
        Finding(Level.WARNING, "empty", "train: no images, a data set for tests only")
        if split == "train" and split not in splits.published
        else Finding(Level.ERROR, "empty", f"{split}: no images; unpack again, or check the keys below DATASETS")
        for split in SPLIT_NAMES
        if not getattr(splits, split)
    ]


def _records_of(splits: DatasetSplits, *names: str) -> Iterator[tuple[str, ImageRecord]]:
    return ((name, record) for name in names for record in getattr(splits, name))


def check_common_paths(splits: DatasetSplits) -> list[Finding]:
    """Files that are in the training and in the test set."""
    train = {record.path for record in splits.train}
    texts = (
        f"{record.path} is in train and in {split}; take it out of one of them"
        for split, record in _records_of(splits, "query", "gallery")
        if record.path in train
    )
    return make_findings(Level.ERROR, "paths", texts)


def check_common_pids(splits: DatasetSplits) -> list[Finding]:
    """Identities that are in the training and in the test set; nothing where pids differ between the two."""
    if not splits.common_pids:
        return []
    train = {record.pid: record.path for record in splits.train}
    test = {record.pid: f"{split} ({record.path})" for split, record in _records_of(splits, "query", "gallery")}
    common = train.keys() & test.keys()
    if splits.has_distractors:
        common -= {DISTRACTOR_PID}
    texts = (
        f"identity {pid} is in train ({train[pid]}) and in {test[pid]}; take it out of one of them"
        for pid in sorted(common)
    )
    return make_findings(Level.ERROR, "identities", texts, "identities: none is in train and in test")


def check_matches(splits: DatasetSplits) -> list[Finding]:
    """Queries that nothing in the gallery can match."""
    if not splits.query:
        return []
    paths = queries_without_match(splits)
    texts = [describe_without_match(splits, paths, shown=QUOTED)] if paths else []
    return make_findings(Level.ERROR, "matches", texts, "matches: every query has one in the gallery")


def check_decoding(infos: dict[str, ImageInfo]) -> list[Finding]:
    """Images that cannot be decoded."""
    texts = [info.error for info in infos.values() if info.error]
    return make_findings(Level.ERROR, "decoding", texts, f"decoding: all {len(infos)} images can be read")


def check_duplicates(splits: DatasetSplits, infos: dict[str, ImageInfo]) -> list[Finding]:
    """Different files of the same content, in train and test (an error), or in query and gallery (a warning)."""
    # digest -> split -> path -> its text
    copies: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: {split: {} for split in SPLIT_NAMES})
    for split, record in _records_of(splits, *SPLIT_NAMES):
        if digest := infos[record.path].digest:
            copies[digest][split][record.path] = f"{split} {record.path}"
    leaks, twins = [], []
    for found in copies.values():
        leaks += _pair(found["train"], {**found["gallery"], **found["query"]})
        twins += _pair(found["query"], found["gallery"])
    return [
        *make_findings(Level.ERROR, "leaks", leaks, "duplicates: no file of train has the content of one of test"),
        *make_findings(
            Level.WARNING, "twins", twins, "duplicates: no file of query has the content of another of gallery"
        ),
    ]


def _pair(left: dict[str, str], right: dict[str, str]) -> list[str]:
    """Every file of either side with a different file of the other side; both are path -> text."""
    pairs: dict[frozenset[str], tuple[str, str]] = {}
    for path in left:
        if other := next((candidate for candidate in right if candidate != path), None):
            pairs[frozenset((path, other))] = path, other
    for path in right:
        if other := next((candidate for candidate in left if candidate != path), None):
            pairs[frozenset((path, other))] = other, path
    return [f"the same content: {left[one]} and {right[two]}; remove one" for one, two in pairs.values()]


def check_sums(splits: DatasetSplits) -> list[Finding]:
    """Whether the files of a corrupted copy are those of its manifest; nothing for other data sets."""
    if not original_of(splits.name):
        return []
    directory = Path(splits.root)
    total, damaged = len(read_manifest(directory)["files"]), find_damaged(directory)
    texts = [
        f"sha256: {len(damaged)} of {total} files DIFFER from {MANIFEST}, the first is {name}; {RERUN}: it makes them "
        "again"
        for name in damaged[:1]
    ]
    fine = f"sha256: all {total} files are those of {MANIFEST}"
    return make_findings(Level.ERROR, "sha256", texts, fine)


def check_repeated_directories(infos: dict[str, ImageInfo]) -> list[Finding]:
    """Directories that hold the images of another one once more; nothing where there is none."""
    repeated = find_repeated(
        {path: info.signature for path, info in infos.items() if not info.error},
        {path: info.size for path, info in infos.items() if info.size},
    )
    texts = (
        f"{found.directory}: {found.number} of its {found.total} images look like re-encodings (thumbnails, a backup?) "
        f"of those in {found.other}, e.g. {found.example} of {found.source}; leave one directory out"
        for found in repeated
    )
    return make_findings(Level.WARNING, "repeated directories", texts)


def check_digests(splits: DatasetSplits, infos: dict[str, ImageInfo], deep: DeepCheck) -> list[Finding]:
    """Images that differ from those recorded before."""
    digests = {path: info.digest for path, info in infos.items() if info.digest}
    found = compare_digests(splits.root, digests, file=deep.file, renew=deep.renew)
    changed = (
        f"{name}: its content is not the one recorded in {found.file}; download it again, or accept the images as they "
        "are with --record"
        for name in found.changed
    )
    gone = (f"{name}: recorded in {found.file}, and gone" for name in found.gone)
    fine = f"digests: {found.num_same} images are those recorded in {found.file}, {len(found.added)} newly recorded"
    return [*make_findings(Level.ERROR, "digests", changed, fine), *make_findings(Level.WARNING, "gone", gone)]


def _make_table(splits: DatasetSplits, infos: dict[str, ImageInfo], fast: bool) -> tuple[tuple[str, ...], ...]:
    different = differences(splits)
    rows = [("split", "images", "identities", "cameras", "published", "height x width")]
    for split in SPLIT_NAMES:
        records, found, published = getattr(splits, split), count(splits, split), splits.published.get(split)
        cameras = str(len({record.camid for record in records})) if splits.has_cameras else "unknown"
        sizes = NOT_OPENED if fast else _describe_sizes(infos[record.path].size for record in records)
        expected = published.describe() if published else "none"
        if split in different:
            expected += ", DIFFERS"
        rows.append((split, str(len(records)), str(found.identities), cameras, expected, sizes))
    return tuple(rows)


def _describe_sizes(sizes: Iterable[tuple[int, int] | None]) -> str:
    """The smallest and the largest by area."""
    known = sorted({size for size in sizes if size}, key=lambda size: (size[0] * size[1], size))
    if not known:
        return "none"
    return " to ".join(f"{height}x{width}" for height, width in dict.fromkeys((known[0], known[-1])))
