"""Log handlers, in one place: everything else only calls logging.getLogger(__name__)."""

import logging
import sys
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)s %(message)s"


def setup_logging(output_dir: Path | None = None) -> None:
    """Sends the project's log to stdout and, once it is known, to output_dir/log.txt, which is appended to."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if getattr(handler, "of_project", False):
            root.removeHandler(handler)
            handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if output_dir is not None:
        handlers.append(logging.FileHandler(output_dir / "log.txt", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S" if handler is handlers[0] else None))
        handler.of_project = True
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
