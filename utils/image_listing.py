"""Lists the images of a directory, for readers, validation, export, corrupted copies and --images.

Hidden entries (names that begin with a dot) and entries that programs leave among files (MACHINE_MADE and
_LEFT_BY_MACHINES) are skipped. The directory that a user names is read whatever its name is.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from utils.errors import UserError
from utils.files import in_kernel_directory

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2"),
    *(".ppm", ".pgm"),
)
# Names in lower case.
MACHINE_MADE = frozenset(
    [
        # storage systems: Synology, QNAP, Asustor, NetApp
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "@syno", "@synoeastream", "@synoresource"),
        *("@database", "@appstore", "@transcode", "#recycle", "#snapshot", "~snapshot"),
        # Windows, macOS
        *("$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db", "ehthumbs.db"),
        *("ehthumbs_vista.db", "desktop.ini", "__macosx", "network trash folder", "temporary items"),
        *("thevolumesettingsfolder", "icon\r"),
        # file systems, Python
        *("lost+found", "lost.dir", "__pycache__"),
    ]
)
# Snapshots and recovered files; locks and incomplete copies; backups; conflicting copies of a synchronisation
# (Syncthing, Dropbox, Nextcloud); Synology's thumbnails outside of @eaDir.
_LEFT_BY_MACHINES = re.compile(
    r"^(@gmt-\d{4}\.|found\.\d{3}$|trash-\d+$|~\$|~syncthing~|syno(file|photo)_thumb_)"
    r"|~$|\.(partial|part|filepart|crdownload|tmp)$"
    r"|\.sync-conflict-\d|\([^()]*conflicted copy|\(case conflict",
    re.ASCII | re.IGNORECASE,
)
SHOWN = 20  # names in a line of the log
# Bounds, far above any data set: depth of directories, number of entries, and how often links may lead to the same
# directory (directories that link to one another would be read forever).
MAX_DEPTH, MAX_ENTRIES, MAX_VISITS = 64, 5_000_000, 8


def is_machine_made(name: str) -> bool:
    """Whether an entry of this name is hidden or left by a program, and so skipped."""
    return name.startswith(".") or name.lower() in MACHINE_MADE or _LEFT_BY_MACHINES.search(name) is not None


def list_images(
    directory: str | Path,
    report: Callable[[str], None],
    *,
    suffixes: Iterable[str] = SUFFIXES,
    recursive: bool = True,
) -> Iterator[str]:
    """Yields the paths of the images in `directory`, relative to it, with forward slashes, sorted by name.

    The log counts what is skipped: hidden and machine-made entries by name, other files by suffix. Symbolic links are
    followed.

    Args:
        directory: where to look.
        report: called with the error message of an entry: a link in a loop, a directory that cannot be read or lies in
            /proc or /sys, an image name that is no file.
        suffixes: endings of image names, in lower case.
        recursive: whether to read the directories below, too.

    Raises:
        UserError: more than MAX_ENTRIES entries, or links that lead to one directory more than MAX_VISITS times.
    """
    listing = _Listing(report, tuple(suffixes), recursive)
    yield from listing.walk(os.fspath(directory), "", os.path.realpath(directory), ())
    listing.log(directory)


def image_paths(directory: str | Path) -> list[str]:
    """The paths of all images below `directory`, each with it in front, sorted by the part below it.

    This is the order of the features that FeatureExtractor gives for the directory, and of `test.py --images`.

    Raises:
        UserError: it is no directory, has no image, or an entry below it is no file or cannot be read.
    """
    check_directory(directory)
    errors: list[str] = []
    paths = [os.path.join(directory, path) for path in sorted(list_images(directory, errors.append))]
    if errors:
        more = f"\n{len(errors) - 1} more such" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{more}")
    if not paths:
        raise UserError(no_image_below(directory))
    return paths


def check_directory(directory: str | Path) -> None:
    """Raises UserError where a user named something else than a directory of images."""
    if not os.path.isdir(directory):
        found = "is a file" if os.path.exists(directory) else "does not exist"
        raise UserError(f"{str(directory)!r} {found}; expected a directory with images")


def no_image_below(directory: str | Path, note: str = "") -> str:
    """The message for a directory without images; `note` follows "no image below it"."""
    return f"{directory}: no image below it{note}; expected files that end in {', '.join(SUFFIXES)}"


class _Listing:
    """The state of one walk: counts of skipped entries and of visits."""

    def __init__(self, report: Callable[[str], None], suffixes: tuple[str, ...], recursive: bool) -> None:
        self.report, self.suffixes, self.recursive = report, suffixes, recursive
        self.machine_made: Counter[str] = Counter()  # by name
        self.others: Counter[str] = Counter()  # by suffix
        self.visits: Counter[str] = Counter()  # by path without links
        self.num_entries = 0

    def walk(self, place: str, prefix: str, real: str, above: tuple[str, ...]) -> Iterator[str]:
        """Images below `place`: `real` is its path without links, `prefix` its path below the listed directory."""
        if real in above:
            self.report(f"{place}: a symbolic link that leads back to {real}, a loop. Remove the link")
            return
        for entry in self._entries(place, real, len(above)):
            name = entry.name
            if is_machine_made(name):
                self.machine_made["._*" if name.startswith("._") else name] += 1
                continue
            try:
                is_directory = entry.is_dir()
            except OSError as error:  # a link to itself
                self.report(f"{entry.path}: cannot be read ({error.strerror}). Remove the link")
                continue
            if is_directory:
                if self.recursive:
                    below = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, name)
                    yield from self.walk(entry.path, f"{prefix}{name}/", below, (*above, real))
                else:
                    self.others["directories"] += 1
            elif not name.lower().endswith(self.suffixes):
                self.others[os.path.splitext(name)[1].lower() or "no suffix"] += 1
            elif entry.is_file():
                yield prefix + name
            else:
                self.report(f"{entry.path}: no file, or a link to none. Remove it")

    def _entries(self, place: str, real: str, depth: int) -> list[os.DirEntry]:
        """The entries of a directory, sorted by name; none where it cannot be read, which is reported."""
        self.visits[real] += 1
        if self.visits[real] > MAX_VISITS:
            raise UserError(
                f"{place}: symbolic links lead to {real} more than {MAX_VISITS} times; directories that are linked "
                "crosswise cannot be listed. Remove the links"
            )
        if in_kernel_directory(real):
            self.report(f"{place}: lies in {real}, where the kernel's files are and no images. Remove the link")
            return []
        if depth > MAX_DEPTH:
            self.report(f"{place}: more than {MAX_DEPTH} directories deep. Move its images up")
            return []
        try:
            with os.scandir(place) as found:
                entries = sorted(islice(found, MAX_ENTRIES - self.num_entries + 1), key=lambda entry: entry.name)
        except OSError as error:
            self.report(f"{place}: cannot be read ({error.strerror}). Mend its permissions, or remove it")
            return []
        self.num_entries += len(entries)
        if self.num_entries > MAX_ENTRIES:
            raise UserError(f"{place}: with it, more than {MAX_ENTRIES} entries were found; is it the right directory?")
        return entries

    def log(self, directory: str | Path) -> None:
        """Logs what was skipped."""
        if self.machine_made:
            names = sorted(self.machine_made)
            quoted = ", ".join(f"{self.machine_made[name]} {name}" for name in names[:SHOWN])
            more = f" and {len(names) - SHOWN} more names" if len(names) > SHOWN else ""
            logger.info("%s: skipped as hidden or machine-made: %s%s", directory, quoted, more)
        if self.others:
            kinds = ", ".join(f"{number} {suffix}" for suffix, number in sorted(self.others.items()))
            logger.info("%s: skipped %s; images end in %s", directory, kinds, ", ".join(sorted(self.suffixes)))
