"""Every picture that matplotlib draws for the other rooms."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only: a server has no display
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import SubFigure

from utils.files import write_files

RIGHT, WRONG = "#1a9641", "#d7191c"
DARK = 0.55  # luminance of a colour below which writing on it is white
HEAT = 0.5  # opacity of an attention map over its picture


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


@dataclass(frozen=True)
class AttentionRow:
    """A query, clean and corrupted: pictures (H, W, 3) uint8 RGB and attention maps (rows, columns) over them."""

    title: str
    caption: str
    pictures: tuple[np.ndarray, np.ndarray]
    maps: tuple[np.ndarray, np.ndarray]


def save_attention(path: str | Path, rows: list[AttentionRow], *, title: str) -> None:
    """Draws four panels per row: the clean picture, its map over it, and the same of the corrupted one."""
    across = max(1, round((len(rows) / 2) ** 0.5))  # rows side by side: many in one column would be a strip
    lines = -(-len(rows) // across)
    figure = plt.figure(figsize=(5.4 * across, 2.75 * lines + 0.8), layout="constrained")
    figure.suptitle(title, fontsize=10)
    places = figure.subfigures(lines, across, squeeze=False)
    for place, row in zip(places.flat, rows, strict=False):
        _draw_attention(place, row)
    write_files({Path(path): lambda partial: figure.savefig(partial, dpi=110, format="png")})
    plt.close(figure)


def _draw_attention(place: SubFigure, row: AttentionRow) -> None:
    """One row; its two maps share their colours, which the bar explains."""
    place.suptitle(row.title, fontsize=8)
    place.supxlabel(row.caption, fontsize=8)
    panels = place.subplots(1, 4)
    for axis in panels:
        axis.axis("off")
    for plain, overlaid, name, picture, attention in zip(
        panels[::2], panels[1::2], ("clean", "corrupted"), row.pictures, row.maps, strict=True
    ):
        height, width = picture.shape[:2]
        plain.imshow(picture)
        plain.set_title(name, fontsize=8)
        overlaid.imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        heat = overlaid.imshow(
            attention, cmap="turbo", alpha=HEAT, vmin=np.min(row.maps), vmax=np.max(row.maps),
            extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bicubic",
        )  # fmt: skip
        overlaid.set_title("attention", fontsize=8)
    place.colorbar(heat, ax=panels, shrink=0.8).ax.tick_params(labelsize=7)


def save_corruption_matrix(
    path: str | Path,
    matrix: dict[str, list[float]],
    severities: list[int],
    families: dict[str, tuple[str, ...]],
    *,
    clean: float,
    title: str,
) -> None:
    """Draws a figure, in percent, for every type (rows, by family) and severity (columns), with the means at the edges.

    Args:
        matrix: type -> fractions in [0, 1], one for each severity.
        severities: names of the columns.
        families: family -> types, the rows from top to bottom.
        clean: the fraction without corruption; the colours end there, or at the best cell where that is above.
    """
    names = [name for members in families.values() for name in members]
    values = np.array([matrix[name] for name in names])
    cells = np.block([[values, values.mean(axis=1)[:, None]], [values.mean(axis=0), values.mean()]])
    height, width = cells.shape
    figure, axis = plt.subplots(figsize=(3.1 + 0.72 * width, 1.3 + 0.31 * height), layout="constrained")
    figure.suptitle(title, fontsize=11)
    colours = plt.get_cmap("YlGnBu")(cells / max(clean, cells.max()))
    axis.imshow(colours, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        luminance = colours[row, column, :3] @ (0.299, 0.587, 0.114)
        axis.text(
            column, row, f"{100 * value:.1f}", ha="center", va="center", fontsize=9,
            color="white" if luminance < DARK else "black",
        )  # fmt: skip
    axis.set_xticks(range(width), [*map(str, severities), "mean"])
    axis.set_yticks(range(height), [*(name.replace("_", " ") for name in names), "mean"])
    axis.xaxis.tick_top()
    axis.xaxis.set_label_position("top")
    axis.set_xlabel("severity")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.axvline(width - 1.5, color="white", linewidth=4)
    top = 0
    for family, members in families.items():
        axis.annotate(
            family, (0, top + (len(members) - 1) / 2), (-112, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="center", fontweight="bold", annotation_clip=False,
        )  # fmt: skip
        top += len(members)
        axis.axhline(top - 0.5, xmax=1.01, clip_on=False, color="white", linewidth=4)
    write_files({Path(path): lambda partial: figure.savefig(partial, dpi=130, format="png")})
    plt.close(figure)
