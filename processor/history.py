"""history.json: mean values of every epoch of every stage in OUTPUT_DIR, for learning curves.

{"<stage>": {"epochs": [{"epoch": 1, "lr": 0.0004, "loss": 5.1, ...}, ...],    from 1; lr of the first group at its end
             "evaluations": [{"epoch": 1, "<protocol>": mAP in [0, 1]}, ...],
             "schedule": {"epoch": [...], "lr": [...]}}}                       planned lr of the first group

A value that is not finite, such as the gradient norm of an epoch with an overflow, is null.
"""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import MIB, read_json_object, write_files
from utils.structures import TrainState

logger = logging.getLogger(__name__)

FILE = "history.json"
MAX_BYTES = 64 * MIB  # a stage of 120 epochs has 50 KiB
SCHEDULE_POINTS = 300  # of the planned lr, at most


def write_history(
    output_dir: str | Path, state: TrainState, schedule: tuple[Sequence[float], Sequence[float]] = ((), ())
) -> None:
    """Writes the epochs and evaluations of a stage; those of other stages stay.

    Args:
        output_dir: directory of the run.
        state: of the stage.
        schedule: epochs of the stage, fractional, and the planned lr of the first group there.
    """
    path = Path(output_dir) / FILE
    stride = max(1, -(-len(schedule[0]) // SCHEDULE_POINTS))
    epochs, lrs = ([float(value) for value in values[::stride]] for values in schedule)
    own = {
        "epochs": [{"epoch": epoch, **_finite(means)} for epoch, means in enumerate(state.history, start=1)],
        "evaluations": [_finite(evaluation) for evaluation in state.evaluations],
        "schedule": {"epoch": epochs, "lr": lrs},
    }
    _write(path, read_history(output_dir) | {state.stage: own}, replace=True)


def begin_history(output_dir: str | Path, stage: str) -> None:
    """Takes an earlier training of `stage` out of history.json, of which a backup stays: the stage starts over."""
    history = read_history(output_dir)
    if history.pop(stage, None) is not None:
        _write(Path(output_dir) / FILE, history, replace=False)


def _write(path: Path, history: dict[str, Any], *, replace: bool) -> None:
    text = json.dumps(history, allow_nan=False)
    write_files({path: lambda partial: partial.write_text(text, encoding="utf-8")}, replace=replace)


def read_history(output_dir: str | Path) -> dict[str, dict[str, Any]]:
    """The content of history.json; {} where there is none, or, with a warning, where it cannot be read."""
    path = Path(output_dir) / FILE
    if not path.exists():
        return {}
    try:
        return {stage: own for stage, own in read_json_object(path, max_bytes=MAX_BYTES).items() if _is_stage(own)}
    except UserError as error:
        logger.warning("%s. Learning curves begin anew", error)
        return {}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _is_stage(own: Any) -> bool:
    """Whether it is a stage as this file describes it."""
    return isinstance(own, dict) and all(
        isinstance(rows := own.get(name), list) and all(map(_is_row, rows)) for name in ("epochs", "evaluations")
    )


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("epoch"), int)
        and all(value is None or isinstance(value, int | float) for value in row.values())
    )
