"""SIGTERM and Ctrl-C as a request to stop, so that work is saved first."""

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """`signal`: number of the first signal that came, 0 before it; `error`: what the process itself failed with."""

    def __init__(self) -> None:
        self.signal = 0
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Requests a stop because of an error, which the caller raises once the work is saved."""
        self.signal, self.error = self.signal or signal.SIGABRT, error

    @property
    def exit_status(self) -> int:
        """Exit status that a shell reports for a process ended by the signal."""
        return 128 + self.signal


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within it, SIGTERM and the first Ctrl-C are only noted; the caller checks for them between two steps.

    A second Ctrl-C ends the process at once. A second SIGTERM does not: torchrun sends more than one.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, frame: object) -> None:
        request.signal = request.signal or number
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
