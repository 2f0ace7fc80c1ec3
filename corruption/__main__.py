"""Command line of the corruptions.

python -m corruption list
python -m corruption grid --out grid.png [--image person.jpg] [--type rain] [--seed 0]
python -m corruption export --data data/market1501 --out data/market1501-C [--seed 0] [--type rain] [--severity 3]
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from corruption.apply import BACKENDS, corrupt
from corruption.names import CORRUPTIONS, DESCRIPTIONS, SEVERITIES, family_of
from corruption.protocols import CorruptionPolicy, resolve_names
from datasets.export_copy import Export, export_copy
from processor.plots import figure_style
from utils.errors import ArgumentParser, UserError, run_main
from utils.files import make_output_dir, write_files
from utils.images import read_image
from utils.seeds import derive_generator
from utils.text import printable
from utils.user_paths import expand_arguments

_DPI = 100
# Pixels of the grid: width that the pictures share, widest and highest cell, space between them, left and top margin.
_WIDTH, _MAX_CELL_WIDTH, _MAX_CELL_HEIGHT, _GAP, _LEFT, _TOP = 2000, 256, 384, 4, 90, 64

# Directory -> DATASETS.NAMES of the data sets whose copies can be read (datasets/corrupted_copy.py).
_DATA_SETS = {"market1501": "market1501", "Market-1501-v15.09.15": "market1501", "synthetic": "synthetic"}


def print_list() -> None:
    for name in CORRUPTIONS:
        print(f"{name:<18} {family_of(name):<8} {DESCRIPTIONS[name]}")


def draw_test_card() -> np.ndarray:
    """A drawn pedestrian in front of a wall, (256, 128, 3) uint8 RGB."""
    card = np.full((256, 128, 3), (176, 184, 190), np.uint8)
    for row, column in np.ndindex(11, 5):  # bricks
        left, top = column * 32 - 16 * (row % 2), row * 18
        cv2.rectangle(card, (left, top), (left + 29, top + 15), (188, 150 + 3 * row, 128), -1)
    cv2.rectangle(card, (0, 196), (127, 255), (112, 116, 112), -1)  # pavement
    cv2.ellipse(card, (66, 238), (38, 8), 0, 0, 360, (78, 80, 78), -1)  # shadow
    for foot in (50, 76):
        cv2.line(card, (63, 140), (foot, 232), (38, 52, 104), 17)  # legs
        cv2.ellipse(card, (foot + 4, 236), (12, 6), 0, 0, 360, (40, 32, 28), -1)
    cv2.line(card, (46, 76), (32, 138), (176, 38, 44), 13)
    cv2.line(card, (80, 76), (94, 134), (176, 38, 44), 13)
    cv2.rectangle(card, (44, 66), (82, 146), (200, 46, 52), -1)  # jacket
    for top in range(78, 146, 16):
        cv2.rectangle(card, (44, top), (82, top + 5), (236, 226, 206), -1)
    cv2.rectangle(card, (84, 128), (112, 162), (46, 104, 70), -1)  # bag
    cv2.circle(card, (63, 42), 19, (222, 178, 148), -1)
    cv2.ellipse(card, (63, 34), (20, 15), 0, 180, 360, (62, 42, 30), -1)  # hair
    return card


def draw_grid(image: np.ndarray, names: Sequence[str], seed: int) -> Figure:
    """Names from left to right, severities from top to bottom; one name alone: its severities from left to right."""
    cells = [[(name, severity) for name in names] for severity in SEVERITIES]
    single = len(names) == 1
    if single:
        cells = [[row[0] for row in cells]]
    rows, columns = len(cells), len(cells[0])

    ratio = image.shape[0] / image.shape[1]
    width = min((_WIDTH - _LEFT) / columns - _GAP, _MAX_CELL_WIDTH, _MAX_CELL_HEIGHT / ratio)
    width, height = max(width, 1), max(width * ratio, 40)
    pitch = max(width, 84) + _GAP  # the longest line of a label, "compression", needs 84 pixels
    total_width, total_height = _LEFT + columns * pitch, _TOP + rows * (height + _GAP)
    figure = Figure(figsize=(total_width / _DPI, total_height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    for row, column in np.ndindex(rows, columns):
        name, severity = cells[row][column]
        left, bottom = _LEFT + column * pitch, total_height - _TOP - row * (height + _GAP) - height
        axes = figure.add_axes((left / total_width, bottom / total_height, (pitch - _GAP) / total_width,
                                height / total_height))  # fmt: skip
        axes.imshow(corrupt(image, name, severity, derive_generator(seed, "grid", name, severity)))
        axes.set_axis_off()
        if row == 0:
            axes.set_title(f"severity {severity}" if single else name.replace("_", "\n"), fontsize=9, pad=6)
        if column == 0:
            label = name.replace("_", "\n") if single else f"severity {severity}"
            figure.text((_LEFT - 10) / total_width, (bottom + height / 2) / total_height, label, fontsize=9,
                        ha="right", va="center")  # fmt: skip
    return figure


def write_grid(image: np.ndarray, names: Sequence[str], seed: int, out: Path) -> None:
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the grid is written as PNG; expected a name ending in .png")
    make_output_dir(out.parent)
    with figure_style():
        figure = draw_grid(image, names, seed)
        write_files({out: lambda partial: figure.savefig(partial, format="png")})


def write_copy(arguments: argparse.Namespace) -> None:
    """Makes the copy, and says what it holds and how to test on it."""
    severities = SEVERITIES if arguments.severity == "random" else (int(arguments.severity),)
    names = resolve_names(arguments.types or ["all"])
    policy = CorruptionPolicy(names, severities, backend=arguments.backend)
    data, out = arguments.data, arguments.out
    report = export_copy(Export(data, out, policy, arguments.seed, arguments.repeat), workers=arguments.workers)
    counts = report.images
    print(
        f"{printable(out)}: whole; {counts['query']} query and {counts['gallery']} gallery pictures corrupted, "
        f"{counts.get('train', 0)} training pictures copied; {report.num_written} files written by this run"
    )
    source, copy = data.resolve().name, out.resolve()
    readable = source in _DATA_SETS and counts.get("train")  # the reader wants training pictures as well
    if readable and copy.name.startswith(f"{source}-") and copy.name != f"{source}-":
        name = _DATA_SETS[source] + copy.name.removeprefix(source)
        print(
            f"test on it: python test.py --config_file FILE TEST.WEIGHT CHECKPOINT DATASETS.ROOT_DIR "
            f"{printable(copy.parent)} DATASETS.NAMES {printable(name)} TEST.PROTOCOLS \"['clean']\""
        )


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of an argument: an integer from `minimum` up."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is no integer of at least {minimum}")
        return int(text)

    return convert


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m corruption", description="The 20 image corruptions.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the 20 names with their families", description="Prints name, family, meaning.")
    grid = commands.add_parser(
        "grid", help="one picture under every corruption and severity", description="Draws the 20 x 5 corruptions."
    )
    grid.add_argument("--image", metavar="FILE", help="picture to corrupt (default: a drawn test card)")
    grid.add_argument("--out", metavar="FILE.png", required=True, type=Path, help="where the PNG is written")
    grid.add_argument(
        "--type", metavar="NAME", action="append", dest="types", help="only this corruption or family; may be repeated"
    )
    grid.add_argument("--seed", type=int, default=0, help="seed of the random draws (default: %(default)s)")
    copy = commands.add_parser(
        "export", help="a corrupted copy of a data set on disk", description="Writes query and gallery corrupted, as "
        "PNG, and the training pictures as they are. Testing on the copy gives the numbers of testing on the fly with "
        "the same seed. An interrupted export goes on where it stopped; a complete one is checked and mended.",
    )  # fmt: skip
    copy.add_argument("--data", metavar="DIR", required=True, type=Path, help="data set in Market-1501's layout")
    copy.add_argument("--out", metavar="DIR", required=True, type=Path, help="the copy, e.g. data/market1501-C")
    copy.add_argument("--seed", type=at_least(0), default=0, help="SEED of the configuration (default: %(default)s)")
    copy.add_argument(
        "--repeat", type=at_least(0), default=0, help="number of the draw, from 0 to TEST.REPEATS - 1 (default: 0)"
    )
    copy.add_argument(
        "--type", metavar="NAME", action="append", dest="types",
        help="corruption, family or all to draw from; may be repeated (default: all)",
    )  # fmt: skip
    copy.add_argument(
        "--severity", choices=("random", *map(str, SEVERITIES)), default="random",
        help="of every picture, or drawn for each (default: %(default)s)",
    )  # fmt: skip
    copy.add_argument("--backend", choices=BACKENDS, default="fast", help="implementation (default: %(default)s)")
    copy.add_argument("--workers", type=at_least(1), metavar="N", help="processes (default: one per processor)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = expand_arguments(make_parser().parse_args(argv), "image", "data", "out")
    if arguments.command == "list":
        print_list()
        return 0
    if arguments.command == "export":
        write_copy(arguments)
        return 0
    names = resolve_names(arguments.types or ["all"])
    image = draw_test_card() if arguments.image is None else read_image(arguments.image)
    write_grid(image, names, arguments.seed, arguments.out)
    print(f"wrote {printable(arguments.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, OSError))
