"""Numbers for the identities, cameras and viewpoints of custom data, whatever names they have.

Names are text: 1 and 01 are two identities, unless a pattern of digits says that they are numbers. Where all are
integers, no two of the same value, the integers stay.
"""

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from datasets.readers.file_errors import FileErrors
from datasets.readers.validation import DISTRACTOR_PID, MAX_CAMERAS, MAX_PID
from utils.errors import UserError
from utils.structures import JUNK_PID, ImageRecord

logger = logging.getLogger(__name__)

INTEGER = re.compile(r"(-?[0-9]{1,1000})(\.0+)?")  # int() may refuse longer ones; pandas writes 7.0 beside gaps
SIGNED = re.compile(r"([+-]?[0-9]{1,1000})(\.0+)?")
JUNK = re.compile(rf"{JUNK_PID}(\.0+)?")
SHOWN, SHOWN_NAME = 10, 60  # names that a message quotes, and their characters


class CustomImage(NamedTuple):
    """An image as its name or its row describes it.

    Attributes:
        path: of the file.
        split: train, query, gallery, or custom.TEST or ALL.
        pid, camid, viewid: as written; "" where there is none.
        where: the file or the row, for messages.
    """

    path: str
    split: str
    pid: str
    camid: str
    viewid: str
    where: str


class Numbered(NamedTuple):
    """An image with numbers; `name` is the pid as written."""

    record: ImageRecord
    split: str
    name: str


def number_images(
    images: list[CustomImage], errors: FileErrors, numeric: Collection[str]
) -> tuple[list[Numbered], bool, dict[int, str]]:
    """Numbers identities, cameras and viewpoints over all splits together; junk (pid -1) is dropped.

    Args:
        images: all of the data set.
        errors: collects images that cannot be numbered.
        numeric: those of pid, camid and viewid that are numbers however they are written: 1 and 01 are the same.

    Returns:
        The images, whether cameras are known, and pid -> name; {} where the names are numbers.

    Raises:
        UserError: too many cameras or viewpoints.
    """
    counted = [image for image in images if not _is_junk(image.pid, "pid" in numeric)]
    num_junk = len(images) - len(counted)
    if num_junk:
        logger.info("%d images with pid %d are junk, left out", num_junk, JUNK_PID)
    texts = {image.pid for image in counted}
    integers = to_integers(texts, is_number="pid" in numeric)
    _report_alike(texts, "pid", "pid" in numeric)
    if num_junk and integers and DISTRACTOR_PID in integers.values():
        logger.warning(
            "pid %d counts as an identity here; where it marks distractors, as in Market-1501's layout, read that with "
            "DATASETS.NAMES market1501 and DATASETS.CHECK_COUNTS False",
            DISTRACTOR_PID,
        )
    pids = _number_names(texts) if integers is None else integers
    expected = f"expected a number from 0 to {MAX_PID}, {JUNK_PID} for junk, or names for all identities"
    wrong = {text for text, pid in pids.items() if not 0 <= pid <= MAX_PID}
    counted = _without(counted, wrong, "pid", expected, errors)
    for key in ("camid", "viewid"):
        if any(getattr(image, key) for image in counted):
            counted = _without(counted, {""}, key, "other images have one. Give it to all or to none", errors)
    cameras, views = (
        _number_compactly({getattr(image, key) for image in counted}, key, is_number=key in numeric)
        for key in ("camid", "viewid")
    )
    if len(cameras) == len(counted) > 1:
        logger.warning(
            "each of the %d images has a camid of its own; the group of DATASETS.FOLDER.PATTERN, or the column camid, "
            "probably matches something else",
            len(counted),
        )
    numbered = [
        Numbered(
            ImageRecord(image.path, pids[image.pid], cameras[image.camid], views[image.viewid]), image.split, image.pid
        )
        for image in counted
    ]
    names = {} if integers is not None else {pid: text for text, pid in pids.items()}
    return numbered, any(cameras), names


def to_integers(texts: Iterable[str], *, is_number: bool = False) -> dict[str, int] | None:
    """text -> integer; None unless all are integers, and, unless `is_number`, no two of the same value, as 1 and 01."""
    values = {}
    for text in set(texts):
        match = INTEGER.fullmatch(text)
        if match is None:
            return None
        values[text] = int(match[1])
    return values if is_number or len(set(values.values())) == len(values) else None


def _is_junk(text: str, is_number: bool) -> bool:
    return JUNK.fullmatch(text) is not None or (is_number and to_integers([text]) == {text: JUNK_PID})


def _number_names(names: set[str]) -> dict[str, int]:
    """name -> number from 0, in their order."""
    text = next((name for name in sorted(names) if not INTEGER.fullmatch(name)), None)
    why = "some differ as texts alone" if text is None else f"{text[:SHOWN_NAME]!r} is no number"
    numbers = dict(zip(sorted(names), range(len(names)), strict=True))
    logger.info("identities numbered by name, since %s: %s", why, quote(numbers))
    return numbers


def _number_compactly(texts: set[str], key: str, *, is_number: bool) -> dict[str, int]:
    """text -> number from 0, in the order of the integers or else of the texts."""
    _report_alike(texts, key, is_number)
    values: Mapping[str, int | str] = to_integers(texts, is_number=is_number) or {text: text for text in texts}
    ordered: list[int | str] = sorted(set(values.values()))  # type: ignore[type-var]  # all int or all str
    number_of = {value: number for number, value in enumerate(ordered)}
    quoted = quote(number_of)
    if len(number_of) > MAX_CAMERAS:
        raise UserError(
            f"{len(number_of)} different values of {key}, numbered {quoted}; expected at most {MAX_CAMERAS}. The group "
            f"of DATASETS.FOLDER.PATTERN, or the column {key}, probably matches something else"
        )
    if texts != {""} and any(value != number for value, number in number_of.items()):
        logger.info("%s numbered from 0: %s", key, quoted)
    return {text: number_of[value] for text, value in values.items()}


def _report_alike(texts: Iterable[str], key: str, is_number: bool) -> None:
    """Warns of names that are, or may be meant as, one: 1, 01, +1, 1.0; anna, Anna; Unicode forms of one name."""
    alike = defaultdict(list)
    for text in sorted(texts):
        alike[_normalize(text)].append(text)
    groups = [" = ".join(repr(text[:SHOWN_NAME]) for text in group) for group in alike.values() if len(group) > 1]
    if groups:
        effect = (
            "are the same number, since DATASETS.FOLDER.PATTERN reads digits there"
            if is_number
            else "count as different names; write them alike where they mean the same"
        )
        logger.warning("%s: %d names that are written in several ways %s: %s", key, len(groups), effect, quote(groups))


def _normalize(text: str) -> str:
    """Equal for texts that may be read as one name."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    plain = "".join(character for character in plain if unicodedata.category(character) != "Cf").strip()
    match = SIGNED.fullmatch(plain)
    return str(int(match[1])) if match else plain


def _without(
    images: list[CustomImage], wrong: set[str], key: str, expected: str, errors: FileErrors
) -> list[CustomImage]:
    """The images whose `key` is not among `wrong`; the others become errors."""
    for image in images:
        if (text := getattr(image, key)) in wrong:
            errors.add(f"{image.where}: {f'{key} {text[:SHOWN_NAME]}' if text else f'no {key}'}; {expected}")
    return [image for image in images if getattr(image, key) not in wrong]


def quote(names: Mapping | Sequence[str]) -> str:
    """The first names, with their numbers where they have some."""
    quoted = [
        f"{str(name)[:SHOWN_NAME]} -> {names[name]}" if isinstance(names, Mapping) else name
        for name in list(names)[:SHOWN]
    ]
    return ", ".join(quoted) + (", ..." if len(names) > SHOWN else "")
