"""Features of the test sets and their retrieval metrics under every protocol: the one evaluation path."""

import contextlib
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from processor.batches import loading, side_inputs, to_device
from utils import distributed
from utils.errors import UserError
from utils.logging import on_console
from utils.metrics.evaluate import Evaluation, mean_metrics
from utils.metrics.reranking import ReRanking
from utils.openmp import sharing_cores
from utils.progress import ProgressBar
from utils.structures import Condition, DataBundle, FeatureSet, Protocol, RetrievalMetrics, Sides

logger = logging.getLogger(__name__)


@torch.inference_mode()
def extract_features(
    model: Any,
    loader: Any,
    *,
    device: torch.device,
    title: str = "features",
    sides: Sides | None = Sides(),  # noqa: B008 - frozen
    bar: ProgressBar | None = None,
) -> FeatureSet:
    """Test features of every image that `loader` yields, in its order, on the CPU.

    Args:
        model: has `extract(images, camids, viewids)`.
        loader: yields test batches.
        device: where the model is.
        title: of the progress bar, if it has its own.
        sides: see DataBundle.
        bar: of a longer task, in images; None: the loader gets a bar of its own, in batches.

    Raises:
        UserError: a feature that is not finite, by image; or a worker process of the loader was lost.
    """
    was_training = model.training
    model.eval()
    features, pids, camids, paths = [], [], [], []
    total = len(loader) if hasattr(loader, "__len__") else None
    shown = ProgressBar(title, total) if bar is None else bar
    with contextlib.closing(shown) if bar is None else contextlib.nullcontext(), loading(loader) as batches:
        for batch in batches:
            moved = to_device(batch, device)
            extracted = model.extract(moved["images"], *side_inputs(moved, sides)).float().cpu()
            broken = ~torch.isfinite(extracted).all(dim=1)
            if broken.any():
                path = batch["paths"][int(broken.nonzero()[0])]
                raise UserError(
                    f"image {path}: its feature is not finite; the checkpoint's weights are broken, train it again"
                )
            features.append(extracted)
            # Copies: a tensor of a worker process holds an open file for as long as any view of it lives.
            pids.append(batch["pids"].numpy().copy())
            camids.append(batch["camids"].numpy().copy())
            paths.extend(batch["paths"])
            shown.update(1 if bar is None else len(batch["paths"]) * distributed.world_size())
    model.train(was_training)
    if not features:  # fewer images than processes
        return FeatureSet(torch.zeros(0, 0), np.zeros(0, np.int64), np.zeros(0, np.int64), ())
    return FeatureSet(torch.cat(features), np.concatenate(pids), np.concatenate(camids), tuple(paths))


def gather_features(shard: FeatureSet) -> FeatureSet:
    """The features of all processes, each of which extracted a shard."""
    shards = distributed.all_gather_objects(shard)
    if len(shards) == 1:
        return shard
    return FeatureSet(
        torch.cat([one.features for one in shards if one.paths]),
        np.concatenate([one.pids for one in shards]),
        np.concatenate([one.camids for one in shards]),
        tuple(path for one in shards for path in one.paths),
    )


class FeatureCache:
    """Features by (split, condition, repeat), each extracted once; `drop` frees those that are no longer needed.

    Where every repeat samples its gallery, the features of all test images are extracted once for a condition and a
    repeat, under the label "query", whichever of them are the gallery.

    Args:
        model: has `extract(images, camids, viewids)`.
        data: what to test on.
        device: where to compute features.
    """

    def __init__(self, model: nn.Module, data: DataBundle, *, device: torch.device) -> None:
        self.model, self.data, self.device = model.to(device), data, device
        self.kept: dict[tuple[str, Condition, int], FeatureSet] = {}
        self.bar: ProgressBar | None = None  # of a longer task, in images

    def get(self, split: str, condition: Condition, repeat: int) -> FeatureSet:
        """Features of "query" or "gallery" under `condition`; clean images are the same in every repeat."""
        if self.data.sample_gallery is None:
            return self._extract(split, condition, repeat)
        return _rows(self._extract(split, condition, repeat), self.indices(split, repeat))

    def indices(self, split: str, repeat: int) -> np.ndarray:
        """Which images of data.splits are "query" or "gallery" in a repeat: all, unless it samples its gallery."""
        if self.data.sample_gallery is None:
            return np.arange(len(getattr(self.data.splits, split)))
        is_gallery = self.data.sample_gallery(repeat)
        return np.flatnonzero(is_gallery if split == "gallery" else ~is_gallery)

    def read_image(self, split: str, index: int, condition: Condition, repeat: int) -> np.ndarray:
        """The image of a row of `get`, at its own size, (H, W, 3) uint8 RGB."""
        label = split if self.data.sample_gallery is None else "query"
        return self.data.read_test_image(label, int(self.indices(split, repeat)[index]), condition, repeat)

    def _extract(self, split: str, condition: Condition, repeat: int) -> FeatureSet:
        key = self._key(split, condition, repeat)
        split, condition, repeat = key
        if key not in self.kept:
            loader, title = self.data.test_loader(split, condition, repeat), f"{split} {condition.corruption} {repeat}"
            sides = self.data.sides
            options: Any = {"device": self.device, "title": title, "sides": sides, "bar": self.bar}
            found = extract_features(self.model, loader, **options)
            found = gather_features(found)
            self.kept[key] = found if self.data.splits.has_cameras else self._number_files(found)
        return self.kept[key]

    def _key(self, split: str, condition: Condition, repeat: int) -> tuple[str, Condition, int]:
        """Of `kept`: see the class; clean images are the same in every repeat."""
        return (
            split if self.data.sample_gallery is None else "query",
            condition,
            0 if condition.is_clean else repeat,
        )

    def num_images(self, sides: Iterable[tuple[str, Condition, int]]) -> int:
        """How many images `get` reads for the arguments `sides` together, beside those it has."""
        keys = {self._key(*side) for side in sides} - self.kept.keys()
        return sum(len(getattr(self.data.splits, split)) for split, _, _ in keys)

    def _number_files(self, found: FeatureSet) -> FeatureSet:
        """Replaces the unknown cameras by a number for each file: the junk rule (same identity, same camera) then
        leaves out the query's own file alone."""
        splits = self.data.splits
        files = {record.path: os.path.realpath(record.path) for record in (*splits.query, *splits.gallery)}
        numbers = {file: number for number, file in enumerate(sorted(set(files.values())))}
        return replace(found, camids=np.array([numbers[files[path]] for path in found.paths]))

    def drop(self, *, needed: set[Condition]) -> None:
        """Frees corrupted features except those of `needed` conditions and of the first sampled repeat, which ranked
        lists show and files hold."""
        self.kept = {
            (split, condition, repeat): features
            for (split, condition, repeat), features in self.kept.items()
            if condition.is_clean or condition in needed or (condition.is_sampled and repeat == 0)
        }


def _rows(found: FeatureSet, indices: np.ndarray) -> FeatureSet:
    paths = tuple(found.paths[index] for index in indices)
    return FeatureSet(found.features[indices], found.pids[indices], found.camids[indices], paths)


def make_evaluation(cfg: CfgNode, *, plain: bool = False) -> Evaluation:
    """Metric and conventions of cfg.TEST, without its re-ranking and query expansion if `plain`."""
    test = cfg.TEST
    evaluation = Evaluation(test.METRIC, test.AP, test.CMC, cfg.SEED)
    if plain:
        return evaluation
    settings = ReRanking(test.RE_RANKING_K1, test.RE_RANKING_K2, test.RE_RANKING_LAMBDA)
    re_ranking = settings if test.RE_RANKING else None
    return replace(evaluation, re_ranking=re_ranking, query_expansion=test.QUERY_EXPANSION)


def describe_evaluation(cfg: CfgNode, evaluation: Evaluation) -> dict:
    """For results.json: see Evaluation.describe; with TEST.FLIP also "flip"."""
    return evaluation.describe() | ({"flip": True} if cfg.TEST.FLIP else {})


@sharing_cores()
def do_inference(
    model: nn.Module,
    data: DataBundle,
    protocols: tuple[Protocol, ...],
    *,
    device: torch.device,
    repeats: int = 10,
    evaluation: Evaluation = Evaluation(),  # noqa: B008 - frozen
) -> dict[str, RetrievalMetrics]:
    """Evaluates `model` on `data`; see `evaluate_protocols`."""
    return evaluate_protocols(FeatureCache(model, data, device=device), protocols, repeats, evaluation)


def evaluate_protocols(
    cache: FeatureCache, protocols: tuple[Protocol, ...], repeats: int, evaluation: Evaluation
) -> dict[str, RetrievalMetrics]:
    """Evaluates the model of `cache` under every protocol.

    Each repeat samples new corrupted query and gallery sets, and all protocols of a repeat use the same sets. With
    VehicleID it also samples which images are the gallery, in protocol clean too. Corrupted
    features are freed once no later protocol of the repeat needs them: of a corruption matrix, one cell at a time is in
    memory.

    Args:
        cache: features by condition; afterwards it still holds the clean ones and those of the first sampled repeat.
        protocols: conditions of query and gallery.
        repeats: of the corrupted protocols; clean is evaluated once, unless every repeat samples its gallery.
        evaluation: metric, conventions and re-ranking.

    Returns:
        Metrics by protocol name: the mean over the repeats, with each repeat in `.repeats`.
    """
    rows: dict[str, list[RetrievalMetrics]] = {protocol.name: [] for protocol in protocols}
    clean_repeats = 1 if cache.data.sample_gallery is None else repeats
    runs = [
        (position, protocol, repeat)
        for repeat in range(repeats)
        for position, protocol in enumerate(protocols)
        if not protocol.is_clean or repeat < clean_repeats
    ]
    sides = ((side, getattr(protocol, side), repeat) for _, protocol, repeat in runs for side in ("query", "gallery"))
    with ProgressBar("test", cache.num_images(sides)) as cache.bar:
        last = ""
        for position, protocol, repeat in runs:
            title = f"{protocol.name}, repeat {repeat + 1}/{clean_repeats if protocol.is_clean else repeats}"
            cache.bar.show(*filter(None, (title, last)))
            query = cache.get("query", protocol.query, repeat)
            gallery = cache.get("gallery", protocol.gallery, repeat)
            metrics = evaluation(query, gallery)
            rows[protocol.name].append(metrics)
            values, last = (metrics.mINP, metrics.mAP, metrics.rank(1)), f"mAP {100 * metrics.mAP:.1f}"
            extra = on_console(None) if cache.bar.is_drawn else {}
            logger.info("%s: mINP %.4f, mAP %.4f, Rank-1 %.4f", title, *values, extra=extra)
            cache.drop(needed={side for later in protocols[position + 1 :] for side in (later.query, later.gallery)})
    cache.bar = None
    return {name: mean_metrics(repeated) for name, repeated in rows.items()}
