"""A whole test: metrics, result files, the ranked-list picture and the table."""

import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn

from processor.inference import FeatureBank, do_inference
from utils.errors import UserError
from utils.files import make_output_dir
from utils.metrics import distance_rows, rank_gallery
from utils.plots import RankedRow, save_ranked_lists
from utils.results import format_table, make_results, read_results, write_results
from utils.structures import Condition, DataBundle, Protocol

logger = logging.getLogger(__name__)

ANSWERS = 10  # shown for each query


def check_test_settings(cfg) -> list[dict]:
    """Refuses, before any work, a test that could not end well; returns the results that TEST.COMPARE names."""
    if cfg.TEST.RE_RANKING:
        raise UserError("TEST.RE_RANKING True: re-ranking is not built in this version; set it to False")
    return [read_results(directory) for directory in cfg.TEST.COMPARE]


def do_test(
    cfg, data: DataBundle, model: nn.Module, protocols: tuple[Protocol, ...], *, device: torch.device, weight: str
) -> dict:
    """Tests `model` and writes results.json, results.csv and, with TEST.RANKED_QUERIES, ranked_list.png.

    Args:
        weight: the checkpoint that the model came from, for the record.

    Returns:
        The content of results.json.
    """
    compared = check_test_settings(cfg)
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    bank = FeatureBank(model, data, device=device)
    results = do_inference(model, data, protocols, device=device, repeats=cfg.TEST.REPEATS, bank=bank)
    content = make_results(results, dataset=data.splits.name, weight=weight, seed=cfg.SEED)
    write_results(output_dir, content, results, protocols)
    logger.info("%s on %s, percent, mean ± standard deviation over the draws of the corruption:\n%s",
                weight, data.splits.name, format_table([content, *compared]))  # fmt: skip
    logger.info("results: %s and results.csv", output_dir / "results.json")
    if cfg.TEST.RANKED_QUERIES:
        path = output_dir / "ranked_list.png"
        draw_ranked_lists(bank, data, path, num_queries=cfg.TEST.RANKED_QUERIES)
        logger.info("ranked lists: %s", path)
    return content


def draw_ranked_lists(bank: FeatureBank, data: DataBundle, path: Path, *, num_queries: int) -> None:
    """Draws the best answers of some queries, spread evenly over the query set, clean and corrupted."""
    chosen = np.unique(np.linspace(0, len(data.splits.query) - 1, num_queries).round().astype(int))
    rows = []
    for index in chosen:
        for condition in (Condition(), Condition("random")):
            query, gallery = bank.get("query", condition, 0), bank.get("gallery", condition, 0)
            distances = distance_rows(query.features[index : index + 1], gallery.features)[0].numpy()
            pid, camid = query.pids[index], query.camids[index]
            best = rank_gallery(distances, pid, camid, gallery.pids, gallery.camids)[:ANSWERS]
            rows.append(
                RankedRow(
                    title=f"pid {pid}, {'clean' if condition.is_clean else 'corrupted'}",
                    query=data.read_picture("query", int(index), condition, 0),
                    answers=[data.read_picture("gallery", int(i), condition, 0) for i in best],
                    correct=[bool(gallery.pids[i] == pid) for i in best],
                )
            )
    save_ranked_lists(path, rows, title=f"{data.splits.name}: queries and their first {ANSWERS} answers")
