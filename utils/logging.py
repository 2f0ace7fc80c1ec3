"""Log handlers, in one place. All other code only calls logging.getLogger(__name__)."""

import copy
import logging
import logging.handlers
import os
import sys
import textwrap
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

from utils.distributed import is_main, rank
from utils.escaping import printable_lines
from utils.files import open_log

FORMAT = "%(asctime)s %(levelname)s %(message)s"
INDENT = " " * len("12:34:56 ")  # of a continued line on the terminal
MAX_WAITING = 10_000  # records kept in memory until the output directory is known


class _Formatter(logging.Formatter):
    """Escapes control characters of every record, so that no file name can forge a line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def on_console(text: str | None) -> dict[str, str | None]:
    """`extra` of a record whose console line is `text`, or which has none there (None); log.txt has the message."""
    return {"console": text}


class _ConsoleFormatter(_Formatter):
    """Time and message, with the level where it is not INFO. INFO lines are wrapped between words to `columns()`; the
    terminal wraps others, and tables stay as they are."""

    def __init__(self, columns: Callable[[], int]) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")
        self.columns = columns

    def format(self, record: logging.LogRecord) -> str:
        shown, info = copy.copy(record), record.levelno == logging.INFO
        text = getattr(record, "console", None) or record.getMessage()
        shown.msg, shown.args = text if info else f"{record.levelname} {text}", ()
        first, *others = super().format(shown).split("\n")
        columns = self.columns()
        if info and 0 < columns < len(first):
            first = textwrap.fill(
                first, columns, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False
            )
        return "\n".join([first, *others])


class _Console(logging.StreamHandler):
    """stdout; lines appear above the progress bars."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(_ConsoleFormatter(self._columns))

    def _columns(self) -> int:
        """Columns of the terminal; 0: there is none, or it does not tell."""
        try:
            return os.get_terminal_size(self.stream.fileno()).columns
        except (OSError, ValueError, AttributeError):
            return 0

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "console", "") is None:
            return
        from tqdm import tqdm  # here: the first record comes after --help

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


class _LogFile(logging.FileHandler):
    """log.txt. A full disk is reported once on stderr, and the work goes on without the log."""

    failed = False

    def _open(self) -> TextIOWrapper:
        return open_log(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord | None) -> None:
        if not self.failed:
            self.failed = True
            print(f"{printable_lines(self.baseFilename)}: cannot be written ({sys.exc_info()[1]})", file=sys.stderr)

    def close(self) -> None:
        try:
            super().close()
        except OSError:  # flushing what is left failed
            self.handleError(None)


def setup_logging(output_dir: Path | None = None) -> None:
    """Sends the project's log to stdout and, with `output_dir`, to output_dir/log.txt, which is appended to.

    Call it once without a directory: records wait in memory and go to the file on the second call. In a distributed
    run rank 0 logs; every other rank logs only errors, to its own log_rank<number>.txt.

    Raises:
        UserError: log.txt cannot be opened.
    """
    root = logging.getLogger()
    main = is_main()
    waiting: list[logging.LogRecord] = []
    for handler in [handler for handler in root.handlers if getattr(handler, "of_project", False)]:
        waiting += getattr(handler, "buffer", [])
        root.removeHandler(handler)
        handler.close()
    console = _Console()
    if output_dir is None:
        other: logging.Handler = logging.handlers.MemoryHandler(MAX_WAITING, flushLevel=logging.CRITICAL + 1)
    else:
        name = "log.txt" if main else f"log_rank{rank()}.txt"
        other = _LogFile(output_dir / name, delay=not main)  # other ranks: no file until there is an error
        other.setFormatter(_Formatter(FORMAT))
        for record in waiting if main else []:
            other.handle(record)
    kept = _KeptWarnings(logging.WARNING)
    if output_dir is None:
        _kept.clear()
    for handler in (console, other, kept):
        handler.of_project = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(logging.INFO if main else logging.ERROR)
    logging.captureWarnings(True)


_MAX_KEPT = 200  # warnings
_kept: dict[str, int] = {}


class _KeptWarnings(logging.Handler):
    """Keeps the first warnings of a run, each once."""

    def emit(self, record: logging.LogRecord) -> None:
        text = printable_lines(record.getMessage())
        if text in _kept or len(_kept) < _MAX_KEPT:
            _kept[text] = _kept.get(text, 0) + 1


def warnings_of_run() -> dict[str, int]:
    """Warnings and errors that were logged since `setup_logging`, in their order, and how often."""
    return dict(_kept)


_warned: set[str] = set()


def warn_once(kind: str, message: str, *arguments: object) -> None:
    """Logs a warning the first time that this process warns of `kind`."""
    if kind not in _warned:
        _warned.add(kind)
        logging.getLogger(__name__).warning(message, *arguments)


def format_seconds(seconds: float) -> str:
    """A duration in words, e.g. "1 h 02 min" or "3 min 05 s"."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
