"""Query images ranked against features that were saved before: test.py --gallery."""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from processor.evaluate import extract_features
from processor.ranked_lists import QueryRanking, report_rankings
from utils.distributed import is_main
from utils.errors import UserError
from utils.feature_files import FeatureFile
from utils.files import make_output_dir, write_files
from utils.metrics.approximate import ApproximateIndex, build_index, check_faiss, load_index, recall
from utils.metrics.nearest import Nearest, nearest
from utils.openmp import sharing_cores
from utils.stage_identity import weights_digest

logger = logging.getLogger(__name__)

OWN = 1  # the gallery may hold the query's own file, which is not ranked
COMPARED_QUERIES = 100  # whose exact neighbours an approximate search is compared with


@dataclass(frozen=True)
class SearchOptions:
    """How the gallery is searched.

    Attributes:
        kind: exact, or one of utils.metrics.approximate.KINDS.
        nprobe: lists of an approximate index that are searched for a query.
        top_k: images of each query in ranked.csv.
    """

    kind: str = "exact"
    nprobe: int = 32
    top_k: int = 100


@sharing_cores()
def do_gallery_search(
    cfg: CfgNode,
    queries: list[str],
    query_loader: Any,
    gallery: FeatureFile,
    model: nn.Module,
    *,
    device: torch.device,
    options: SearchOptions,
) -> None:
    """Writes ranked.csv and ranked.png of each query to cfg.OUTPUT_DIR, as `do_search` does, from saved features.

    Features are read by blocks, so the file may be larger than the memory. ranked.png needs the images of the gallery
    where the file says they are, and is left out without them. An approximate index is kept in OUTPUT_DIR and used
    again for the same file.

    Args:
        queries: paths of the query images.
        query_loader: their batches, as datasets.make_query_loader makes them.
        gallery: features, with the `paths` of their images (without: their numbers) and perhaps the `root` of these.
        model: has `extract(images, camids, viewids)`, `test_feature`, `flip` and `feat_norm`.
        device: where to compute the queries' features.
        options: how to search.

    Raises:
        UserError: the features are of another model or another kind than this model gives.
    """
    if not is_main():
        return
    if options.kind != "exact":
        check_faiss()
    check_same_features(cfg, model, gallery)
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    query = extract_features(model.to(device), query_loader, device=device, title="queries").features.numpy()
    if query.shape[1] != gallery.features.shape[1]:
        raise UserError(
            f"{gallery.path}: features of {gallery.features.shape[1]} values, those of this model have "
            f"{query.shape[1]}; give the checkpoint that computed them (the file says: {gallery.text('weight') or '-'})"
        )
    k = min(options.top_k + OWN, len(gallery.features))
    found = _search(cfg, query, gallery, k, options, output_dir)
    root = gallery.text("root")
    rankings = [
        _ranking(one, gallery, root, indices, distances, options.top_k)
        for one, indices, distances in zip(queries, *found, strict=True)
    ]
    named = "paths" in gallery.others
    report_rankings(rankings, output_dir, root=root, metric=cfg.TEST.METRIC, named=named)


def check_same_features(cfg: CfgNode, model: Any, gallery: FeatureFile) -> None:
    """Checks what a file of features tells about how they were computed. Files of earlier versions do not tell their
    weights: then another name of the checkpoint is warned of.

    Raises:
        UserError: other weights, another test feature, mirrored or not, of unit norm or not, or another image size.
    """
    here = {
        "feature": ("TEST.FEATURE", str(model.test_feature)),
        "flip": ("TEST.FLIP", str(bool(model.flip))),
        "feat_norm": ("TEST.FEAT_NORM", str(bool(model.feat_norm))),
    }
    differences = [
        f"{key} {there}, now {now}"
        for name, (key, now) in here.items()
        if (there := gallery.text(name)) and there != now
    ]
    size = gallery.others.get("size")
    if size is not None and (there := np.asarray(size[:]).tolist()) != list(cfg.INPUT.SIZE_TEST):
        differences.append(f"INPUT.SIZE_TEST {there}, now {list(cfg.INPUT.SIZE_TEST)}")
    if differences:
        raise UserError(
            f"{gallery.path}: its features were computed with {'; '.join(differences)}; distances between the two mean "
            "nothing. Give the file's settings, or compute its features anew with --images"
        )
    weight, digest = gallery.text("weight"), gallery.text("weights_sha256")
    if digest and digest != weights_digest(cfg.TEST.WEIGHT):
        raise UserError(
            f"{gallery.path}: its features are of other weights (from {weight or 'a checkpoint without a name'}) than "
            f"those now in {cfg.TEST.WEIGHT}; distances between the two mean nothing. Give the checkpoint that "
            "computed them, or compute them anew with --images"
        )
    if weight and not digest and os.path.realpath(weight) != os.path.realpath(cfg.TEST.WEIGHT):
        logger.warning(
            "%s: features of checkpoint %s, queries of %s: if these are not the same weights, distances mean nothing",
            *(gallery.path, weight, cfg.TEST.WEIGHT),
        )


def _search(
    cfg: CfgNode, query: np.ndarray, gallery: FeatureFile, k: int, options: SearchOptions, output_dir: Path
) -> Nearest:
    metric = cfg.TEST.METRIC
    if options.kind == "exact":
        return nearest(query, gallery.features, k, metric=metric)
    index = _index(cfg, gallery, options.kind, output_dir)
    found = index.search(query, gallery.features, k, nprobe=options.nprobe)
    compared = query[:COMPARED_QUERIES]
    first = Nearest(found.indices[:COMPARED_QUERIES], found.distances[:COMPARED_QUERIES])
    logger.info(
        "--index %s --nprobe %d: recall of the exact top-%d is %.4f, over %d queries",
        *(options.kind, options.nprobe, k, recall(first, compared, gallery.features, k, metric=metric), len(compared)),
    )
    return found


def _index(cfg: CfgNode, gallery: FeatureFile, kind: str, output_dir: Path) -> ApproximateIndex:
    """The index of a file in `output_dir`, whose name tells file, kind and metric; else a new one, which is kept."""
    status = gallery.path.stat()
    made_of = (str(gallery.path.resolve()), status.st_size, status.st_mtime_ns, kind, cfg.TEST.METRIC, cfg.SEED)
    path = output_dir / f"{kind}-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.faiss"
    if path.exists():
        logger.info("index: %s, of an earlier search", path)
        return load_index(path, metric=cfg.TEST.METRIC)
    index = build_index(gallery.features, kind, metric=cfg.TEST.METRIC, seed=cfg.SEED)
    write_files({path: index.save})
    logger.info("index: %s", path)
    return index


def _ranking(
    query: str, gallery: FeatureFile, root: str, indices: np.ndarray, distances: np.ndarray, top_k: int
) -> QueryRanking:
    """The ranked gallery of a query, without its own file."""
    paths = gallery.others.get("paths")
    if paths is None:
        return QueryRanking(query, [str(index) for index in indices[:top_k]], distances[:top_k], len(gallery.features))
    names, own = [str(name) for name in paths[indices]], os.path.realpath(query)
    others = [row for row, name in enumerate(names) if os.path.realpath(os.path.join(root, name)) != own]
    count = len(gallery.features) - (len(names) - len(others))
    others = others[:top_k]
    return QueryRanking(query, [names[row] for row in others], distances[others], count)
