"""The one lock for what several processes, of this machine or of others, may write at the same time.

It is flock on a lock file, by way of the filelock package: over NFS it holds between machines as well (unless mounted
with nolock or local_lock), containers need no common process ids, and the kernel lets go of it however a process ends.
The lock file stays behind, empty: where it were removed, two processes could each hold a lock on a file of that name.
"""

import contextlib
import errno
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from utils.distributed import is_main
from utils.errors import UserError
from utils.files import PARTIAL, make_output_dir

logger = logging.getLogger(__name__)

LOCK = ".lock"  # name of the lock file in a directory that is locked as a whole
# How a file system says that it has no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def lock(path: Path, *, wait_for: str = "", busy: str = "") -> Iterator[bool]:
    """Holds the lock file `path`, which is made where there is none, never written to, and no link.

    Args:
        path: lock file.
        wait_for: the other process, as the log says it while it holds the lock and is waited for.
        busy: the error where it is not waited for.

    Yields:
        Whether the lock is held; False on a file system without locks. Only who holds it may remove what others left
        behind.

    Raises:
        UserError: another process holds it and there is no `wait_for`, or the file cannot be opened.
    """
    held = FileLock(path, thread_local=False, fallback_to_soft=False, poll_interval=0.1)
    try:
        try:
            held.acquire(timeout=0)
        except Timeout as error:
            if not wait_for:
                raise UserError(busy) from error
            logger.warning("waiting for %s", wait_for)
            held.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise UserError(
                f"lock file {path}: cannot be locked ({error.strerror or error}); expected a regular file, no link, "
                "that this user may write, or none. Remove it unless a run holds it"
            ) from error
        logger.warning("%s: its file system has no locks; let one process at a time write there", path.parent)
    try:
        yield held.is_locked
    finally:
        held.release()


@contextlib.contextmanager
def lock_output_dir(path: str | Path) -> Iterator[Path]:
    """Makes an output directory that no other run may write meanwhile, and removes what killed runs left half written.

    Of several processes that train one model, the first locks.

    Raises:
        UserError: another run does, or the directory cannot be made or written.
    """
    directory = make_output_dir(path)
    if not is_main():
        yield directory
        return
    busy = f"output directory {directory}: another run is writing to it; choose another OUTPUT_DIR, or wait for its end"
    with lock(directory / LOCK, busy=busy) as held:
        if held:
            _remove_leftovers(directory)
        yield directory


def _remove_leftovers(directory: Path) -> None:
    """Removes the half written files of `write_files` in an output directory and those one level below."""
    for path in (*directory.glob(".*.partial"), *directory.glob("*/.*.partial")):
        if re.fullmatch(PARTIAL, path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
            logger.info("removed %s, which a killed run left half written", path)
