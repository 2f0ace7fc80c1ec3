"""Renders the images of README.md and of the documents from the synthetic set: no image shows a real person.

python docs/render_images.py logs/demo logs/demo/clean [--out docs/images]

The two directories are those that `make demo` leaves: of CFAT, and of the clean-trained model.

corruptions.jpg    one rendered person under corruptions of every family
ranking.jpg        corrupted queries with the first images of the clean gallery, by both models. The queries are not
                   chosen by hand: they are those at the 90th, 50th and 10th percentile of the difference in average
                   precision, so one of them may be ranked worse by CFAT.
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from config import load_cfg
from corruption import corrupt
from datasets import make_dataloader
from datasets.synthetic.render import Shot, render_image
from model import load_tested_model
from processor.evaluate import FeatureCache, make_evaluation
from processor.plots import FRAMES, figure_style
from utils.devices import pick_device
from utils.files import make_output_dir
from utils.metrics.evaluate import distance_rows
from utils.metrics.reference import rank_gallery
from utils.seeds import derive_generator
from utils.structures import Condition

SEED, SHOT, SEVERITY = 1, Shot(pid=14, camera=0, index=0), 4
SHOWN = (
    *("gaussian_noise", "impulse_noise", "motion_blur", "defocus_blur", "fog", "snow"),
    *("rain", "spatter", "saturate", "pixelate", "jpeg_compression"),
)
TOP = 5
PERCENTILES = (90, 50, 10)  # of the queries, by how much CFAT gains
DPI = 100
CELL_WIDTH, CELL_HEIGHT, GAP, LABEL = 84, 168, 6, 20  # pixels
QUALITY = 88  # of JPEG


class Ranked(NamedTuple):
    """What a model makes of the corrupted queries: (Q,) average precision, and a way to see a ranked gallery.

    Attributes:
        order: indices of the first TOP gallery images of each query, (Q, TOP).
        correct: whether each has the query's identity, (Q, TOP).
    """

    cache: FeatureCache
    average_precision: np.ndarray
    order: np.ndarray
    correct: np.ndarray


def rank(directory: Path) -> Ranked:
    """Ranks the clean gallery for every corrupted query of the first repeat, with the model tested in `directory`."""
    cfg = load_cfg(str(directory / "config.yml"), [])
    weight = json.loads((directory / "results.json").read_text(encoding="utf-8"))["weight"]
    data = make_dataloader(cfg, with_train=False)
    tested = load_tested_model(cfg, weight, [one.numbers for one in data.test_sets])
    cache = FeatureCache(tested.model, data.with_sides(tested.sides), device=pick_device(cfg.MODEL.DEVICE))
    query, gallery = cache.get("query", Condition("random"), 0), cache.get("gallery", Condition(), 0)
    metrics = make_evaluation(cfg)(query, gallery)
    orders = []
    for index, (pid, camid) in enumerate(zip(query.pids, query.camids, strict=True)):
        distances = distance_rows(query.features[index : index + 1], gallery.features, metric=cfg.TEST.METRIC)[0]
        orders.append(rank_gallery(distances.numpy(), pid, camid, gallery.pids, gallery.camids)[:TOP])
    order = np.stack(orders)
    return Ranked(cache, metrics.per_query[:, 0], order, gallery.pids[order] == query.pids[:, None])


def choose_queries(gains: np.ndarray) -> list[int]:
    """Queries at PERCENTILES of the gain in average precision, among those where it is not 0; largest gain first."""
    changed = np.flatnonzero(np.abs(gains) > 1e-6)
    by_gain = changed[np.argsort(gains[changed], kind="stable")]
    return [int(by_gain[round(share / 100 * (len(by_gain) - 1))]) for share in PERCENTILES]


class Canvas:
    """A figure on which images are put by pixels, from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def image(self, image: np.ndarray, left: int, top: int, frame: tuple[str, str] | None = None) -> None:
        """An image of CELL_WIDTH x CELL_HEIGHT; `frame`: colour of its frame, and mark in its corner."""
        size = (CELL_WIDTH / self.width, CELL_HEIGHT / self.height)
        axes = self.figure.add_axes((left / self.width, 1 - (top + CELL_HEIGHT) / self.height, *size))
        axes.imshow(image, aspect="auto", interpolation="lanczos")
        axes.set_axis_off()
        if frame is not None:
            colour, mark = frame
            axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=colour, linewidth=7))
            box = {"facecolor": colour, "edgecolor": colour, "pad": 1.5}
            axes.text(0.93, 0.95, mark, transform=axes.transAxes, color="white", ha="right", va="top", bbox=box)

    def text(self, text: str, left: float, top: float, **options) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, text, **{"fontsize": 8, "va": "center", **options})

    def write(self, path: Path) -> None:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI)
        image = Image.open(buffer).convert("RGB")
        image.save(path, "JPEG", quality=QUALITY, optimize=True)


def render_corruptions(path: Path) -> None:
    """One person, clean and under SHOWN, at severity SEVERITY."""
    clean = np.asarray(Image.open(io.BytesIO(render_image(SEED, SHOT))))
    cells = [("clean", clean)]
    for name in SHOWN:
        corrupted = corrupt(clean, name, SEVERITY, derive_generator(SEED, "documents", name))
        cells.append((name.replace("_", " ").replace(" compression", ""), corrupted))
    pitch = CELL_WIDTH + GAP
    canvas = Canvas(len(cells) * pitch - GAP, LABEL + CELL_HEIGHT)
    for column, (name, image) in enumerate(cells):
        canvas.text(name, column * pitch + CELL_WIDTH / 2, LABEL / 2, ha="center")
        canvas.image(image, column * pitch, LABEL)
    canvas.write(path)


def render_ranking(path: Path, cfat: Ranked, baseline: Ranked) -> None:
    """A row for each of PERCENTILES: the query, the first images by the clean-trained model, then by CFAT."""
    queries = choose_queries(cfat.average_precision - baseline.average_precision)
    pitch, between, left = CELL_WIDTH + GAP, 26, CELL_WIDTH + 26
    starts = (left, left + TOP * pitch - GAP + between)
    row_height = CELL_HEIGHT + LABEL + GAP
    canvas = Canvas(starts[1] + TOP * pitch - GAP, LABEL + len(queries) * row_height - GAP)
    bold = {"weight": "bold", "fontsize": 9}
    titles = ("query", "clean-trained: first five of the gallery", "CFAT: first five of the gallery")
    for start, title in zip((0, *starts), titles, strict=True):
        canvas.text(title, start, LABEL / 2, **bold)
    for row, query in enumerate(queries):
        top = LABEL + row * row_height
        canvas.image(cfat.cache.read_image("query", query, Condition("random"), 0), 0, top + LABEL)
        for start, model in zip(starts, (baseline, cfat), strict=True):
            average_precision = 100 * model.average_precision[query]
            canvas.text(f"average precision {average_precision:.0f} %", start, top + LABEL / 2)
            for place, (index, correct) in enumerate(zip(model.order[query], model.correct[query], strict=True)):
                image = model.cache.read_image("gallery", int(index), Condition(), 0)
                canvas.image(image, start + place * pitch, top + LABEL, FRAMES[bool(correct)])
    canvas.write(path)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cfat", type=Path, help="OUTPUT_DIR of the test of CFAT, e.g. logs/demo")
    parser.add_argument("baseline", type=Path, help="of the clean-trained model, e.g. logs/demo/clean")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    args = parser.parse_args(argv)
    make_output_dir(args.out)
    with figure_style():
        render_corruptions(args.out / "corruptions.jpg")
        render_ranking(args.out / "ranking.jpg", rank(args.cfat), rank(args.baseline))


if __name__ == "__main__":
    main()
