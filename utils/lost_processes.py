"""Names the process that ended first when a distributed run fails.

When one process ends, the others fail in their next collective with an error that does not say why. Each process
therefore records in torch's key-value store where it runs and, if it fails, with which error; the others look there
and report that process instead of their own error.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from torch import distributed

from utils.errors import UserError

logger = logging.getLogger(__name__)

WAIT_SECONDS = 5.0  # that a process waits for another one's record after a collective has failed


class LostProcessWatch:
    """Reports errors of this process to the others, and finds out which of the others ended.

    Keys in the store: "place/<rank>" process id and host name of every process; "ended/<rank>" the error that ended it.

    Args:
        store: key-value store that all processes share.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, store: distributed.Store, rank: int, world_size: int) -> None:
        self.store, self.rank, self.world_size = store, rank, world_size
        store.set(f"place/{rank}", f"{os.getpid()} {socket.gethostname()}")

    @contextlib.contextmanager
    def report_errors(self) -> Iterator[None]:
        """Records an exception of the block in the store, unless another process ended first.

        A failed collective, or SIGTERM, which torchrun sends to the remaining processes, usually means that another
        process ended.

        Raises:
            UserError: names the other process that ended; without one, the exception of the block goes on.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            yield
        except BaseException as error:
            in_collective = isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
            lost = ""
            if in_collective or isinstance(error, SystemExit):
                lost = self._find_lost(WAIT_SECONDS if in_collective else 0)
            if lost:
                raise UserError(lost) from error
            with contextlib.suppress(RuntimeError):  # rank 0, which holds the store, has ended
                self.store.set(f"ended/{self.rank}", first_line(error))
            if not isinstance(error, SystemExit):
                known = isinstance(error, ValueError | KeyboardInterrupt)  # the message says all
                logger.error("process %d: %s", self.rank, first_line(error), exc_info=not known)
            raise

    def _find_lost(self, seconds: float) -> str:
        """A message about the process that ended, looked for during `seconds`; "" where there is none.

        With `seconds` above 0 it is certain that one ended, so the message is never "".
        """
        deadline = time.monotonic() + seconds
        try:
            while True:
                for number in range(self.world_size):
                    message = self._describe_end(number) if number != self.rank else ""
                    if message:
                        return message
                if time.monotonic() > deadline:
                    return "another process does not answer; look at the logs of all of them" if seconds else ""
                time.sleep(0.1)
        except RuntimeError:  # the store does not answer
            return "process 0, at MASTER_ADDR, does not answer; its log is log.txt in OUTPUT_DIR"

    def _describe_end(self, number: int) -> str:
        """How process `number` ended; "" while it runs."""
        log = "log.txt" if number == 0 else f"log_rank{number}.txt"
        if self.store.check([f"ended/{number}"]):
            reason = self.store.get(f"ended/{number}").decode()
            return f"process {number} ended with an error: {reason}; its log is {log} in OUTPUT_DIR"
        if not self._is_running(number):
            return (
                f"process {number} was killed, perhaps for lack of memory; its log is {log} in OUTPUT_DIR, where it "
                "had one, and what it printed is with torchrun's output"
            )
        return ""

    def _is_running(self, number: int) -> bool:
        """Whether process `number` runs. On other machines that cannot be seen, and it is assumed."""
        pid, host = self.store.get(f"place/{number}").decode().split(" ", 1)
        if host != socket.gethostname():
            return True
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return not Path("/proc/self").exists()
        return status.rpartition(")")[2].split()[0] not in "ZX"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
