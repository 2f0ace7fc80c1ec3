"""Features of any pictures, and the pictures of a directory ranked by their distance from one of them."""

import logging
import os
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from processor.evaluate import extract_features
from processor.plots import RankedRow, save_ranked_lists
from utils.distributed import is_main
from utils.errors import UserError
from utils.files import make_output_dir, write_files
from utils.images import read_image
from utils.metrics.evaluate import distance_rows
from utils.text import format_csv, printable

logger = logging.getLogger(__name__)

BLOCK = 64  # batches whose features are in memory
ANSWERS = 10  # shown and logged
SHOWN_SIZE = (256, 512)  # width and height in pixels that a shown picture is scaled down to


def do_search(cfg, pictures, model: nn.Module, *, device: torch.device) -> None:
    """Writes features.npz and, where there is a query, ranked.csv and ranked.png to cfg.OUTPUT_DIR.

    features.npz: `features` (N, D) float32, `paths` (N,) relative to `root`, the directory as given, `weight`, and what
    decides the features: `feature`, `feat_norm` and `size` (height, width). ranked.csv: rank, path and distance of
    every picture but the query's own file, nearest first, ties in the order of paths; the distance is Euclidean (not
    squared) or 1 - cosine. A name that is not valid UTF-8 stands in both with its own bytes, by way of surrogates; in
    ranked.csv one that a spreadsheet would take for a formula has an apostrophe before it.

    Features are written as they come: a few numbers for each picture stay in memory, not its feature.

    Args:
        pictures: a datasets.PictureLoader.
        model: has `extract(images, camids, viewids)`, `test_feature` and `feat_norm`.

    Raises:
        UserError: a feature that is not finite, or nothing to rank.
    """
    if not is_main():  # which has all pictures, and writes alone
        return
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    others = None if pictures.query is None else _without_query(pictures)
    model = model.to(device)
    blocks = extract_blocks(model, pictures.loader, device=device)
    distances: list[np.ndarray] = []
    if others is not None:
        query = extract_features(model, pictures.query_loader, device=device, title="query").features
        blocks = _measured(blocks, query, distances, metric=cfg.TEST.METRIC)
    arrays = {
        "paths": np.array(pictures.paths), "root": np.array(pictures.directory), "weight": np.array(cfg.TEST.WEIGHT),
        "feature": np.array(model.test_feature), "feat_norm": np.array(model.feat_norm),
        "size": np.array(cfg.INPUT.SIZE_TEST),
    }  # fmt: skip
    features = output_dir / "features.npz"
    # The first block outside write_files: an error of the model's is then told as what it is.
    blocks = chain([next(blocks)], blocks)
    write_files({features: partial(_write_features, blocks=blocks, count=len(pictures.paths), arrays=arrays)})
    logger.info("features of %d pictures below %s: %s", len(pictures.paths), pictures.directory, features)
    if others is not None:
        all_distances = np.concatenate(distances)
        ranking = others[np.argsort(all_distances[others], kind="stable")]
        _report_ranking(pictures, ranking, all_distances[ranking], output_dir, metric=cfg.TEST.METRIC)


def extract_blocks(model: nn.Module, loader, *, device: torch.device) -> Iterator[torch.Tensor]:
    """Test features of every picture that `loader` yields, in its order, in blocks (rows, D)."""
    batches = iter(loader)
    for start in range(0, len(loader), BLOCK):
        title = f"features, batches {start + 1} to {min(start + BLOCK, len(loader))} of {len(loader)}"
        yield extract_features(model, islice(batches, BLOCK), device=device, title=title).features


def _without_query(pictures) -> np.ndarray:
    """Indices of the pictures that are other files than the query."""
    own = os.path.realpath(pictures.query)
    places = (os.path.join(pictures.directory, path) for path in pictures.paths)
    others = np.flatnonzero([os.path.realpath(place) != own for place in places])
    if not len(others):
        raise UserError(f"{pictures.directory}: no picture below it but the query itself; expected some to rank")
    return others


def _measured(
    blocks: Iterable[torch.Tensor], query: torch.Tensor, distances: list[np.ndarray], *, metric: str
) -> Iterator[torch.Tensor]:
    """Yields the blocks and appends the distances of their rows to `distances`, computed in float64: what float32
    leaves of 1 - cosine between like pictures is rounding."""
    for block in blocks:
        distances.append(distance_rows(query.double(), block.double(), metric=metric)[0].clamp_min(0).numpy())
        yield block


def _write_features(path: Path, *, blocks: Iterator[torch.Tensor], count: int, arrays: dict[str, np.ndarray]) -> None:
    """Writes a file as numpy.savez does, with `features` (count, D) from `blocks` (rows, D) beside `arrays`."""
    first = next(blocks)
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, first.shape[1])}
            np.lib.format.write_array_header_1_0(member, header)
            for block in chain([first], blocks):
                member.write(block.numpy().astype("<f4").tobytes())
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _report_ranking(pictures, ranking: np.ndarray, distances: np.ndarray, output_dir: Path, *, metric: str) -> None:
    """Writes ranked.csv and ranked.png and logs the first answers; `distances` are those of `ranking`."""
    paths = [pictures.paths[index] for index in ranking]
    table, picture = output_dir / "ranked.csv", output_dir / "ranked.png"
    write_files({table: partial(_write_ranking, paths=paths, distances=distances)})
    best, nearest = paths[:ANSWERS], distances[:ANSWERS]
    row = RankedRow(
        title="",
        query=_shown(pictures.query),
        answers=[_shown(os.path.join(pictures.directory, path)) for path in best],
        correct=[None] * len(best),
        notes=[f"{distance:.3f}" for distance in nearest],
    )
    name = printable(os.path.basename(pictures.query))
    title = f"{name}\nfirst {len(best)} of {len(paths)} pictures, {metric} distance"
    save_ranked_lists(picture, [row], title=title)
    lines = [f"{'rank':>4} {'distance':>9}  path"]
    lines += [
        f"{rank:>4} {distance:>9.4f}  {printable(path)}"
        for rank, (path, distance) in enumerate(zip(best, nearest, strict=True), start=1)
    ]
    logger.info("query %s, first %d of %d pictures, %s distance:\n%s", pictures.query, len(best),
                len(paths), metric, "\n".join(lines))  # fmt: skip
    logger.info("all of them in rank order: %s; the first ones: %s", table, picture)


def _write_ranking(path: Path, *, paths: list[str], distances: np.ndarray) -> None:
    rows = (  # features are float32: more digits say nothing
        (rank, name, f"{distance:.7g}") for rank, (name, distance) in enumerate(zip(paths, distances, strict=True), 1)
    )
    path.write_bytes(format_csv(["rank", "path", "distance"], rows).encode("utf-8", "surrogateescape"))


def _shown(path: str) -> np.ndarray:
    picture = Image.fromarray(read_image(path))
    picture.thumbnail(SHOWN_SIZE)
    return np.asarray(picture)
