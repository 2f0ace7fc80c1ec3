"""The last words of a run: where everything is."""

import logging
from pathlib import Path

from utils.text import printable

logger = logging.getLogger(__name__)

# What a run may leave in OUTPUT_DIR -> what it is.
FILES = {
    "results.json": "means and standard deviations",
    "results.csv": "one row for every evaluation",
    "checkpoints": "checkpoints of the stages",
    "tensorboard": "curves: tensorboard --logdir {path}",
    "schedule_*.png": "learning rates",
    "ranked_list.png": "queries and their answers",
    "attention.png": "where the model looks",
    "corruption_matrix.png": "every type at every severity",
    "features": "features of the tested sets",
    "thresholds.csv": "which distance means the same person",
    "config.yml": "the settings, to run again",
    "log.txt": "this log",
}


def log_summary(output_dir: str | Path) -> None:
    """Logs what `output_dir` holds."""
    lines = [
        f"  {printable(path)}  {meaning.format(path=printable(path))}"
        for pattern, meaning in FILES.items()
        for path in sorted(Path(output_dir).glob(pattern))
    ]
    logger.info("all in %s:\n%s", output_dir, "\n".join(lines))
