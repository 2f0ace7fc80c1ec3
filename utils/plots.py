"""Every picture that matplotlib draws for the other rooms."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: a server has no display
import matplotlib.pyplot as plt
import numpy as np

from utils.files import write_files

RIGHT, WRONG = "#1a9641", "#d7191c"


@dataclass(frozen=True)
class RankedRow:
    """A query and its best answers: pictures (H, W, 3) uint8 RGB, and whether each answer is right."""

    title: str
    query: np.ndarray
    answers: list[np.ndarray]
    correct: list[bool]


def save_ranked_lists(path: str | Path, rows: list[RankedRow], *, title: str) -> None:
    """Draws one line per row: the query, then its answers in rank order, right ones framed green, wrong ones red."""
    columns = 1 + max(len(row.answers) for row in rows)
    figure, axes = plt.subplots(
        len(rows), columns, figsize=(0.85 * columns + 1.2, 1.75 * len(rows) + 0.7), squeeze=False, layout="constrained"
    )
    figure.suptitle(title, fontsize=11)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis("off")
        line[0].imshow(row.query)
        line[0].set_title("query", fontsize=8)
        line[0].text(
            -0.12, 0.5, row.title, transform=line[0].transAxes, rotation=90, ha="right", va="center", fontsize=8
        )
        for rank, (axis, picture, correct) in enumerate(zip(line[1:], row.answers, row.correct, strict=False), start=1):
            axis.imshow(picture)
            colour = RIGHT if correct else WRONG
            axis.set_title(f"{rank} {'✓' if correct else '✗'}", fontsize=8, color=colour)
            height, width = picture.shape[:2]
            axis.add_patch(plt.Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=colour, linewidth=3))
    write_files({Path(path): lambda partial: figure.savefig(partial, dpi=110, format="png")})
    plt.close(figure)
