"""Where a vision transformer looks: attention maps of some queries, clean and corrupted."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import default_collate

from processor.batches import side_inputs, to_device
from processor.plots import AttentionRow, save_attention
from utils.escaping import printable
from utils.structures import Condition, DataBundle

logger = logging.getLogger(__name__)

CONDITIONS = (Condition(), Condition("random"))  # clean, and the first random repeat, which ranked lists show


def save_attention_maps(
    model: Any, data: DataBundle, path: Path, *, queries: Sequence[int], device: torch.device
) -> None:
    """Plots the attention maps of `queries`, indices into the query set, clean and corrupted.

    Args:
        model: on `device`, has `attend(images, camids, viewids)`; see model.reid.
        data: its test loaders are DataLoaders, whose `dataset` gives single images.
        path: of the PNG.
    """
    rows, correlations = [], []
    for index in queries:
        clean, corrupted = attention_maps(model, data, index, device)
        correlations.append(correlation(clean, corrupted))
        record = data.splits.query[index]
        row = AttentionRow(
            title=f"pid {record.pid}, {printable(Path(record.path).name)}",
            caption=f"correlation of the two maps: {correlations[-1]:.2f}",
            images=[data.read_test_image("query", index, condition, 0) for condition in CONDITIONS],
            maps=(clean.numpy(), corrupted.numpy()),
        )
        rows.append(row)
    mean = sum(correlations) / len(correlations)
    title = (
        f"{printable(data.splits.title)}: attention rollout (Abnar, Zuidema 2020)\n"
        "share of every patch in the class token, 1: the mean patch\n"
        f"mean correlation of clean and corrupted maps: {mean:.2f}"
    )
    save_attention(path, rows, title=title)
    logger.info("attention maps: %s; clean and corrupted, %d queries, mean correlation %.2f", path, len(rows), mean)


@torch.inference_mode()
def attention_maps(
    model: Any,
    data: DataBundle,
    index: int,
    device: torch.device,
    conditions: Sequence[Condition] = CONDITIONS,
) -> torch.Tensor:
    """Maps (2, rows, columns) of a query under two conditions, clean and corrupted, on the CPU; their mean is 1."""
    was_training = model.training
    model.eval()
    loaders: list[Any] = [data.test_loader("query", condition, 0) for condition in conditions]
    samples = [loader.dataset[index] for loader in loaders]
    batch = to_device(default_collate(samples), device)
    shares = model.attend(batch["images"], *side_inputs(batch, data.sides)).float().cpu()
    model.train(was_training)
    return shares * shares[0].numel()


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Pearson's correlation of two maps; 0 where one of them is constant."""
    return F.cosine_similarity((first - first.mean()).flatten(), (second - second.mean()).flatten(), dim=0).item()
