"""Which entries of a directory are images: one listing for readers, validation, export, corrupted copies and --images.

Passed over, whatever they hold, are hidden entries (a name that begins with a dot) and what machines leave among files:
MACHINE_MADE, and names that `_LEFT_BY_MACHINES` matches. The directory that a user names is read whatever its name.
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

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2",
            ".ppm", ".pgm")  # fmt: skip
# Whole names, in any case: storage systems (Synology, QNAP, Asustor, NetApp), Windows, macOS, file systems, Python.
MACHINE_MADE = frozenset(
    ("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@sharebin", "@syno", "@synoeastream", "@synoresource",
     "@database", "@appstore", "@transcode", "#recycle", "#snapshot", "~snapshot",
     "$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db", "ehthumbs.db",
     "ehthumbs_vista.db", "desktop.ini", "__macosx", "network trash folder", "temporary items",
     "thevolumesettingsfolder", "icon\r", "lost+found", "lost.dir", "__pycache__")
)  # fmt: skip
# Snapshots and rescued files; locks and unfinished copies; backups; copies that a synchronisation could not merge
# (Syncthing, Dropbox, Nextcloud); Synology's thumbnails outside of @eaDir.
_LEFT_BY_MACHINES = re.compile(
    r"^(@gmt-\d{4}\.|found\.\d{3}$|trash-\d+$|~\$|~syncthing~|syno(file|photo)_thumb_)"
    r"|~$|\.(partial|part|filepart|crdownload|tmp)$"
    r"|\.sync-conflict-\d|\([^()]*conflicted copy|\(case conflict",
    re.ASCII | re.IGNORECASE,
)
SHOWN = 20  # names that the log quotes
# Bounds, far above those of any data set: depth of directories, entries in all, and how often links may lead to the
# same directory, beyond which directories that are linked crosswise would be read without end.
MAX_DEPTH, MAX_ENTRIES, MAX_VISITS = 64, 5_000_000, 8


def is_machine_made(name: str) -> bool:
    """Whether an entry of this name is hidden or left by a machine, and passed over."""
    return name.startswith(".") or name.lower() in MACHINE_MADE or _LEFT_BY_MACHINES.search(name) is not None


def list_images(
    directory: str | Path,
    report: Callable[[str], None],
    *,
    suffixes: Iterable[str] = SUFFIXES,
    recursive: bool = True,
) -> Iterator[str]:
    """Paths of the images in `directory`, relative to it, with forward slashes, in the order of their names.

    What is passed over is counted in the log: hidden and machine-made entries by name, other files by suffix. Symbolic
    links are followed.

    Args:
        directory: where to look.
        report: takes the errors of single entries: links in loops, directories that cannot be read or lie in /proc or
            /sys, and names of images that are no files.
        suffixes: what the names of images end in, in lower case.
        recursive: also below it.

    Raises:
        UserError: more than MAX_ENTRIES entries, or links that lead to one directory more than MAX_VISITS times.
    """
    listing = _Listing(report, tuple(suffixes), recursive)
    yield from listing.walk(os.fspath(directory), "", os.path.realpath(directory), ())
    listing.log(directory)


class _Listing:
    def __init__(self, report: Callable[[str], None], suffixes: tuple[str, ...], recursive: bool) -> None:
        self.report, self.suffixes, self.recursive = report, suffixes, recursive
        self.passed_over, self.others, self.visits = Counter(), Counter(), Counter()
        self.num_entries = 0

    def walk(self, place: str, prefix: str, real: str, above: tuple[str, ...]) -> Iterator[str]:
        """Images below `place`, whose path is `real` without links and `prefix` below the directory that is listed."""
        if real in above:
            self.report(f"{place}: a symbolic link that leads back to {real}, a loop. Remove the link")
            return
        for entry in self._entries(place, real, len(above)):
            name = entry.name
            if is_machine_made(name):
                self.passed_over["._*" if name.startswith("._") else name] += 1
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
        """Sorted by name; none, and a report, where the directory cannot be read."""
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
        if self.passed_over:
            names = sorted(self.passed_over)
            quoted = ", ".join(f"{self.passed_over[name]} {name}" for name in names[:SHOWN])
            more = f" and {len(names) - SHOWN} more names" if len(names) > SHOWN else ""
            logger.info("%s: passed over as hidden or machine-made: %s%s", directory, quoted, more)
        if self.others:
            kinds = ", ".join(f"{number} {suffix}" for suffix, number in sorted(self.others.items()))
            logger.info("%s: passed over %s; images end in %s", directory, kinds, ", ".join(sorted(self.suffixes)))
