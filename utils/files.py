"""Writing files so that nothing written is lost: beside and renamed, with an earlier file kept under a number."""

import contextlib
import filecmp
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from utils.distributed import is_main
from utils.errors import UserError

MIB = 2**20
# File systems whose files are no data: the kernel makes their content up, without a size, while they are read.
_KERNEL_DIRECTORIES = ("/proc", "/sys")
# What a half written file is called, see `written_beside`; earlier versions put a process id in the middle.
PARTIAL = r"\..+\.([0-9a-f]{16}|\d+)\.partial"


def in_kernel_directory(real: str) -> bool:
    """Whether a path without links is, or lies in, one of the kernel's directories."""
    return f"{real}/".startswith(tuple(f"{directory}/" for directory in _KERNEL_DIRECTORIES))


@contextlib.contextmanager
def open_regular(path: str | Path, *, max_bytes: int) -> Iterator[BinaryIO]:
    """Opens a regular file of at most `max_bytes` for reading; every file that a user names is opened here.

    Never blocks: a FIFO without a writer, a terminal or a device is refused before a byte is read.

    Raises:
        UserError: no such file, not readable, not a regular file (FIFO, device, socket, directory), a file of /proc or
            /sys, or larger than `max_bytes`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{path}: cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    status = os.fstat(descriptor)
    # The kernel's files have no blocks; realpath, which looks at every directory, takes time.
    made_up = status.st_blocks == 0 and in_kernel_directory(os.path.realpath(path))
    if made_up or not stat.S_ISREG(status.st_mode):
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
        UserError: as of `open_regular`, or it could not be read.
    """
    with open_regular(path, max_bytes=max_bytes) as handle:
        try:
            return handle.read(max_bytes)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_text(path: str | Path, *, max_bytes: int) -> str:
    """Content of a regular UTF-8 file of at most `max_bytes`; a byte order mark is left out.

    Raises:
        UserError: as of `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text ({error}); save it as UTF-8") from error


def make_output_dir(path: str | Path) -> Path:
    """Creates `path` and proves that it can be written, before any work is done for it.

    Raises:
        UserError: the directory cannot be made or written.
    """
    directory = Path(path)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with written_beside(directory / "write-probe"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(
            f"output directory {path}: cannot be written ({getattr(error, 'strerror', None) or error}); "
            "choose another one or mend its permissions"
        ) from error
    return directory


def open_log(path: Path) -> TextIO:
    """Opens a log for appending; it is one of this directory, so no link, and never a FIFO that nobody reads.

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


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A new, empty file beside `path` to be written and renamed; what is left of it in the end is removed.

    Its name is random: process ids repeat in containers and on other machines, and no one can have put a link there.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def write_files(files: dict[Path, Callable[[Path], None]], *, replace: bool = False) -> list[Path]:
    """Writes files that belong together: each beside its place, and once all are whole, renames them.

    Where another file stands in a place already, those of all places are kept, under one free number. A link in a
    place is such a file itself: what it points to is not written. Of several processes that train one model, the first
    writes.

    Args:
        files: place -> function that writes the file given to it.
        replace: earlier files are not kept.

    Returns:
        The earlier files that were kept, under their new names.

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
            kept = _keep_previous(list(files)) if not replace and any(differs) else []
            for path, partial in partials.items():
                os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        names = ", ".join(map(str, files))
        raise UserError(f"{names}: could not be written ({error}); what was there before is not lost") from error
    return kept


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file whole or not at all; an earlier one with another content is kept under a number."""
    write_files({Path(path): lambda partial: partial.write_text(text, encoding="utf-8")})


def _keep_previous(paths: list[Path]) -> list[Path]:
    """Renames the files to <stem>.<n><suffix>, with the first n that is free for all of them."""
    for number in itertools.count(1):
        kept = {path: path.with_name(f"{path.stem}.{number}{path.suffix}") for path in paths}
        if not any(map(os.path.lexists, kept.values())):
            break
    existing = [path for path in paths if os.path.lexists(path)]
    for path in existing:
        os.rename(path, kept[path])
    return [kept[path] for path in existing]
