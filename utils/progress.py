"""Progress of long tasks: one line, no wider than the terminal, and nothing where there is no terminal."""

import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from utils.distributed import is_main

MIN_BAR = 1  # characters of the bar, from which fields are left out
COLUMNS = 80  # of a terminal that does not tell


def fit(fields: Iterable[str], width: int) -> str:
    """The first of `fields`, with spaces between, that fit `width` characters."""
    shown = ""
    for field in fields:
        longer = f"{shown} {field}".strip()
        if len(longer) > width:
            break
        shown = longer
    return shown


class ProgressBar(tqdm):
    """A bar between a title and fields; in a narrow terminal the last fields are left out.

    It is drawn on stdout, where the log goes, so that `utils.logging` writes above it. It is not drawn by other
    processes than the first, where stdout is no terminal, or where TQDM_DISABLE is set (to other than 0).

    Args:
        title: stands first.
        total: of the work; None: not known.
        iterable: what is worked on; without it, call `update`.
        initial: work done before.
        leave: whether the line stays at the end.
        hidden: do not draw it.
    """

    monitor_interval = 0  # no thread beside the process: loaders fork

    def __init__(
        self,
        title: str,
        total: float | None = None,
        iterable: Iterable | None = None,
        *,
        initial: float = 0,
        leave: bool = False,
        hidden: bool = False,
    ) -> None:
        self.title = title
        self.fields: tuple[str, ...] = ()
        self.handler_is_ours = False
        hidden = hidden or not is_main() or os.environ.get("TQDM_DISABLE", "0") not in ("", "0")
        super().__init__(
            iterable,
            total=total,
            initial=initial,
            leave=leave,
            file=sys.stdout,
            disable=True if hidden else None,  # None: where there is no terminal
            dynamic_ncols=True,
            miniters=0,  # mininterval alone says when to draw
            smoothing=0,
            bar_format="{head} |{bar}| {tail}",
        )
        if self.is_drawn and threading.current_thread() is threading.main_thread():
            self._end_the_line_on_sigterm()

    @property
    def is_drawn(self) -> bool:
        return not self.disable

    @property
    def format_dict(self) -> dict[str, Any]:
        values = super().format_dict
        columns = values["ncols"] if (values["ncols"] or 0) > 0 else COLUMNS - 1
        room = columns - len(self.title) - len(" || ") - MIN_BAR
        tail = fit([self._duration(values), *self.fields], room)
        return {**values, "ncols": columns, "head": self.title, "tail": tail}

    def _duration(self, values: dict[str, Any]) -> str:
        """The time left as tqdm writes it, <12:30; at the end, and where no total is known, the time taken."""
        n, total, elapsed = values["n"], values["total"], values["elapsed"]
        if not total or n >= total:
            return self.format_interval(elapsed)
        done = n - values["initial"]
        return f"<{self.format_interval((total - n) * elapsed / done)}" if done > 0 else "<?"

    def display(self, *args: Any, **options: Any) -> bool | None:
        """Draws the line. A terminal of no rows does not tell how many it has."""
        rows: int | None = getattr(self, "nrows", None)
        self.nrows = rows if (rows or 0) > 0 else None
        return super().display(*args, **options)

    def show(self, *fields: str) -> None:
        """Sets the fields behind the time, the most important first."""
        self.fields = fields

    def close(self) -> None:
        super().close()
        if self.handler_is_ours:
            self.handler_is_ours = False
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _end_the_line_on_sigterm(self) -> None:
        """Where SIGTERM would end the process at once, it ends the line before, so that the prompt has its own."""
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        descriptor, process = self.fp.fileno(), os.getpid()

        def end(number: int, frame: object) -> None:
            if os.getpid() == process:  # not in a forked worker
                os.write(descriptor, b"\n")  # no lock, no buffer: the signal may come while a bar is written
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        signal.signal(signal.SIGTERM, end)
        self.handler_is_ours = True
