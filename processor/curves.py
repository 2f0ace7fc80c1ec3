"""curves.png: learning curves of every stage, drawn from history.json while training proceeds."""

import time
from pathlib import Path

from processor.history import read_history
from processor.plots import save_curves
from utils import distributed

FILE = "curves.png"
SHARE = 0.02  # of the time that drawing takes at most; short epochs share one drawing


class Curves:
    """Draws OUTPUT_DIR/curves.png, in the first process alone.

    Args:
        output_dir: directory of the run.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.end, self.seconds = -float("inf"), 0.0  # of the last drawing

    def renew(self, *, last: bool = False) -> None:
        """Draws the file again, unless that would take more than SHARE of the time; `last`: in any case."""
        start = time.perf_counter()
        if not distributed.is_main() or not (last or start - self.end >= self.seconds / SHARE):
            return
        save_curves(self.output_dir / FILE, read_history(self.output_dir))
        self.end = time.perf_counter()
        self.seconds = self.end - start
