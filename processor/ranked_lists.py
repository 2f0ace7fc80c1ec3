"""Ranked galleries of query images, as test.py --query writes them: ranked.csv, ranked.png and lines of the log."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from processor.plots import RankedRow, save_ranked_lists
from utils.errors import UserError
from utils.escaping import format_csv, printable
from utils.files import write_files
from utils.images import read_image
from utils.tables import make_table

logger = logging.getLogger(__name__)

TOP_K = 10  # images shown and logged
SHOWN_QUERIES = 20
SHOWN_SIZE = (256, 512)  # width and height in pixels that a shown image is scaled down to


@dataclass(frozen=True)
class QueryRanking:
    """A query and its ranked gallery, nearest first.

    Attributes:
        query: path of the image.
        paths: of the gallery images, relative to the root of the gallery.
        distances: as many.
        count: images that were ranked; `paths` may be the first of them alone.
    """

    query: str
    paths: Sequence[str]
    distances: np.ndarray
    count: int


def report_rankings(
    rankings: Sequence[QueryRanking], output_dir: Path, *, root: str, metric: str, named: bool = True
) -> None:
    """Writes ranked.csv and ranked.png and logs the top-10 of each query.

    Args:
        rankings: one for each query.
        output_dir: where to write.
        root: directory that the paths are relative to.
        metric: of the distances.
        named: whether the paths are paths; else numbers of rows, whose images nothing tells.
    """
    listing, figure = output_dir / "ranked.csv", output_dir / "ranked.png"
    write_files({listing: partial(_write_table, rankings=rankings)})
    for ranking in rankings:
        top = list(zip(ranking.paths[:TOP_K], ranking.distances[:TOP_K], strict=True))
        rows = [(rank, f"{distance:.4f}", printable(path)) for rank, (path, distance) in enumerate(top, start=1)]
        table = make_table(["rank", "distance", "path"], rows, "rrl")
        logger.info("query %s, %s:\n%s", ranking.query, _title(ranking, metric), table)
    if not named:
        logger.info("ranked gallery: %s, by row from 0: the features have no paths, so no images to draw", listing)
        return
    try:
        shown = [_row(ranking, root, several=len(rankings) > 1) for ranking in rankings[:SHOWN_QUERIES]]
    except UserError as error:
        logger.warning("%s is not drawn, for want of an image: %s", figure, error)
        logger.info("ranked gallery: %s", listing)
        return
    title = f"{len(rankings)} queries, top-{TOP_K}, {metric} distance"
    if len(rankings) == 1:
        title = f"{printable(os.path.basename(rankings[0].query))}\n{_title(rankings[0], metric)}"
    save_ranked_lists(figure, shown, title=title)
    logger.info("ranked gallery: %s; its top-%d: %s", listing, min(TOP_K, len(rankings[0].paths)), figure)


def _title(ranking: QueryRanking, metric: str) -> str:
    return f"top-{min(TOP_K, len(ranking.paths))} of {ranking.count} images, {metric} distance"


def _row(ranking: QueryRanking, root: str, *, several: bool) -> RankedRow:
    top = ranking.paths[:TOP_K]
    return RankedRow(
        title=printable(os.path.basename(ranking.query)) if several else "",
        query=_thumbnail(ranking.query),
        gallery=[_thumbnail(os.path.join(root, path)) for path in top],
        correct=[None] * len(top),
        notes=[f"{distance:.3f}" for distance in ranking.distances[:TOP_K]],
    )


def _write_table(path: Path, *, rankings: Sequence[QueryRanking]) -> None:
    columns = ["rank", "path", "distance"]
    rows: Iterator[tuple] = (
        (ranking.query, rank, name, f"{distance:.7g}")  # features are float32: more digits mean nothing
        for ranking in rankings
        for rank, (name, distance) in enumerate(zip(ranking.paths, ranking.distances, strict=True), 1)
    )
    if len(rankings) > 1:
        columns = ["query", *columns]
    else:
        rows = (row[1:] for row in rows)
    path.write_bytes(format_csv(columns, rows).encode("utf-8", "surrogateescape"))


def _thumbnail(path: str) -> np.ndarray:
    image = Image.fromarray(read_image(path))
    image.thumbnail(SHOWN_SIZE)
    return np.asarray(image)
