"""Log handlers, in one place: everything else only calls logging.getLogger(__name__)."""

import logging
import logging.handlers
import sys
from pathlib import Path
from typing import TextIO

from utils.distributed import is_main, rank
from utils.files import open_log
from utils.text import printable_lines

FORMAT = "%(asctime)s %(levelname)s %(message)s"
MAX_WAITING = 10_000  # records kept until the directory is known


class _Formatter(logging.Formatter):
    """Makes every record printable: whatever a file name or a field holds, a line of the log is the project's own."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


class _LogFile(logging.FileHandler):
    """log.txt. Where the disk is full, that is said once, and the work goes on without it."""

    failed = False

    def _open(self) -> TextIO:
        return open_log(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            print(f"{printable_lines(self.baseFilename)}: cannot be written ({sys.exc_info()[1]})", file=sys.stderr)

    def close(self) -> None:
        try:
            super().close()
        except OSError:  # what is still to be written has no place
            self.handleError(None)


def setup_logging(output_dir: Path | None = None) -> None:
    """Sends the project's log to stdout and, from a second call on, to output_dir/log.txt, which is appended to.

    What is logged before the directory is known waits in memory and goes to the file too. Of several processes that
    train one model, the first logs, the others only errors, each to a log_rank<number>.txt of its own.

    Raises:
        UserError: log.txt cannot be opened.
    """
    root = logging.getLogger()
    main = is_main()
    waiting = []
    for handler in [handler for handler in root.handlers if getattr(handler, "of_project", False)]:
        waiting += getattr(handler, "buffer", [])
        root.removeHandler(handler)
        handler.close()
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(_Formatter(FORMAT, "%H:%M:%S"))
    if output_dir is None:
        other: logging.Handler = logging.handlers.MemoryHandler(MAX_WAITING, flushLevel=logging.CRITICAL + 1)
    else:
        name = "log.txt" if main else f"log_rank{rank()}.txt"  # of the others, once there is an error
        other = _LogFile(output_dir / name, delay=not main)
        other.setFormatter(_Formatter(FORMAT))
        for record in waiting if main else []:
            other.handle(record)
    for handler in (console, other):
        handler.of_project = True
        root.addHandler(handler)
    root.setLevel(logging.INFO if main else logging.ERROR)
    logging.captureWarnings(True)


_said: set[str] = set()


def warn_once(kind: str, message: str, *arguments: object) -> None:
    """Logs a warning for the first image, say, of a kind, and is silent on the others of this process."""
    if kind not in _said:
        _said.add(kind)
        logging.getLogger(__name__).warning(message, *arguments)
