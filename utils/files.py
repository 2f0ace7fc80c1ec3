"""Writing files so that nothing written is lost: beside and renamed, with an earlier file kept under a number."""

import os
from collections.abc import Callable
from pathlib import Path

from utils.errors import UserError


def make_output_dir(path: str | Path) -> Path:
    """Creates `path` and proves that it can be written, before any work is done for it.

    Raises:
        UserError: the directory cannot be made or written.
    """
    directory = Path(path)
    probe = directory / f".write-probe-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"OUTPUT_DIR {path}: cannot be written ({error.strerror or error}); "
            "choose another one, e.g. OUTPUT_DIR logs/my-run, or mend its permissions"
        ) from error
    return directory


def write_atomically(path: str | Path, write: Callable[[Path], None]) -> None:
    """Calls `write` on a file beside `path`, then renames it; a failure leaves `path` as it was.

    Raises:
        UserError: the file could not be written (full disk, no permission).
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        try:
            write(partial)
            with partial.open("rb") as handle:
                os.fsync(handle.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise UserError(f"{path}: could not be written ({error}); an earlier file of that name is untouched") from error


def keep_previous(path: str | Path) -> Path | None:
    """Renames an existing `path` to the first free `<stem>.<n><suffix>` and returns that; None if there was no file."""
    path = Path(path)
    if not path.exists():
        return None
    number = 1
    while (kept := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    os.rename(path, kept)
    return kept


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically; an earlier file with another content is kept under a number."""
    path = Path(path)
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
        keep_previous(path)
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
