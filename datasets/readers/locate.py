"""Finds the directory of a data set below DATASETS.ROOT_DIR."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from utils.errors import UserError, did_you_mean
from utils.image_listing import SUFFIXES, is_machine_made

logger = logging.getLogger(__name__)

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".rar", ".7z")
SHOWN = 10  # names that a message quotes
DEPTH = 3  # directory levels below DATASETS.ROOT_DIR down to which a data set is looked for by its content
MAX_DIRECTORIES = 20_000  # looked into in all, some seconds on a slow disk


def find_directory(
    root: str | Path,
    names: Sequence[str],
    inside: Sequence[str],
    *,
    title: str,
    download: str,
    fits: Callable[[Path], bool] = lambda directory: True,
) -> Path:
    """Finds a data set: the first of `names` below `root` that holds all of `inside`, else any directory that does.

    Args:
        root: DATASETS.ROOT_DIR.
        names: names that the directory may have.
        inside: names that it must hold.
        title: name of the data set, for messages.
        download: what to do where it is not found, a sentence.
        fits: whether a directory of another name that holds `inside` is the data set.

    Raises:
        PermissionError: a directory above `root` must not be entered.
        UserError: not found, or several have its content; the message names an archive that is not unpacked, and names
            in another case.
    """
    root = Path(root)
    for name in names:
        if holds(root / name, inside):
            return root / name
    if not os.path.isdir(root):
        why = f"{root} is a file" if _is_there(root) else f"the directory {root} does not exist"
        raise UserError(f"{title} not found: DATASETS.ROOT_DIR: {why}. {download}")
    if found := find_by_content(root, inside, title=title, name=names[0], fits=fits):
        return found
    _raise_if_explained(root, names, inside, title)
    incomplete = next((root / name for name in names if os.path.isdir(root / name)), None)
    if incomplete is not None:
        check_inside(incomplete, inside, title=title)
    others = list(_search(root, inside))
    other = f" {others[0]} holds {', '.join(inside)}, but the images of another data set." if others else ""
    places = " nor ".join(str(root / name) for name in names)
    neither = "neither " if len(names) > 1 else ""
    raise UserError(
        f"{title} not found: {neither}{places} {'exists' if neither else 'does not exist'}.{other}\n{download}"
    )


def find_by_content(
    root: Path,
    inside: Sequence[str],
    *,
    title: str,
    name: str,
    fits: Callable[[Path], bool] = lambda directory: True,
) -> Path | None:
    """Finds the directory, `root` or up to DEPTH levels below it, that holds all of `inside` and `fits`.

    Args:
        root, inside, title, fits: see find_directory.
        name: that the directory is expected to have, for messages.

    Returns:
        The directory, or None.

    Raises:
        UserError: several have this content.
    """
    found = {os.path.realpath(place): place for place in reversed(list(filter(fits, _search(root, inside))))}
    places = sorted(found.values())
    if len(places) > 1:
        raise UserError(
            f"{title}: several directories have its content: {', '.join(map(str, places[:SHOWN]))}. Set "
            f"DATASETS.ROOT_DIR to the one to read, or give it the name {root / name}"
        )
    if not places:
        return None
    logger.info("%s: found by its content in %s", title, places[0])
    return places[0]


def _search(root: Path, inside: Sequence[str]) -> Iterator[Path]:
    """Directories that hold all of `inside`, level by level; not below one of them, nor below one of images."""
    level, left = [root], MAX_DIRECTORIES
    for depth in range(DEPTH + 1):
        below = []
        for place in level[:left]:
            if holds(place, inside):
                yield place
            elif depth < DEPTH:
                below += _directories_in(place, with_images=depth == 0)
        level, left = below, max(left - len(level), 0)


def _directories_in(place: Path, *, with_images: bool) -> list[Path]:
    """Sorted; none of a directory that must not be read or, unless `with_images`, that holds images."""
    names = []
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if is_machine_made(entry.name):
                    continue
                if entry.is_dir():
                    names.append(entry.name)
                elif not with_images and entry.name.lower().endswith(SUFFIXES):
                    return []
    except OSError:
        return []
    return [place / name for name in sorted(names)]


def check_inside(directory: Path, inside: Sequence[str], *, title: str) -> None:
    """Raises UserError unless the directory holds all of `inside`."""
    if holds(directory, inside):
        return
    _raise_if_explained(directory.parent, (directory.name,), inside, title)
    missing = ", ".join(name for name in inside if not os.path.exists(directory / name))
    raise UserError(
        f"{title}: {directory}: {missing} missing; expected {', '.join(inside)}; it holds {content_of(directory)}. The "
        "archive is not fully unpacked, or this is another directory level"
    )


def _raise_if_explained(root: Path, names: Sequence[str], inside: Sequence[str], title: str) -> None:
    """Raises UserError where a name in another case, or an archive that is not unpacked, explains what is missing."""
    if reason := _another_case(root, names, inside) or _archive(root, names, inside):
        raise UserError(f"{title} not found: {reason}")


def explain_missing(path: Path) -> str:
    """What exists instead of `path`: the directory above it, its content, and the nearest name."""
    above = next((place for place in path.parents if place.is_dir()), None)
    if path.exists():
        return f"{path} is a {'directory' if path.is_dir() else 'file'}"
    if above is None:
        return f"{path} does not exist"
    missing = path.relative_to(above).parts[0]
    names = [name for name in _names_in(above) if not is_machine_made(name)]
    return f"{path} does not exist; {above} holds {_quote(names)}{did_you_mean(missing, names)}"


def holds(directory: Path, inside: Sequence[str]) -> bool:
    """Whether all of `inside` is in the directory; what must not be read counts as missing, as with os.path."""
    return os.path.isdir(directory) and all(os.path.exists(directory / name) for name in inside)


def _names_in(directory: Path) -> list[str]:
    """Sorted; none of a directory that does not exist or must not be read."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _is_there(path: Path) -> bool:
    """As os.path.exists, but PermissionError where a directory above must not be entered."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def content_of(directory: Path) -> str:
    """The first names in a directory, for a message."""
    return _quote(_names_in(directory))


def _quote(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") or "nothing"


def _another_case(root: Path, names: Sequence[str], inside: Sequence[str]) -> str:
    for place, wanted in [(root, names), *((root / name, inside) for name in names)]:
        lowered = {name.lower(): name for name in wanted if not os.path.exists(place / name)}
        for found in _names_in(place):
            if found.lower() in lowered and found not in wanted:
                return f"found {place / found}, expected {place / lowered[found.lower()]}: rename it"
    return ""


def _archive(root: Path, names: Sequence[str], inside: Sequence[str]) -> str:
    wanted = {_plain(name) for name in (*names, *inside)}
    for place in (root, *(root / name for name in names)):
        for name in _names_in(place):
            suffix = next((suffix for suffix in ARCHIVES if name.lower().endswith(suffix)), "")
            if suffix and _plain(name[: -len(suffix)]) in wanted and os.path.isfile(place / name):
                return f"found the archive {place / name}, which is not unpacked yet: unpack it into {place}/"
    return ""


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
