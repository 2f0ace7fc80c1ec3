"""Features of any images, and the images of a directory ranked by their distance to a query image."""

import logging
import os
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from processor.evaluate import extract_features
from processor.feature_files import stored
from processor.ranked_lists import QueryRanking, report_rankings
from utils.distributed import is_main
from utils.errors import UserError
from utils.files import make_output_dir, write_files
from utils.metrics.evaluate import distance_rows
from utils.openmp import sharing_cores
from utils.progress import ProgressBar
from utils.stage_identity import weights_digest

logger = logging.getLogger(__name__)

CHUNK = 64  # batches whose features are in memory


@sharing_cores()
def do_search(cfg: CfgNode, images: Any, model: nn.Module, *, device: torch.device, top_k: int | None = None) -> None:
    """Writes features.npz and, with queries, ranked.csv and ranked.png to cfg.OUTPUT_DIR.

    features.npz: `features` (N, D) of type TEST.FEATURE_DTYPE, `paths` (N,) relative to `root`, the directory as given,
    `weight`, and what decides the features: `weights_sha256`, `feature`, `flip`, `feat_norm` and `size` (height,
    width). ranked.csv: rank, path and distance of every image but the query's own file, nearest first, ties in the
    order of paths, with the query in front where there are several; the distance is Euclidean (not squared) or
    1 - cosine, of the features in float32. A name that is not valid UTF-8 keeps its bytes in both files, as surrogates;
    in ranked.csv a name that a spreadsheet would take for a formula has an apostrophe before it.

    Features are written in chunks: memory holds a few numbers for each image, not its feature.

    Args:
        images: what datasets.make_image_loader returns.
        model: has `extract(images, camids, viewids)`, `test_feature`, `flip` and `feat_norm`.
        device: where to compute features.
        top_k: images of each query in ranked.csv; None: all.

    Raises:
        UserError: a feature that is not finite, or nothing to rank.
    """
    if not is_main():  # the main process has all images, and writes alone
        return
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    galleries = _without_queries(images)
    model = model.to(device)
    chunks = extract_chunks(model, images.loader, device=device)
    distances: list[np.ndarray] = []
    if images.queries:
        query = extract_features(model, images.query_loader, device=device, title="query").features
        chunks = _measured(chunks, query, distances, metric=cfg.TEST.METRIC)
    arrays = {
        "paths": np.array(images.paths),
        "root": np.array(images.directory),
        "weight": np.array(cfg.TEST.WEIGHT),
        "weights_sha256": np.array(weights_digest(cfg.TEST.WEIGHT)),
        "feature": np.array(model.test_feature),
        "flip": np.array(model.flip),
        "feat_norm": np.array(model.feat_norm),
        "size": np.array(cfg.INPUT.SIZE_TEST),
    }
    path = output_dir / "features.npz"
    # The first chunk is computed outside write_files, which would report an error of the model as one of writing.
    chunks = chain([next(chunks)], chunks)
    count, dtype = len(images.paths), cfg.TEST.FEATURE_DTYPE
    write_files({path: partial(_write_features, chunks=chunks, count=count, dtype=dtype, arrays=arrays)})
    logger.info("features of %d images below %s: %s", len(images.paths), images.directory, path)
    if not images.queries:
        return
    rankings = []
    for query_path, gallery, row in zip(images.queries, galleries, np.concatenate(distances, axis=1), strict=True):
        ranking = gallery[np.argsort(row[gallery], kind="stable")][:top_k]
        paths = [images.paths[index] for index in ranking]
        rankings.append(QueryRanking(query_path, paths, row[ranking], len(gallery)))
    report_rankings(rankings, output_dir, root=images.directory, metric=cfg.TEST.METRIC)


def extract_chunks(model: nn.Module, loader: Any, *, device: torch.device) -> Iterator[torch.Tensor]:
    """Test features of every image that `loader` yields, in its order, in chunks (rows, D)."""
    batches = iter(loader)
    with ProgressBar("features", len(loader.dataset)) as bar:
        for _ in range(0, len(loader), CHUNK):
            yield extract_features(model, islice(batches, CHUNK), device=device, bar=bar).features


def _without_queries(images: Any) -> list[np.ndarray]:
    """For each query, the indices of the images that are other files."""
    own: dict[str, list[int]] = {os.path.realpath(query): [] for query in images.queries}
    for index, path in enumerate(images.paths if own else ()):
        rows = own.get(os.path.realpath(os.path.join(images.directory, path)))
        if rows is not None:
            rows.append(index)
    everything = np.arange(len(images.paths))
    galleries = [np.delete(everything, own[os.path.realpath(query)]) for query in images.queries]
    if not all(map(len, galleries)):
        raise UserError(f"{images.directory}: no image below it but the query itself; expected some to rank")
    return galleries


def _measured(
    chunks: Iterable[torch.Tensor], query: torch.Tensor, distances: list[np.ndarray], *, metric: str
) -> Iterator[torch.Tensor]:
    """Yields the chunks and appends the distances (Q, rows) to `distances`, computed in float64: in float32, 1 - cosine
    of similar images is rounding noise."""
    for chunk in chunks:
        distances.append(distance_rows(query.double(), chunk.double(), metric=metric).clamp_min(0).numpy())
        yield chunk


def _write_features(
    path: Path, *, chunks: Iterator[torch.Tensor], count: int, dtype: str, arrays: dict[str, np.ndarray]
) -> None:
    """Writes a file as numpy.savez does, with `features` (count, D) from `chunks` (rows, D) beside `arrays`.

    Not by open_memmap and numpy.savez: a memory map of a file on a full disk ends the process with SIGBUS.
    """
    first = next(chunks)
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as member:
            descr = stored(first, dtype).dtype.str
            header = {"descr": descr, "fortran_order": False, "shape": (count, first.shape[1])}
            np.lib.format.write_array_header_1_0(member, header)
            for chunk in chain([first], chunks):
                member.write(stored(chunk, dtype).tobytes())
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
