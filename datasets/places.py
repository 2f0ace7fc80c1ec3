"""Where a data set lies: its directory below DATASETS.ROOT_DIR."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError

logger = logging.getLogger(__name__)

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".rar", ".7z")
SHOWN = 10  # names that a message quotes
DEPTH = 2  # directory levels below which a misplaced data set is looked for


def find_directory(root: str | Path, names: Sequence[str], inside: Sequence[str], *, title: str, download: str) -> Path:
    """The directory of a data set: the first of `names` below `root` that is there and holds all of `inside`.

    Args:
        root: DATASETS.ROOT_DIR.
        names: names that the directory may have.
        inside: what it must hold, relative to it.
        title: name of the data set, for messages.
        download: what to do where it is nowhere, a sentence.

    Raises:
        PermissionError: a directory above `root` must not be entered.
        UserError: not found. A wrong directory level, an archive that is not unpacked and a name in another case are
            recognised and told.
    """
    root = Path(root)
    for name in names:
        if holds(root / name, inside):
            return root / name
    places = " nor ".join(str(root / name) for name in names)
    expected = ", ".join(inside)
    if not os.path.isdir(root):
        why = f"{root} is a file" if _is_there(root) else f"the directory {root} does not exist"
        raise UserError(f"{title} not found: DATASETS.ROOT_DIR: {why}. {download}")
    for explain in (_wrong_level, _another_case, _archive):
        if told := explain(root, names, inside):
            raise UserError(f"{title} not found: {told}")
    there = next((root / name for name in names if os.path.isdir(root / name)), None)
    if there is not None:
        missing = ", ".join(name for name in inside if not os.path.exists(there / name))
        raise UserError(
            f"{title}: {there}: {missing} missing; expected {expected}; it holds {content_of(there)}. The archive is "
            "not fully unpacked, or this is another directory level"
        )
    neither = "neither " if len(names) > 1 else ""
    raise UserError(f"{title} not found: {neither}{places} {'exists' if neither else 'does not exist'}.\n{download}")


def holds(directory: Path, inside: Sequence[str]) -> bool:
    """Whether all of `inside` is in the directory; what must not be read counts as not there, as with os.path."""
    return os.path.isdir(directory) and all(os.path.exists(directory / name) for name in inside)


def _names_in(directory: Path) -> list[str]:
    """Sorted; none of a directory that is not there or must not be read."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _is_there(path: Path) -> bool:
    """As os.path.exists, but PermissionError where that cannot be told."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def content_of(directory: Path) -> str:
    """The first names in a directory, for a message."""
    names = _names_in(directory)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") or "nothing"


def _wrong_level(root: Path, names: Sequence[str], inside: Sequence[str]) -> str:
    if holds(root, inside):
        if root.resolve().name in names:
            return (
                f"DATASETS.ROOT_DIR {root} is the data set's own directory; expected the one above it: "
                f"DATASETS.ROOT_DIR {root.parent if root.name in names else root.resolve().parent}"
            )
        return f"its files lie in {root} itself; expected them in {root / names[0]}: make that directory and move them"
    for depth in range(1, DEPTH + 1):
        for found in sorted(root.glob("/".join("*" * depth))):
            if not holds(found, inside):
                continue
            if found.name in names:
                return f"it lies a level too deep, in {found}: set DATASETS.ROOT_DIR {found.parent}"
            if found.parent.name in names and found.parent.parent == root:
                return f"it lies a level too deep, in {found}; expected its content in {found.parent}: move it up"
    return ""


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
