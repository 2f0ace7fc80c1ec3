"""Files that users name and files that runs write.

Reading is bounded: `open_regular` refuses directories, devices and files that are too large. Writing is atomic: a file
is written beside its place and renamed, and an earlier file with other content is backed up as NAME.1, NAME.2, ...
Lock files are in utils.locks.
"""

import contextlib
import filecmp
import itertools
import json
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO

from utils.distributed import is_main
from utils.errors import UserError

logger = logging.getLogger(__name__)

MIB = 2**20
# The kernel makes up the content of these files while they are read; they have no size.
_KERNEL_DIRECTORIES = ("/proc", "/sys")
# Name of a file or directory that is not yet complete, see `written_beside`. Earlier versions had a process id in it.
PARTIAL = r"\..+\.([0-9a-f]{16}|\d+)\.partial"
_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def expand_path(path: str, where: str) -> str:
    """Expands ~, ~USER, $NAME and ${NAME} in a path that a user wrote.

    The path of an existing file whose name contains a dollar sign is returned as it is.

    Args:
        path: a path; "" stays "".
        where: key or argument, for the message.

    Raises:
        UserError: an environment variable is not set or empty, a user has no home directory, or the path holds a NUL.
    """
    if "\0" in path:
        raise UserError(f"{where}: found {path!r:.80}, which holds a NUL; no path has one")

    def value(match: re.Match) -> str:
        name = match[1] if match[1] is not None else match[2]
        if not os.environ.get(name):
            raise UserError(
                f"{where}: found {path!r}, and the environment variable {name or '${}'} is not set; set it, or write "
                "the path out"
            )
        return os.environ[name]

    expanded = path if "$" in path and os.path.lexists(path) else _VARIABLE.sub(value, path)
    home = os.path.expanduser(expanded)
    if home.startswith("~") and not os.path.lexists(home):
        raise UserError(
            f"{where}: found {path!r}, and {home.split('/')[0]} has no home directory; write the path out, or begin it "
            "with ./ where the name begins with ~"
        )
    return home


def in_kernel_directory(real: str) -> bool:
    """Whether a path without links is /proc or /sys, or lies in one of them."""
    return f"{real}/".startswith(tuple(f"{directory}/" for directory in _KERNEL_DIRECTORIES))


@contextlib.contextmanager
def open_regular(path: str | Path, *, max_bytes: int) -> Iterator[BinaryIO]:
    """Opens a regular file of at most `max_bytes` for reading. Every file that a user names is opened here.

    It never blocks: a FIFO without a writer, a terminal or a device is refused before a byte is read.

    Raises:
        UserError: no such file, no permission, no regular file (FIFO, device, socket, directory), a file of /proc or
            /sys, or more than `max_bytes`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    status = os.fstat(descriptor)
    # Only files without blocks can be the kernel's; realpath looks at every directory and is slow.
    of_kernel = status.st_blocks == 0 and in_kernel_directory(os.path.realpath(path))
    if of_kernel or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UserError(f"{path}: is no regular file; expected one (no directory, FIFO, device, file of /proc)")
    with open(descriptor, "rb") as handle:
        if status.st_size > max_bytes:
            raise UserError(
                f"{path}: has {status.st_size / MIB:.1f} MiB, expected at most {max_bytes / MIB:.1f}; "
                "is it the right file?"
            )
        yield handle


def read_bytes(path: str | Path, *, max_bytes: int) -> bytes:
    """Content of a regular file of at most `max_bytes`.

    Raises:
        UserError: see `open_regular`; or reading failed.
    """
    with open_regular(path, max_bytes=max_bytes) as handle:
        try:
            return handle.read(max_bytes)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_text(path: str | Path, *, max_bytes: int) -> str:
    """Content of a regular UTF-8 file of at most `max_bytes`, without a byte order mark.

    Raises:
        UserError: see `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from error


def read_json_object(path: str | Path, *, max_bytes: int) -> dict[str, Any]:
    """The object in a JSON file of at most `max_bytes`.

    Raises:
        UserError: see `read_text`; or it is not JSON, nested too deep, has a number of thousands of digits, or holds
            another value than an object.
    """
    text = read_text(path, max_bytes=max_bytes)
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise UserError(f"{path}: cannot be read (nested too deep); expected a JSON object") from error
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({str(error)[:200]}); expected a JSON object") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: cannot be read (a JSON {type(content).__name__}); expected a JSON object")
    return content


def make_output_dir(path: str | Path) -> Path:
    """Creates the directory `path` and writes a test file, before any work is done for it.

    Raises:
        UserError: the directory cannot be made or written.
    """
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with written_beside(directory / "write-probe"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file has this name" if in_the_way else getattr(error, "strerror", None) or error
        advice = "choose another one" + ("" if in_the_way else " or mend its permissions")
        raise UserError(f"output directory {path}: cannot be written ({reason}); {advice}") from error
    return directory


def open_log(path: Path) -> TextIOWrapper:
    """Opens a log file for appending. A link or a FIFO in its place is refused.

    Raises:
        UserError: it is no regular file, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError("neither a regular file nor free")
    except OSError as error:
        found = "is a link" if path.is_symlink() else f"cannot be written ({error.strerror or error})"
        raise UserError(
            f"{path}: {found}; expected a regular file, or none; remove it, or choose another OUTPUT_DIR"
        ) from error
    return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def _partial_path(path: Path) -> Path:
    """A hidden name beside `path`. It is random: process ids repeat in containers and on other machines."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Makes an empty file beside `path`, to be written and renamed, and removes it at the end if it is still there."""
    partial = _partial_path(path)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def directory_written_beside(path: Path) -> Iterator[Path]:
    """Makes an empty directory beside `path`, renames it to `path` at the end, and removes it after an exception."""
    partial = _partial_path(path)
    partial.mkdir()
    try:
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_leftovers(directory: Path, *, name: str = "*", trees: bool = False) -> None:
    """Removes incomplete files that killed processes left in `directory`. Call it only while you hold the lock.

    Args:
        directory: where to look.
        name: glob pattern of the names that the files would have got.
        trees: also removes directories, see `directory_written_beside`.
    """
    for path in directory.glob(f".{name}.*.partial"):
        if not re.fullmatch(PARTIAL, path.name):
            continue
        if not path.is_dir():
            path.unlink(missing_ok=True)
        elif trees:
            shutil.rmtree(path)
        else:
            continue
        logger.info("removed %s, incomplete, of a killed run", path)


def write_files(files: dict[Path, Callable[[Path], object]], *, replace: bool = False) -> list[Path]:
    """Writes files that belong together: writes all of them beside their places, then renames them.

    Where a file in one of the places has other content, the files in all places are backed up under one free number.
    A link in a place is such a file itself; what it points to is not touched. In a distributed run only rank 0 writes.

    Args:
        files: path -> function that writes the file whose path it is given.
        replace: earlier files are overwritten, not backed up.

    Returns:
        The backups.

    Raises:
        UserError: a file could not be written (full disk, no permission); every earlier file is untouched.
    """
    if not is_main():
        return []
    directory = next((path for path in files if path.is_dir()), None)
    if directory is not None:
        raise UserError(f"{directory}: is a directory; expected a file, or nothing there. Choose another name")
    try:
        with contextlib.ExitStack() as stack:
            partials = {path: stack.enter_context(written_beside(path)) for path in files}
            for path, write in files.items():
                write(partials[path])
                with partials[path].open("rb") as handle:
                    os.fsync(handle.fileno())
            differs = (path.exists() and not filecmp.cmp(path, partials[path], shallow=False) for path in files)
            backups = _back_up(list(files)) if not replace and any(differs) else []
            for path, partial in partials.items():
                os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        names = ", ".join(map(str, files))
        raise UserError(f"{names}: could not be written ({error}); what was there before is not lost") from error
    return backups


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file, see `write_files`; an earlier one with other content is backed up."""
    write_files({Path(path): lambda partial: partial.write_text(text, encoding="utf-8")})


def _back_up(paths: list[Path]) -> list[Path]:
    """Renames the files to <stem>.<n><suffix>, with the first n that is free for all of them."""
    for number in itertools.count(1):
        backups = {path: path.with_name(f"{path.stem}.{number}{path.suffix}") for path in paths}
        if not any(map(os.path.lexists, backups.values())):
            break
    existing = [path for path in paths if os.path.lexists(path)]
    for path in existing:
        os.rename(path, backups[path])
    return [backups[path] for path in existing]
