"""Lock files, for what several processes may write at the same time, also from different machines.

The lock is flock, through the filelock package. It holds between machines over NFS (unless mounted with nolock or
local_lock), containers need no common process ids, and the kernel releases it however a process ends. The empty lock
file is never removed: otherwise two processes could each hold a lock on a file of that name.
"""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

from utils.distributed import is_main
from utils.errors import UserError
from utils.files import make_output_dir, remove_leftovers

logger = logging.getLogger(__name__)

LOCK = ".lock"  # lock file of a directory that is locked as a whole
# Error numbers of a file system without locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def lock(path: Path, *, wait_for: str = "", busy: str = "") -> Iterator[bool]:
    """Holds the lock file `path`. The file is made where there is none; a link is refused; nothing is written to it.

    Args:
        path: lock file.
        wait_for: description of the other process, logged while this one waits for the lock.
        busy: error message for the case that another process holds the lock and this one does not wait.

    Yields:
        Whether the lock is held; False on a file system without locks. Only the holder may remove what others left
        behind.

    Raises:
        UserError: another process holds it and there is no `wait_for`, or the file cannot be opened.
    """
    from filelock import FileLock, Timeout  # takes longer to import than a command that needs no lock

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
    """Makes an output directory, locks it against other runs, and removes incomplete files of killed runs.

    In a distributed run, rank 0 locks.

    Raises:
        UserError: another run holds the lock, or the directory cannot be made or written.
    """
    directory = make_output_dir(path)
    if not is_main():
        yield directory
        return
    busy = f"output directory {directory}: another run is writing to it; choose another OUTPUT_DIR, or wait for its end"
    with lock(directory / LOCK, busy=busy) as held:
        if held:
            for place in (directory, *filter(Path.is_dir, directory.iterdir())):
                remove_leftovers(place)
        yield directory
