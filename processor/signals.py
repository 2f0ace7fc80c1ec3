"""Being asked to stop (SIGTERM, Ctrl-C) in the middle of work that first wants to be saved."""

import contextlib
import signal
import threading
from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """`signal` is the number of the first that came, 0 before; `error` what made the process ask itself to stop."""

    def __init__(self) -> None:
        self.signal = 0
        self.error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Asks to stop because of an error, which is to be raised once the work is saved."""
        self.signal, self.error = self.signal or signal.SIGABRT, error

    @property
    def exit_status(self) -> int:
        """What a shell reports of a process that the signal ended."""
        return 128 + self.signal


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Within it, SIGTERM and the first Ctrl-C are only noted; whoever works looks at it between two steps.

    A second Ctrl-C acts at once. A second SIGTERM does not: torchrun sends more than one.
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
