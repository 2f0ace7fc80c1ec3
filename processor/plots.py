"""Every figure of the project that matplotlib draws: ranked lists, attention maps, corruption matrix, lr preview,
learning curves, studies."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")  # files only: a server has no display
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from utils.escaping import printable
from utils.files import write_files

if TYPE_CHECKING:  # it imports torch, which a figure does not need
    from processor.lr_preview import LRCurve

FRAMES = {True: ("#1a9641", "✓"), False: ("#d7191c", "✗"), None: ("#606060", "")}  # colour and mark of a match
MIN_WIDTH = 5.0  # inches, for the title
CELL = (0.85, 1.75)  # inches across and down, of an image and its text in ranked lists
DARK = 0.55  # luminance of a colour below which text on it is white
CONSTANT_COLOUR = "#d7191c"  # of an lr that follows no schedule
HEAT_OPACITY = 0.5  # of an attention map over its image
FONT = "DejaVu Sans"  # comes with matplotlib
CHARACTER_WIDTH = 0.62  # of a letter of FONT, in font sizes
MISSING_LETTER = "□"  # for a letter that FONT does not have
POINTS_PER_INCH = 72


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Within it, figures look the same for every user, whatever a matplotlibrc says, and no text is mathematics: a
    dollar sign in a file name stays one."""
    settings = {"text.parse_math": False, "text.usetex": False, "font.family": FONT}
    with plt.style.context(["default", settings]):
        yield


def fit_text(text: str, *, inches: float, fontsize: float) -> str:
    """Makes `text`, whose lines may hold file names, fit a figure: printable, each line shortened in its middle to
    `inches`, with a box for letters that the font does not have (matplotlib would warn of each)."""
    longest = max(int(inches * POINTS_PER_INCH / (fontsize * CHARACTER_WIDTH)), 3)
    lines = []
    for line in text.split("\n"):
        shown = printable(line[: 20 * longest])
        line = "".join(letter if ord(letter) in _letters() else MISSING_LETTER for letter in shown)
        half = longest // 2
        lines.append(line if len(line) <= longest else f"{line[:half]}…{line[half + 1 - longest :]}")
    return "\n".join(lines)


@functools.cache
def _letters() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(FONT)).get_charmap())


def _save(path: str | Path, figure: Figure, *, dpi: int, replace: bool = False) -> None:
    """Writes the figure as a PNG and closes it; `replace`: an earlier file is overwritten, not backed up."""
    try:
        write_files({Path(path): lambda partial: figure.savefig(partial, dpi=dpi, format="png")}, replace=replace)
    finally:
        plt.close(figure)


@dataclass(frozen=True)
class RankedRow:
    """A query and the top of its ranked gallery.

    Attributes:
        query, gallery: images (H, W, 3) uint8 RGB.
        correct: whether each gallery image has the query's identity; None: not known.
        notes: a few characters to write above each gallery image, if any.
    """

    title: str
    query: np.ndarray
    gallery: list[np.ndarray]
    correct: list[bool | None]
    notes: list[str] = field(default_factory=list)


@figure_style()
def save_ranked_lists(path: str | Path, rows: list[RankedRow], *, title: str) -> None:
    """Plots one line per row: the query, then its ranked gallery.

    Correct matches have a green frame, wrong ones a red one, unknown ones a grey one.
    """
    columns = 1 + max(len(row.gallery) for row in rows)
    width = max(CELL[0] * columns + 0.6, MIN_WIDTH)
    header = 0.2 + 0.175 * (1 + title.count("\n"))
    height = header + CELL[1] * len(rows) + 0.15
    figure = plt.figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1))  # one for all images, in inches: one for each would take seconds
    axis.axis("off")
    left = (width - CELL[0] * columns) / 2 + 0.2
    for line, row in enumerate(rows):
        top = header + line * CELL[1]
        label = fit_text(row.title, inches=CELL[1], fontsize=8)
        axis.text(left, top + CELL[1] / 2 + 0.15, label, rotation=90, ha="right", va="center", fontsize=8)
        _show_in_cell(axis, (left, top), row.query, "query")
        for rank, (image, correct) in enumerate(zip(row.gallery, row.correct, strict=True), start=1):
            colour, mark = FRAMES[correct]
            lines = [f"{rank} {mark}".rstrip(), *row.notes[rank - 1 : rank]]
            _show_in_cell(axis, (left + rank * CELL[0], top), image, "\n".join(lines), frame=colour)
    axis.set(xlim=(0, width), ylim=(height, 0))
    figure.suptitle(fit_text(title, inches=width, fontsize=11), fontsize=11, y=1 - 0.15 / height)
    _save(path, figure, dpi=110)


def _show_in_cell(axis: Axes, corner: tuple[float, float], image: np.ndarray, text: str, frame: str = "") -> None:
    """An image as large as its cell allows, below its text."""
    room = (CELL[0] - 0.1, CELL[1] - 0.35)
    scale = min(room[0] / image.shape[1], room[1] / image.shape[0])
    width, height = image.shape[1] * scale, image.shape[0] * scale
    x, y = corner[0] + (CELL[0] - width) / 2, corner[1] + CELL[1] - room[1]
    axis.imshow(image, extent=(x, x + width, y + height, y), aspect="auto")
    axis.text(x + width / 2, y - 0.05, text, ha="center", va="bottom", fontsize=8, color=frame or "black")
    if frame:
        axis.add_patch(plt.Rectangle((x, y), width, height, fill=False, edgecolor=frame, linewidth=2))


@dataclass(frozen=True)
class AttentionRow:
    """A query, clean and corrupted: images (H, W, 3) uint8 RGB and attention maps (rows, columns) over them."""

    title: str
    caption: str
    images: Sequence[np.ndarray]
    maps: tuple[np.ndarray, np.ndarray]


@figure_style()
def save_attention(path: str | Path, rows: list[AttentionRow], *, title: str) -> None:
    """Plots four panels per row: the clean image, its map over it, and the same for the corrupted image."""
    across = max(1, round((len(rows) / 2) ** 0.5))  # rows side by side: many in one column would be a strip
    lines = -(-len(rows) // across)
    figure = plt.figure(figsize=(5.4 * across, 2.75 * lines + 0.8), layout="constrained")
    figure.suptitle(fit_text(title, inches=5.4 * across, fontsize=10), fontsize=10)
    panels = figure.subfigures(lines, across, squeeze=False)
    for panel, row in zip(panels.flat, rows, strict=False):
        _plot_attention(panel, row)
    _save(path, figure, dpi=110)


def _plot_attention(panel: SubFigure, row: AttentionRow) -> None:
    """One row; its two maps share one colour scale, shown by the bar."""
    panel.suptitle(fit_text(row.title, inches=5.4, fontsize=8), fontsize=8)
    panel.supxlabel(fit_text(row.caption, inches=5.4, fontsize=8), fontsize=8)
    axes = panel.subplots(1, 4)
    for axis in axes:
        axis.axis("off")
    style = {"cmap": "turbo", "alpha": HEAT_OPACITY, "interpolation": "bicubic"}
    limits = {"vmin": np.min(row.maps), "vmax": np.max(row.maps)}
    for plain, overlaid, name, image, attention in zip(
        axes[::2], axes[1::2], ("clean", "corrupted"), row.images, row.maps, strict=True
    ):
        height, width = image.shape[:2]
        plain.imshow(image)
        plain.set_title(name, fontsize=8)
        overlaid.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        heat = overlaid.imshow(attention, extent=extent, **style, **limits)
        overlaid.set_title("attention", fontsize=8)
    panel.colorbar(heat, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)


@figure_style()
def save_corruption_matrix(
    path: str | Path,
    matrix: dict[str, list[float]],
    severities: list[int],
    families: dict[str, tuple[str, ...]],
    *,
    clean: float,
    title: str,
) -> None:
    """Plots a metric, in percent, for every type (rows, by family) and severity (columns), with means at the edges.

    Args:
        path: of the PNG.
        matrix: type -> fractions in [0, 1], one for each severity.
        severities: names of the columns.
        families: family -> types, the rows from top to bottom.
        clean: the fraction without corruption; the colour scale ends there, or at the best cell if that is higher.
        title: of the figure.
    """
    names = [name for members in families.values() for name in members]
    values = np.array([matrix[name] for name in names])
    cells = np.block([[values, values.mean(axis=1)[:, None]], [values.mean(axis=0), values.mean()]])
    height, width = cells.shape
    size = (3.1 + 0.72 * width, 1.3 + 0.31 * height)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    figure.suptitle(fit_text(title, inches=size[0], fontsize=11), fontsize=11)
    colours = plt.get_cmap("YlGnBu")(cells / max(clean, cells.max()))
    axis.imshow(colours, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        luminance = colours[row, column, :3] @ (0.299, 0.587, 0.114)
        colour = "white" if luminance < DARK else "black"
        axis.text(column, row, f"{100 * value:.1f}", ha="center", va="center", fontsize=9, color=colour)
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
            family,
            (0, top + (len(members) - 1) / 2),
            (-112, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            va="center",
            fontweight="bold",
            annotation_clip=False,
        )
        top += len(members)
        axis.axhline(top - 0.5, xmax=1.01, clip_on=False, color="white", linewidth=4)
    _save(path, figure, dpi=130)


@figure_style()
def save_lr_preview(path: str | Path, epochs: np.ndarray, curves: "list[LRCurve]", title: str) -> None:
    """Plots the learning rates of a stage over its epochs, as `processor.lr_preview.preview` returns them.

    The highest comes first in the legend. The axis fits the lrs that follow the schedule; a constant one far above them
    is in the legend only.
    """
    curves = sorted(curves, key=lambda curve: (-curve.lrs.max(), -(curve.factor or 0)))
    top = max((curve.lrs.max() for curve in curves if curve.factor is not None), default=curves[0].lrs.max())
    figure, axis = plt.subplots(figsize=(8.5, max(4.2, 0.6 + 0.19 * len(curves))), layout="constrained")
    figure.suptitle(title, fontsize=11)
    colours = iter(plt.get_cmap("viridis")(np.linspace(0, 0.8, sum(curve.factor is not None for curve in curves))))
    marker = "." if len(epochs) < 30 else ""  # a single step would leave no line
    for curve in curves:
        count = f"{_short(curve.parameters)} parameters"
        if curve.factor is not None:
            style = {"label": f"{curve.factor:.3g} x, {count}", "color": next(colours)}
        else:
            hidden = ", above the axis" if curve.lrs[0] > 1.05 * top else ""
            label = f"constant {curve.lrs[0]:g}{hidden}, {count}"
            style = {"label": label, "color": CONSTANT_COLOUR, "linestyle": "--"}
        axis.plot(epochs, curve.lrs, linewidth=1.5, marker=marker, **style)
    axis.set(xlabel="epoch", ylabel="learning rate", ylim=(0, 1.05 * top))
    axis.margins(x=0.01)
    axis.ticklabel_format(axis="y", scilimits=(-3, 3))
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    legend = {"title": "1 x: the optimizer's first group", "title_fontsize": 8, "fontsize": 8, "alignment": "left"}
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, **legend)
    _save(path, figure, dpi=110)


@figure_style()
def save_curves(path: str | Path, history: Mapping[str, Mapping[str, Any]]) -> None:
    """Plots a row of panels for each stage, over its epochs: loss terms, learning rate, gradient norm, and the
    accuracy of the identity classifier with the mAP of the evaluations in percent.

    Args:
        path: of the PNG; like history.json, it is overwritten.
        history: content of history.json, see `processor.history`.
    """
    height = 2.4 * len(history) + 0.4  # inches
    figure = Figure(figsize=(14, height))  # laid out by hand: the constrained layout draws twice
    margins = {"left": 0.05, "right": 0.99, "bottom": 0.45 / height, "top": 1 - 0.4 / height}
    figure.subplots_adjust(**margins, wspace=0.16, hspace=0.45)
    panels = figure.subplots(len(history), 4, squeeze=False)
    for row, (stage, own) in zip(panels, history.items(), strict=True):
        epochs, evaluations = own["epochs"], own["evaluations"]
        names = list(dict.fromkeys(name for epoch in epochs for name in epoch))
        losses = ["loss", *(name for name in names if name.endswith("_loss"))]
        _plot_values(row[0], epochs, {name: name.removesuffix("_loss") or name for name in losses})
        _plot_values(row[1], epochs, {"lr": "lr"})
        _plot_values(row[2], epochs, {"grad_norm": "norm"})
        _plot_values(row[3], epochs, {"accuracy": "accuracy of the classifier"}, scale=100)
        protocols = dict.fromkeys(name for found in evaluations for name in found if name != "epoch")
        _plot_values(row[3], evaluations, {name: f"mAP {name}" for name in protocols}, scale=100, first=1)
        for axis, title in zip(row, ("loss terms", "learning rate", "gradient norm", "percent"), strict=True):
            axis.set_title(printable(f"{stage}: {title}"), fontsize=9)
            axis.tick_params(labelsize=7)
            axis.ticklabel_format(axis="y", scilimits=(-3, 4))
            axis.yaxis.get_offset_text().set_fontsize(7)
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
            if len(axis.lines) > 1:
                style = {"fontsize": 7, "framealpha": 0.7, "edgecolor": "none", "ncols": 1 + (len(axis.lines) > 5)}
                axis.legend(**style, loc="lower right" if axis is row[3] else "upper right")
            elif not axis.lines:
                axis.set_visible(False)
    for axis in panels[-1]:
        axis.set_xlabel("epoch", fontsize=8)
    _save(path, figure, dpi=100, replace=True)


def _plot_values(
    axis: Any, rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str], *, scale: float = 1.0, first: int = 0
) -> None:
    """Plots columns of `rows` over their "epoch"; a value that is None or missing leaves a gap. `first`: colour."""
    marker = "." if len(rows) < 30 else ""  # a single epoch would leave no line
    for number, (name, label) in enumerate(labels.items()):
        if any(row.get(name) is not None for row in rows):
            values = [np.nan if row.get(name) is None else scale * row[name] for row in rows]
            style = {"color": f"C{(first + number) % 10}", "linewidth": 1.6 if number == 0 else 1.0, "marker": marker}
            axis.plot([row["epoch"] for row in rows], values, label=printable(label), **style)


def _short(count: int) -> str:
    """12 345 678 as 12.3 M."""
    for unit, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= unit:
            return f"{count / unit:.3g}{sign}"
    return str(count)


def save_study(
    path: str | Path, points: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, baseline: str
) -> None:
    """Plots corrupted against clean mAP in percent of every variant of a study, with bars of one standard deviation.

    Args:
        points: variant -> (clean, corrupted) mAP in [0, 1], one value for each seed.
        baseline: name of the variant that is drawn as a square, with lines through it.
    """
    with figure_style():
        figure, axes = plt.subplots(figsize=(7.5, 5), layout="constrained")
        for number, (name, (clean, corrupted)) in enumerate(points.items()):
            x, y = 100 * np.asarray(clean), 100 * np.asarray(corrupted)
            y_std, x_std = (float(values.std(ddof=1)) if len(values) > 1 else 0.0 for values in (y, x))
            colour, marker = f"C{number % 10}", "s" if name == baseline else "ov^D<>pd"[number % 8]
            label = printable(name) + (" (baseline)" if name == baseline else "")
            axes.errorbar(
                x.mean(), y.mean(), y_std, x_std, color=colour, marker=marker, capsize=3, linestyle="none", label=label
            )
            if name == baseline:
                axes.axvline(x.mean(), color="0.8", zorder=0)
                axes.axhline(y.mean(), color="0.8", zorder=0)
        axes.set(xlabel="mAP clean, percent", ylabel="mAP corrupted, percent")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        _save(path, figure, dpi=120)
