"""Pictures of one's own, as folder.py and csv_list.py find them: numbers for people and cameras, and drawn splits.

People and cameras may bear any name. Names are text: 1 and 01 are two people, unless a pattern of digits says that they
are numbers. Where all are integers, no two of the same value, the integers stay. What is drawn depends on
DATASETS.SPLIT.SEED alone, person by person, so that runs with different SEEDs share a split and a new person changes no
other person's queries.
"""

import difflib
import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from datasets.readers.file_errors import FileErrors
from datasets.readers.validation import DISTRACTOR_PID, MAX_CAMERAS, MAX_PID
from utils.errors import UserError
from utils.listing import is_machine_made
from utils.metrics.ranking import JUNK_PID
from utils.seeds import derive_generator
from utils.structures import SPLIT_NAMES, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

# Splits that are drawn: TEST into query and gallery, ALL into people who train and people who test.
TEST, ALL = "test", "all"
INTEGER = re.compile(r"(-?[0-9]{1,1000})(\.0+)?")  # longer ones int() may refuse; pandas writes 7.0 beside gaps
SIGNED = re.compile(r"([+-]?[0-9]{1,1000})(\.0+)?")
JUNK = re.compile(rf"{JUNK_PID}(\.0+)?")
SHOWN, SHOWN_NAME = 10, 60  # names that a message quotes, and their characters


class OwnPicture(NamedTuple):
    """A picture as its name or its row tells.

    Attributes:
        path: of the file.
        split: train, query, gallery, TEST or ALL.
        pid, camid, viewid: as they stand there; "" where there is none.
        where: what messages name, the file or the row.
    """

    path: str
    split: str
    pid: str
    camid: str
    viewid: str
    where: str


class Numbered(NamedTuple):
    """A picture with numbers; `person` is the pid as it stands there."""

    record: ImageRecord
    split: str
    person: str


def make_splits(
    pictures: Iterable[OwnPicture],
    faults: FileErrors,
    *,
    name: str,
    version: str,
    root: str,
    seed: int,
    train_share: float,
    numeric: Collection[str] = (),
) -> DatasetSplits:
    """Numbers people, cameras and viewpoints, over all splits together, and draws what is to be drawn.

    Args:
        pictures: all of the data set; those of each split keep their order.
        faults: takes up pictures that cannot be numbered.
        name, version, root: see DatasetSplits.
        seed: of what is drawn.
        train_share: share of the people of ALL who train.
        numeric: those of pid, camid and viewid that are numbers however they are written: 1 and 01 are the same.

    Raises:
        UserError: too many cameras, or nothing to draw from.
    """
    readable = [picture for picture in pictures if picture.path not in faults.damaged]
    numbered, has_cameras = _number(readable, faults, numeric)
    if not has_cameras:
        logger.info("%s (%s): no cameras known; a match may come from any camera", name, version)
    splits = {split: [picture for picture in numbered if picture.split == split] for split in (*SPLIT_NAMES, TEST, ALL)}
    left_out = f"\n{len(faults.messages)} left out before, the first: {faults.messages[0]}" if faults.messages else ""
    if splits[ALL]:
        train, test = _draw_people(splits[ALL], seed, train_share, left_out)
        splits["train"] += train
        splits[TEST] += test
    if splits[TEST]:
        query, gallery = _draw_queries(splits[TEST], root, seed, has_cameras, left_out)
        splits["query"] += query
        splits["gallery"] += gallery
    found = DatasetSplits(
        **{split: tuple(picture.record for picture in splits[split]) for split in SPLIT_NAMES},
        name=name,
        version=version,
        root=root,
        has_cameras=has_cameras,
    )
    both = {record.pid for record in found.train} & {record.pid for record in (*found.query, *found.gallery)}
    if both:
        logger.warning(
            "%s: %d people are in the training and in the test set; results say little about people never seen",
            found.title, len(both),
        )  # fmt: skip
    return found


def values_of(texts: Iterable[str], *, is_number: bool = False) -> dict[str, int | str]:
    """What each text stands for: an integer where all are integers, the text itself otherwise.

    Unless `is_number` says that texts are numbers, integers of the same value, as 1 and 01, keep all of them texts.
    """
    texts = set(texts)
    matches = {text: INTEGER.fullmatch(text) for text in texts}
    if not all(matches.values()):
        return {text: text for text in texts}
    values = {text: int(match[1]) for text, match in matches.items()}
    merged = len(set(values.values())) < len(values)
    return values if is_number or not merged else {text: text for text in texts}


def _number(pictures: list[OwnPicture], faults: FileErrors, numeric: Collection[str]) -> tuple[list[Numbered], bool]:
    """The pictures with numbers, and whether cameras are known."""
    people = [picture for picture in pictures if not _is_junk(picture.pid, "pid" in numeric)]
    if junk := len(pictures) - len(people):
        logger.info("%d pictures with pid %d are junk, left out", junk, JUNK_PID)
    values = values_of((picture.pid for picture in people), is_number="pid" in numeric)
    _report_alike(values, "pid", "pid" in numeric)
    if junk and DISTRACTOR_PID in values.values():
        logger.warning(
            "pid %d counts as a person here; where it marks distractors, as in Market-1501's layout, read that with "
            "DATASETS.NAMES market1501 and DATASETS.CHECK_COUNTS False", DISTRACTOR_PID,
        )  # fmt: skip
    if any(isinstance(value, str) for value in values.values()):
        name = next((text for text in sorted(values) if not INTEGER.fullmatch(text)), None)
        why = "some differ as texts alone" if name is None else f"{name[:SHOWN_NAME]!r} is no number"
        values = dict(zip(sorted(values), range(len(values)), strict=True))
        logger.info("people numbered by name, since %s: %s", why, _quote(values))
    people = _without(
        people,
        {text for text, value in values.items() if not 0 <= value <= MAX_PID},
        "pid",
        f"expected a number from 0 to {MAX_PID}, {JUNK_PID} for junk, or names for all people",
        faults,
    )
    for key in ("camid", "viewid"):
        if any(getattr(picture, key) for picture in people):
            people = _without(people, {""}, key, "other pictures have one. Give it to all or to none", faults)
    cameras, views = (
        _compact({getattr(picture, key) for picture in people}, key, is_number=key in numeric)
        for key in ("camid", "viewid")
    )
    if len(cameras) == len(people) > 1:
        logger.warning(
            "each of the %d pictures has a camid of its own; the group of DATASETS.FOLDER.PATTERN, or the column "
            "camid, probably catches something else", len(people),
        )  # fmt: skip
    return [
        Numbered(
            ImageRecord(picture.path, values[picture.pid], cameras[picture.camid], views[picture.viewid]),
            picture.split,
            picture.pid,
        )
        for picture in people
    ], any(cameras)


def _is_junk(text: str, is_number: bool) -> bool:
    return JUNK.fullmatch(text) is not None or (is_number and values_of([text])[text] == JUNK_PID)


def _report_alike(texts: Iterable[str], key: str, is_number: bool) -> None:
    """Warns of names that are one number, or that may be meant as one: 1, 01, +1, 1.0; anna, Anna; forms of Unicode."""
    alike = defaultdict(list)
    for text in sorted(texts):
        alike[_plain(text)].append(text)
    groups = [" = ".join(repr(text[:SHOWN_NAME]) for text in group) for group in alike.values() if len(group) > 1]
    if not groups:
        return
    told = (
        "are the same number, since DATASETS.FOLDER.PATTERN reads digits there"
        if is_number
        else "count as different names; write them alike where they mean the same"
    )
    logger.warning("%s: %d names that are written in several ways %s: %s", key, len(groups), told, _quote(groups))


def _plain(text: str) -> str:
    """The same for texts that a reader may take for one name."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(character for character in plain if unicodedata.category(character) != "Cf").strip()
    match = SIGNED.fullmatch(plain)
    return str(int(match[1])) if match else plain


def _without(pictures: list[OwnPicture], unfit: set[str], key: str, expected: str, faults: FileErrors) -> list[OwnPicture]:
    """The pictures whose `key` is not `unfit`; `faults` takes up the others."""
    for picture in pictures:
        if (text := getattr(picture, key)) in unfit:
            faults.add(f"{picture.where}: {f'{key} {text[:SHOWN_NAME]}' if text else f'no {key}'}; {expected}")
    return [picture for picture in pictures if getattr(picture, key) not in unfit]


def _compact(texts: set[str], key: str, *, is_number: bool) -> dict[str, int]:
    """Text -> number from 0, in the order of the numbers or else of the texts."""
    values = values_of(texts, is_number=is_number)
    _report_alike(texts, key, is_number)
    number_of = {value: number for number, value in enumerate(sorted(set(values.values())))}
    quoted = _quote(number_of)
    if len(number_of) > MAX_CAMERAS:
        raise UserError(
            f"{len(number_of)} different values of {key}, numbered {quoted}; expected at most {MAX_CAMERAS}. The group "
            f"of DATASETS.FOLDER.PATTERN, or the column {key}, probably catches something else"
        )
    if texts != {""} and any(value != number for value, number in number_of.items()):
        logger.info("%s numbered from 0: %s", key, quoted)
    return {text: number_of[value] for text, value in values.items()}


def _quote(names: dict | Sequence) -> str:
    """The first names, with their numbers where they have some."""
    quoted = [
        f"{str(name)[:SHOWN_NAME]} -> {names[name]}" if isinstance(names, dict) else name
        for name in list(names)[:SHOWN]
    ]
    return ", ".join(quoted) + (", ..." if len(names) > SHOWN else "")


def _by_person(pictures: list[Numbered]) -> dict[int, list[Numbered]]:
    people = defaultdict(list)
    for picture in pictures:
        people[picture.record.pid].append(picture)
    return people


def _draw_people(
    pictures: list[Numbered], seed: int, train_share: float, left_out: str
) -> tuple[list[Numbered], list[Numbered]]:
    """Pictures of the people drawn for training, and of the others."""
    pids = sorted(_by_person(pictures))
    if len(pids) < 2:
        raise UserError(
            f"one person alone, {pictures[0].person}, in {len(pictures)} pictures: expected at least two, one to train "
            f"with and one to test with{left_out}"
        )
    number = min(max(round(train_share * len(pids)), 1), len(pids) - 1)
    order = derive_generator(seed, "own-data", "train").permutation(len(pids))
    chosen = {pids[index] for index in order[:number]}
    logger.info(
        "drawn with DATASETS.SPLIT.SEED %d: %d of %d people for training, %d for testing",
        seed, number, len(pids), len(pids) - number,
    )  # fmt: skip
    return (
        [picture for picture in pictures if picture.record.pid in chosen],
        [picture for picture in pictures if picture.record.pid not in chosen],
    )


def _draw_queries(
    pictures: list[Numbered], root: str, seed: int, has_cameras: bool, left_out: str
) -> tuple[list[Numbered], list[Numbered]]:
    """Queries that keep a match in the gallery, by another camera where cameras are known; and the gallery."""
    people = _by_person(pictures)
    drawn = {pid: _draw_queries_of(person, root, seed, has_cameras) for pid, person in people.items()}
    query = {path for paths in drawn.values() for path in paths}
    if not query:
        why = (
            "each is seen by one camera alone, and a match counts only if another camera took it. Leave camid out to "
            "search without cameras"
            if has_cameras
            else "each has one picture alone"
        )
        raise UserError(f"no query can be drawn from {len(pictures)} pictures of {len(people)} people: {why}{left_out}")
    logger.info(
        "drawn with DATASETS.SPLIT.SEED %d: %d queries of %d people; %d other people are in the gallery alone",
        seed, len(query), sum(map(bool, drawn.values())), sum(not paths for paths in drawn.values()),
    )  # fmt: skip
    return (
        [picture for picture in pictures if picture.record.path in query],
        [picture for picture in pictures if picture.record.path not in query],
    )


def _draw_queries_of(person: list[Numbered], root: str, seed: int, has_cameras: bool) -> list[str]:
    """Paths of one person's queries: one picture of every camera that has two, or else one of all, or none."""
    by_camera = defaultdict(list)
    # Whatever the order of listing, and wherever the root lies beside what a list names by its absolute path.
    for picture in sorted(person, key=lambda picture: picture.record.path.removeprefix(f"{root}/")):
        by_camera[picture.record.camid].append(picture.record.path)
    if len(person) < 2 or (has_cameras and len(by_camera) < 2):
        return []
    rng = derive_generator(seed, "own-data", "query", min(picture.person for picture in person))
    several = [paths for paths in by_camera.values() if len(paths) > 1]
    if not several:
        several = [[path for paths in by_camera.values() for path in paths]]
    return [paths[rng.integers(len(paths))] for paths in several]


def explain_missing(path: Path) -> str:
    """What is where `path` should be: the directory that is there, what it holds, and the nearest name."""
    above = next((place for place in path.parents if place.is_dir()), None)
    if path.exists():
        return f"{path} is a {'directory' if path.is_dir() else 'file'}"
    if above is None:
        return f"{path} does not exist"
    missing = path.relative_to(above).parts[0]
    names = sorted(entry.name for entry in above.iterdir() if not is_machine_made(entry.name))
    near = difflib.get_close_matches(missing, names, n=1)
    nearest = f"nearest: {near[0]}; " if near else ""
    return f"{path} does not exist; {nearest}{above} holds {_quote(names) or 'nothing'}"
