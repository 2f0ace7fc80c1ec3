"""Figures of a report as inline SVG, which takes its colours and fonts from the page, and attention maps as images."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from PIL import Image

from processor.plots import HEAT_OPACITY, figure_style, fit_text
from utils.escaping import printable

SIZE = (4.6, 3.1)  # inches; one fits a phone, two or three stand side by side on a screen
FONT_SIZE = 9.5
# Colours in the figure -> CSS variables of the page, which differ in its two colour schemes.
INK, FAINT = "#010203", "#040506"
SERIES = tuple(f"#0a{number:02x}0c" for number in range(8))
VARIABLES = {INK: "--ink", FAINT: "--faint", **{colour: f"--s{n}" for n, colour in enumerate(SERIES)}}
DASHES = ("solid", "dashed", "dashdot", "dotted")  # with the markers, lines differ by more than colour
HATCHES = ("", "//", "..", "xx")
MARKERS = "os^Dv<>P"
LABEL_LETTERS = 24


@dataclass(frozen=True)
class Line:
    """A curve: x and y of its points; a point without y is left out."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class Bar:
    """A bar with its standard deviation."""

    label: str
    value: float
    std: float = 0.0


def line_plot(
    name: str,
    description: str,
    lines: Sequence[Line],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    zero: bool = False,
) -> str:
    """Curves with a legend below them.

    Args:
        name: unique on the page; ids of the SVG begin with it.
        description: alternative text.
        log: logarithmic y axis.
        zero: the y axis begins at 0.
    """
    with figure_style():
        figure, axes = _figure(extra=0.19 * -(-len(lines) // 2))
        for number, line in enumerate(lines):
            y = np.array([np.nan if value is None else value for value in line.y], dtype=float)
            few = len(line.x) <= 30
            axes.plot(
                np.asarray(line.x, dtype=float),
                y,
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[number // 2 % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)] if few else "",
                markersize=3.5,
                linewidth=1.6,
                label=_label(line.label),
            )
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
        elif zero:
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
        _finish(figure, axes, xlabel, ylabel, legend=len(lines) > 1)
        return _svg(figure, name, description)


def bar_plot(name: str, description: str, groups: Mapping[str, Sequence[Bar]], *, ylabel: str) -> str:
    """Groups of bars: group -> bars, with equal labels in every group."""
    with figure_style():
        labels = list(dict.fromkeys(bar.label for bars in groups.values() for bar in bars))
        figure, axes = _figure(extra=0.19 * -(-len(labels) // 2))
        width = 0.8 / max(len(labels), 1)
        for number, label in enumerate(labels):
            found = [(at, bar) for at, bars in enumerate(groups.values()) for bar in bars if bar.label == label]
            places = [at + (number - (len(labels) - 1) / 2) * width for at, _ in found]
            values = [bar.value for _, bar in found]
            colour = SERIES[number % len(SERIES)]
            style: dict[str, Any] = {
                "color": colour,
                "hatch": HATCHES[number % len(HATCHES)],
                "edgecolor": FAINT,
                "linewidth": 0,
            }
            axes.bar(places, values, 0.92 * width, label=_label(label), **style)
            if any(bar.std for _, bar in found):
                axes.errorbar(places, values, [bar.std for _, bar in found], fmt="none", ecolor=INK, capsize=2, lw=1)
            for place, (_, bar) in zip(places, found, strict=True):
                at = (place, bar.value + bar.std)
                axes.annotate(f"{bar.value:.1f}", at, (0, 2), textcoords="offset points", ha="center", fontsize=8)
        axes.set_xticks(range(len(groups)), [_label(group.replace("_", "\n")) for group in groups])
        _finish(figure, axes, "", ylabel, legend=len(labels) > 1)
        return _svg(figure, name, description)


def histogram(
    name: str,
    description: str,
    edges: Sequence[float],
    counts: Mapping[str, Sequence[int]],
    thresholds: Mapping[str, float],
    *,
    xlabel: str,
) -> str:
    """Shares of each of `counts` between the edges, as outlines, with thresholds as vertical lines."""
    with figure_style():
        figure, axes = _figure(extra=0.19 * -(-(len(counts) + len(thresholds)) // 2))
        for number, (label, values) in enumerate(counts.items()):
            shares = np.asarray(values, dtype=float) / max(sum(values), 1)
            colour = SERIES[number]
            axes.stairs(100 * shares, edges, color=colour, fill=True, alpha=0.25)
            axes.stairs(100 * shares, edges, color=colour, label=label, linewidth=1.6, linestyle=DASHES[number])
        for number, (label, value) in enumerate(thresholds.items()):
            axes.axvline(value, color=INK, linewidth=1, linestyle=DASHES[(number + 1) % 4], label=_label(label))
        axes.set_ylim(bottom=0)
        _finish(figure, axes, xlabel, "pairs, percent", legend=True)
        return _svg(figure, name, description)


def overlay(image: np.ndarray, attention: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """An attention map (rows, columns) over the grey image (H, W, 3) uint8; `limits` are the ends of its colours."""
    low, high = limits
    scaled = Image.fromarray(((attention - low) / max(high - low, 1e-12)).astype(np.float32))
    heat = np.asarray(scaled.resize(image.shape[1::-1], Image.Resampling.BICUBIC)).clip(0, 1)
    colours = matplotlib.colormaps["turbo"](heat)[..., :3] * 255
    grey = image.mean(axis=2, keepdims=True)
    return (HEAT_OPACITY * colours + (1 - HEAT_OPACITY) * grey).round().astype(np.uint8)


def _figure(*, extra: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE[0], SIZE[1] + extra), layout="constrained")
    return figure, figure.subplots()


def _finish(figure: Figure, axes: Axes, xlabel: str, ylabel: str, *, legend: bool) -> None:
    axes.set_xlabel(xlabel, color=INK, fontsize=FONT_SIZE)
    axes.set_ylabel(ylabel, color=INK, fontsize=FONT_SIZE)
    axes.tick_params(colors=INK, labelsize=FONT_SIZE - 0.5)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    for text in axes.texts:
        text.set_color(INK)
    if legend:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=FONT_SIZE - 1, labelcolor=INK
        )


def _label(text: str) -> str:
    lines = [printable(line) for line in text.split("\n")]
    return "\n".join(fit_text(line[:200], inches=LABEL_LETTERS * 0.0862, fontsize=10) for line in lines)


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element: no ids of other figures, no size of its own, colours as CSS variables."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "svg.image_inline": True}):
        figure.savefig(buffer, format="svg", metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="#|url\(#)([^")]+)', rf"\1{name}-\2", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)  # it would style the whole page
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    opening = f'<svg class="plot" viewBox="{box[1] if box else ""}" role="img" aria-labelledby="{name}-title">'
    title = f'<title id="{name}-title">{_escape(printable(description))}</title>'
    return re.sub(r"<svg[^>]*>", lambda match: opening + title, text, count=1).strip()


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
