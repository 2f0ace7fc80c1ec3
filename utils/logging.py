"""Log handlers, in one place: everything else only calls logging.getLogger(__name__)."""

import logging
import logging.handlers
import sys
from pathlib import Path

from utils.distributed import is_main, rank
from utils.errors import UserError

FORMAT = "%(asctime)s %(levelname)s %(message)s"
MAX_WAITING = 10_000  # records kept until the directory is known


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
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
    if output_dir is None:
        other: logging.Handler = logging.handlers.MemoryHandler(MAX_WAITING, flushLevel=logging.CRITICAL + 1)
    else:
        try:
            name = "log.txt" if main else f"log_rank{rank()}.txt"  # of the others, once there is an error
            other = logging.FileHandler(output_dir / name, encoding="utf-8", errors="backslashreplace", delay=not main)
        except OSError as error:
            raise UserError(
                f"{output_dir / 'log.txt'}: cannot be written ({error}); choose another OUTPUT_DIR"
            ) from error
        other.setFormatter(logging.Formatter(FORMAT))
        for record in waiting if main else []:
            other.handle(record)
    for handler in (console, other):
        handler.of_project = True
        root.addHandler(handler)
    root.setLevel(logging.INFO if main else logging.ERROR)
    logging.captureWarnings(True)
