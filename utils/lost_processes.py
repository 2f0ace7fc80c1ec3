"""Which of several processes ended, for the last line of those that are left."""

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

SIGN_SECONDS = 5.0  # that survivors wait for a sign of which process ended


class Roll:
    """Who of the processes is there, so that those that are left can say which one ended."""

    def __init__(self, store: distributed.Store, rank: int, world_size: int) -> None:
        self.store, self.rank, self.world_size = store, rank, world_size
        store.set(f"place/{rank}", f"{os.getpid()} {socket.gethostname()}")

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Within it, an error is told to the others, and an error of talking to them is one that names who ended.

        torchrun sends SIGTERM to those that are left.
        """
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            yield
        except BaseException as error:
            is_talk = isinstance(error, distributed.DistError) or "gloo" in str(error).lower()
            lost = self._find_lost(is_talk) if is_talk or isinstance(error, SystemExit) else ""
            if lost:
                raise UserError(lost) from error
            with contextlib.suppress(RuntimeError):  # the store is gone: it was the first process that ended
                self.store.set(f"ended/{self.rank}", first_line(error))
            if not isinstance(error, SystemExit):
                known = isinstance(error, ValueError | KeyboardInterrupt)  # whose message says all
                logger.error("process %d: %s", self.rank, first_line(error), exc_info=not known)
            raise

    def _find_lost(self, certain: bool) -> str:
        """Which process ended, waiting a few seconds for a sign where it is `certain` that one did; "" for none."""
        others = [number for number in range(self.world_size) if number != self.rank]
        deadline = time.monotonic() + (SIGN_SECONDS if certain else 0)
        try:
            while True:
                for number in others:
                    log = "log.txt" if number == 0 else f"log_rank{number}.txt"
                    if self.store.check([f"ended/{number}"]):
                        reason = self.store.get(f"ended/{number}").decode()
                        return f"process {number} ended with an error: {reason}; its log is {log} in OUTPUT_DIR"
                    if not self._is_running(number):
                        return (
                            f"process {number} was killed, perhaps for lack of memory; its log is {log} in OUTPUT_DIR, "
                            "where it had one, and what it printed is with torchrun's output"
                        )
                if time.monotonic() > deadline:
                    return "another process does not answer; look at the logs of all of them" if certain else ""
                time.sleep(0.1)
        except RuntimeError:
            return "process 0, at MASTER_ADDR, does not answer; its log is log.txt in OUTPUT_DIR"

    def _is_running(self, number: int) -> bool:
        """Whether a process of this machine is there; those of others are taken to be."""
        pid, host = self.store.get(f"place/{number}").decode().split(" ", 1)
        if host != socket.gethostname():
            return True
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return not Path("/proc/self").exists()
        return status.rpartition(")")[2].split()[0] not in "ZX"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
