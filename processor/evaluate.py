"""Features of test sets and their retrieval metrics under every test setting: the one evaluation path."""

import logging
import os
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from processor.batches import loading, to_device
from utils import distributed
from utils.errors import UserError
from utils.metrics.evaluate import Evaluation, mean_metrics
from utils.metrics.reranking import ReRanking
from utils.structures import Condition, DataBundle, FeatureSet, Protocol, RetrievalMetrics

logger = logging.getLogger(__name__)


@torch.inference_mode()
def extract_features(model: nn.Module, loader, *, device: torch.device, title: str = "features") -> FeatureSet:
    """Test features of every picture that `loader` yields, in its order, on the CPU.

    Raises:
        UserError: a feature that is not finite, by image; or a worker process of the loader was lost.
    """
    was_training = model.training
    model.eval()
    parts, pids, camids, paths = [], [], [], []
    total = len(loader) if hasattr(loader, "__len__") else None
    with loading(loader) as batches:
        for batch in tqdm(batches, title, total, leave=False, disable=None):
            moved = to_device(batch, device)
            features = model.extract(moved["images"], moved["camids"], moved["viewids"]).float().cpu()
            broken = ~torch.isfinite(features).all(dim=1)
            if broken.any():
                path = batch["paths"][int(broken.nonzero()[0])]
                raise UserError(
                    f"picture {path}: its feature is not finite; the checkpoint's weights are broken, train anew"
                )
            parts.append(features)
            # Copies: a tensor of a worker process holds an open file for as long as any view of it lives.
            pids.append(batch["pids"].numpy().copy())
            camids.append(batch["camids"].numpy().copy())
            paths.extend(batch["paths"])
    model.train(was_training)
    if not parts:  # fewer pictures than processes
        return FeatureSet(torch.zeros(0, 0), np.zeros(0, np.int64), np.zeros(0, np.int64), ())
    return FeatureSet(torch.cat(parts), np.concatenate(pids), np.concatenate(camids), tuple(paths))


def gather_features(share: FeatureSet) -> FeatureSet:
    """The features of all processes, of each one's share."""
    shares = distributed.all_gather_objects(share)
    if len(shares) == 1:
        return share
    return FeatureSet(
        torch.cat([one.features for one in shares if one.paths]),
        np.concatenate([one.pids for one in shares]),
        np.concatenate([one.camids for one in shares]),
        tuple(path for one in shares for path in one.paths),
    )


class FeatureBank:
    """Features by (split, condition, repeat), each extracted once; `drop` frees what is not needed any more."""

    def __init__(self, model: nn.Module, data: DataBundle, *, device: torch.device) -> None:
        self.model, self.data, self.device = model.to(device), data, device
        self.kept: dict[tuple[str, Condition, int], FeatureSet] = {}

    def get(self, split: str, condition: Condition, repeat: int) -> FeatureSet:
        """Features of "query" or "gallery" under `condition`; clean pictures look alike in every repeat."""
        repeat = 0 if condition.is_clean else repeat
        key = (split, condition, repeat)
        if key not in self.kept:
            loader = self.data.test_loader(split, condition, repeat)
            title = f"{split} {condition.corruption} {repeat}"
            found = extract_features(self.model, loader, device=self.device, title=title)
            found = gather_features(found)
            self.kept[key] = found if self.data.splits.has_cameras else self._number_files(found)
        return self.kept[key]

    def _number_files(self, found: FeatureSet) -> FeatureSet:
        """The features with a number for each file in place of the unknown cameras: the junk rule, same person by same
        camera, then leaves out the query's own file alone."""
        splits = self.data.splits
        files = {record.path: os.path.realpath(record.path) for record in (*splits.query, *splits.gallery)}
        numbers = {file: number for number, file in enumerate(sorted(set(files.values())))}
        return replace(found, camids=np.array([numbers[files[path]] for path in found.paths]))

    def drop(self, *, needed: set[Condition]) -> None:
        """Forgets corrupted features but for `needed` conditions and the first random draw, which ranked lists show."""
        first = (Condition("random"), 0)
        self.kept = {
            key: value for key, value in self.kept.items() if key[1].is_clean or key[1] in needed or key[1:] == first
        }


def make_evaluation(cfg, *, re_ranking: bool) -> Evaluation:
    """Metric and conventions of cfg.TEST, with its re-ranking where that is wanted."""
    test = cfg.TEST
    settings = ReRanking(test.RE_RANKING_K1, test.RE_RANKING_K2, test.RE_RANKING_LAMBDA)
    return Evaluation(test.METRIC, test.AP, test.CMC, cfg.SEED, settings if re_ranking else None)


def do_inference(
    model: nn.Module,
    data: DataBundle,
    protocols: tuple[Protocol, ...],
    *,
    device: torch.device,
    repeats: int = 10,
    bank: FeatureBank | None = None,
    evaluation: Evaluation = Evaluation(),  # noqa: B008 - frozen
) -> dict[str, RetrievalMetrics]:
    """Evaluates `model` under every protocol.

    Clean features are extracted once; each repeat draws the corrupted query and gallery sets anew, and the protocols of
    a repeat pair the same sets. Corrupted features are freed once the protocols left in the repeat have no use for
    them: of a corruption matrix, one cell at a time is in memory.

    Args:
        model: has `extract(images, camids, viewids)`.
        data, protocols: what to test on, under which settings.
        device: where to compute features.
        repeats: draws of the corrupted sets.
        bank: features kept from, or for, other uses; it keeps the clean ones and those of the first random draw.
        evaluation: metric, conventions and re-ranking.

    Returns:
        Metrics by protocol name: the mean over the draws, with the single ones in `.repeats`.
    """
    bank = bank or FeatureBank(model, data, device=device)
    rows: dict[str, list[RetrievalMetrics]] = {protocol.name: [] for protocol in protocols}
    for repeat in range(repeats):
        for position, protocol in enumerate(protocols):
            if protocol.is_clean and repeat > 0:
                continue
            query = bank.get("query", protocol.query, repeat)
            gallery = bank.get("gallery", protocol.gallery, repeat)
            metrics = evaluation(query, gallery)
            rows[protocol.name].append(metrics)
            logger.info(
                "%s, draw %d/%d: mINP %.4f, mAP %.4f, Rank-1 %.4f", protocol.name, repeat + 1,
                1 if protocol.is_clean else repeats, metrics.mINP, metrics.mAP, metrics.rank(1),
            )  # fmt: skip
            bank.drop(needed={side for later in protocols[position + 1 :] for side in (later.query, later.gallery)})
    return {name: mean_metrics(repeated) for name, repeated in rows.items()}
