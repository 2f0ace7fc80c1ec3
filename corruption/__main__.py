"""Command line of the corruptions.

python -m corruption list
python -m corruption grid --out grid.png [--image person.jpg] [--type rain] [--type bar] [--seed 0]
python -m corruption export --data data/market1501 --out data/market1501-C [--seed 0] [--type rain] [--severity 3]
"""

# A command imports what it needs when it runs: `list` and `--help` load neither NumPy nor torch.
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corruption.names import ALL_DESCRIPTIONS, BACKENDS, SEVERITIES, family_of
from utils.command_line import ArgumentParser, at_least, expand_arguments, run_main
from utils.errors import UserError
from utils.escaping import printable
from utils.tables import make_table

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

_DPI = 100
# Pixels of the grid: width that the images share, widest and highest cell, gap between cells, left and top margin.
_WIDTH, _MAX_CELL_WIDTH, _MAX_CELL_HEIGHT, _GAP, _LEFT, _TOP = 2000, 256, 384, 4, 90, 64
_LABEL_WIDTH, _MIN_CELL_HEIGHT = 84, 40  # "compression", the longest line of a label, needs 84 pixels


def print_list() -> None:
    """Prints a table for each family: names and descriptions."""
    families = dict.fromkeys(map(family_of, ALL_DESCRIPTIONS))
    for family in families:
        rows = [(name, text) for name, text in ALL_DESCRIPTIONS.items() if family_of(name) == family]
        print(make_table([family, "what it is"], rows, "l"), end="\n\n")


def write_grid(image_file: str | None, types: Sequence[str], seed: int, out: Path) -> None:
    """Writes a PNG of one image under each of the selected corruptions and severities.

    Args:
        image_file: the image; None: a rendered pedestrian.
        types: corruptions and families.
        seed: of the corruptions.
        out: the file to write.

    Raises:
        UserError: an unknown corruption, an image that cannot be read, or a file that cannot be written.
    """
    from corruption.protocols import resolve_names
    from corruption.sample_image import render_sample_image
    from processor.plots import figure_style
    from utils.files import make_output_dir, write_files
    from utils.images import read_image

    names = resolve_names(types)
    image = render_sample_image() if image_file is None else read_image(image_file)
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: the grid is written as PNG; expected a name ending in .png")
    make_output_dir(out.parent)
    with figure_style():
        figure = plot_grid(image, names, seed)
        write_files({out: lambda partial: figure.savefig(partial, format="png")})
    print(f"wrote {printable(out)}")


def plot_grid(image: np.ndarray, names: Sequence[str], seed: int) -> Figure:
    """Plots names from left to right and severities from top to bottom; of one name, severities from left to right."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from corruption.apply import corrupt
    from utils.seeds import derive_generator

    cells = [[(name, severity) for name in names] for severity in SEVERITIES]
    single = len(names) == 1
    if single:
        cells = [[row[0] for row in cells]]
    rows, columns = len(cells), len(cells[0])

    ratio = image.shape[0] / image.shape[1]
    width = min((_WIDTH - _LEFT) / columns - _GAP, _MAX_CELL_WIDTH, _MAX_CELL_HEIGHT / ratio)
    width, height = max(width, 1), max(width * ratio, _MIN_CELL_HEIGHT)
    pitch = max(width, _LABEL_WIDTH) + _GAP
    total_width, total_height = _LEFT + columns * pitch, _TOP + rows * (height + _GAP)
    figure = Figure(figsize=(total_width / _DPI, total_height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))  # one for all images, in pixels: one for each would take seconds
    axes.set_axis_off()
    shown = min(pitch - _GAP, height / ratio)  # pixels across
    for row, column in np.ndindex(rows, columns):
        name, severity = cells[row][column]
        corrupted = corrupt(image, name, severity, derive_generator(seed, "grid", name, severity))
        x = _LEFT + column * pitch + (pitch - _GAP) / 2
        y = total_height - _TOP - row * (height + _GAP) - height / 2
        extent = (x - shown / 2, x + shown / 2, y - shown * ratio / 2, y + shown * ratio / 2)
        axes.imshow(corrupted, extent=extent, aspect="auto")
        labels = [name.replace("_", "\n"), f"severity {severity}"]
        top_label, left_label = reversed(labels) if single else labels
        if row == 0:
            axes.text(x, y + height / 2 + 6 * _DPI / 72, top_label, fontsize=9, ha="center", va="bottom")
        if column == 0:
            axes.text(_LEFT - 10, y, left_label, fontsize=9, ha="right", va="center")
    axes.set(xlim=(0, total_width), ylim=(0, total_height))
    return figure


def export(args: argparse.Namespace) -> None:
    """Exports a corrupted copy, prints its counts and, where a reader knows it, the command that tests on it."""
    from corruption.protocols import CorruptionPolicy, resolve_names
    from datasets.corrupted_copy import COPIED
    from datasets.export_copy import Export, export_copy

    severities = SEVERITIES if args.severity == "random" else (int(args.severity),)
    policy = CorruptionPolicy(resolve_names(args.types or ["all"]), severities, backend=args.backend)
    counts, num_written = export_copy(Export(args.data, args.out, policy, args.seed, args.repeat), workers=args.workers)
    print(
        f"{printable(args.out)}: complete; {counts['query']} query and {counts['gallery']} gallery images corrupted, "
        f"{counts.get('train', 0)} training images copied; {num_written} files written by this run"
    )
    source, copy = args.data.resolve().name, args.out.resolve()
    names = {directory: name for name, original in COPIED.items() for directory in original.directories}
    readable = source in names and counts.get("train")  # the reader needs training images as well
    if readable and copy.name.startswith(f"{source}-") and copy.name != f"{source}-":
        name = names[source] + copy.name.removeprefix(source)
        print(
            f"test on it: python test.py --config_file FILE TEST.WEIGHT CHECKPOINT DATASETS.ROOT_DIR "
            f"{printable(copy.parent)} DATASETS.NAMES {printable(name)} TEST.PROTOCOLS \"['clean']\""
        )


def make_parser() -> ArgumentParser:
    """The parser of the three commands."""
    parser = ArgumentParser(
        prog="python -m corruption", description="The 20 image corruptions, and twelve further ones."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="names and families", description="Prints name, family and description.")
    _add_grid(commands)
    _add_export(commands)
    return parser


def _add_grid(commands: argparse._SubParsersAction) -> None:
    grid = commands.add_parser(
        "grid", help="one image under corruptions at every severity", description="Plots corruptions x 5 severities."
    )
    grid.add_argument("--image", metavar="FILE", help="image to corrupt (default: a rendered pedestrian)")
    grid.add_argument("--out", metavar="FILE.png", required=True, type=Path, help="PNG to write")
    only = "corruption or family; may be repeated (default: all, the 20)"
    grid.add_argument("--type", metavar="NAME", action="append", dest="types", help=only)
    grid.add_argument("--seed", type=int, default=0, help="seed of the corruptions (default: %(default)s)")


def _add_export(commands: argparse._SubParsersAction) -> None:
    copy = commands.add_parser(
        "export",
        help="a corrupted copy of a data set on disk",
        description="Writes query and gallery corrupted, as PNG, and the training images as they are. Testing on the "
        "copy gives the metrics of testing on the fly with the same seed. An interrupted export continues where it "
        "stopped; a complete one is verified and repaired.",
    )
    copy.add_argument("--data", metavar="DIR", required=True, type=Path, help="data set in Market-1501's layout")
    copy.add_argument("--out", metavar="DIR", required=True, type=Path, help="the copy, e.g. data/market1501-C")
    copy.add_argument("--seed", type=at_least(0), default=0, help="SEED of the configuration (default: %(default)s)")
    repeat = "repeat to export, from 0 to TEST.REPEATS - 1 (default: %(default)s)"
    copy.add_argument("--repeat", type=at_least(0), default=0, help=repeat)
    selection = "corruption or family to sample from; may be repeated (default: all, the 20)"
    copy.add_argument("--type", metavar="NAME", action="append", dest="types", help=selection)
    severity = "of every image, or sampled for each (default: %(default)s)"
    copy.add_argument("--severity", choices=("random", *map(str, SEVERITIES)), default="random", help=severity)
    copy.add_argument("--backend", choices=BACKENDS, default="fast", help="implementation (default: %(default)s)")
    copy.add_argument("--workers", type=at_least(1), metavar="N", help="processes (default: one per processor)")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    args = expand_arguments(make_parser().parse_args(argv), "image", "data", "out")
    if args.command == "list":
        print_list()
    elif args.command == "grid":
        write_grid(args.image, args.types or ["all"], args.seed, args.out)
    else:
        export(args)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, OSError))
