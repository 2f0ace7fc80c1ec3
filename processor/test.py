"""A whole test: metrics, result files, pictures and tables."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from processor.attention import draw_attention
from processor.comparisons import read_results
from processor.evaluate import FeatureBank, do_inference, make_evaluation
from processor.plots import RankedRow, save_corruption_matrix, save_ranked_lists
from processor.results import ResultFiles, format_matrix, format_table, make_results, make_rows
from processor.summary import log_summary
from utils.errors import UserError
from utils.files import make_output_dir, write_files, write_text
from utils.metrics.evaluate import distance_rows
from utils.metrics.ranking import rank_gallery
from utils.metrics.verification import format_verification, make_threshold_csv, verify
from utils.structures import Condition, DataBundle, Protocol
from utils.text import printable

logger = logging.getLogger(__name__)

ANSWERS = 10  # shown for each query


def check_test_settings(cfg) -> dict[str, dict]:
    """Refuses, before any work, a test that could not end well; returns the results that TEST.COMPARE names."""
    return {directory: read_results(directory) for directory in cfg.TEST.COMPARE}


def _read_compared(cfg, data: DataBundle, evaluation: dict) -> dict[str, dict]:
    """Those results again, when a test begins that training may have come before: one that cannot be read any more,
    or does not compare, is a warning, since it must not cost the results of this run."""
    compared = {}
    for directory in cfg.TEST.COMPARE:
        try:
            other = compared[directory] = read_results(directory)
        except UserError as error:
            logger.warning("TEST.COMPARE: %s. It is left out of the table", error)
            continue
        if other.get("evaluation") != evaluation:
            logger.warning("%s was evaluated otherwise (%s) than this test (%s): do not compare their figures",
                           other["weight"], other.get("evaluation"), evaluation)  # fmt: skip
        tested = (other.get("dataset", ""), other.get("dataset_version", ""))
        if tested != (data.splits.name, data.splits.version):
            logger.warning("%s was tested on other pictures (%s) than these (%s): do not compare their figures",
                           other["weight"], " ".join(tested).strip(), data.splits.title)  # fmt: skip
    return compared


def do_test(
    cfg,
    data: DataBundle,
    model: nn.Module,
    protocols: tuple[Protocol, ...],
    *,
    device: torch.device,
    weight: str,
    matrix: tuple[Protocol, ...] = (),
) -> dict:
    """Tests `model` and writes results.json and results.csv.

    With TEST.RANKED_QUERIES it also draws ranked_list.png, with TEST.ATTENTION_QUERIES attention.png, with a matrix
    corruption_matrix.png. The results of the settings are on disk before the matrix begins.

    Args:
        weight: the checkpoint that the model came from, for the record.
        matrix: cells of the corruption matrix; clean, which they are held against, is then tested in any case.

    Returns:
        The content of results.json.
    """
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    if matrix and not any(protocol.is_clean for protocol in protocols):
        protocols = (Protocol("clean"), *protocols)
    files = ResultFiles(output_dir)
    bank = FeatureBank(model, data, device=device)
    evaluation = make_evaluation(cfg, re_ranking=cfg.TEST.RE_RANKING)

    def evaluate(tested: tuple[Protocol, ...], repeats: int) -> list[dict]:
        results = do_inference(model, data, tested, device=device, repeats=repeats, bank=bank, evaluation=evaluation)
        return make_rows(
            results, tested, dataset=data.splits.name, dataset_version=data.splits.version, seed=cfg.SEED,
            evaluation=evaluation.describe(),
        )  # fmt: skip

    def write(rows: list[dict]) -> dict:
        content = make_results(rows, weight=weight, corruptions=data.corruptions, evaluation=evaluation.describe())
        files.write(content, rows)
        logger.info("results: %s and results.csv", output_dir / "results.json")
        return content

    compared = _read_compared(cfg, data, evaluation.describe())
    rows = evaluate(protocols, cfg.TEST.REPEATS)
    content = write(rows)
    logger.info("%s on %s, %spercent, mean ± standard deviation over the draws of the corruption:\n%s",
                weight, data.splits.title, "re-ranked, " if cfg.TEST.RE_RANKING else "",
                format_table({str(output_dir): content, **compared}))  # fmt: skip
    if cfg.TEST.SAVE_FEATURES:
        save_features(bank, protocols, output_dir / "features", weight=weight, seed=cfg.SEED)
    if cfg.TEST.THRESHOLDS:
        report_thresholds(bank, protocols, output_dir / "thresholds.csv", metric=cfg.TEST.METRIC)
    if cfg.TEST.RANKED_QUERIES:
        path = output_dir / "ranked_list.png"
        draw_ranked_lists(bank, data, path, num_queries=cfg.TEST.RANKED_QUERIES, metric=cfg.TEST.METRIC)
        logger.info("ranked lists: %s", path)
    if cfg.TEST.ATTENTION_QUERIES:
        queries = spread_queries(data, cfg.TEST.ATTENTION_QUERIES)
        draw_attention(model, data, output_dir / "attention.png", queries=queries, device=device)
    if matrix:
        content = write(rows + evaluate(matrix, cfg.TEST.MATRIX_REPEATS))
        report_matrix(content, data, output_dir / "corruption_matrix.png")
    log_summary(output_dir)
    return content


def report_matrix(content: dict, data: DataBundle, path: Path) -> None:
    """Logs the corruption matrix of a results.json and draws it."""
    families, matrix, summary = data.corruptions.families, content["matrix"], content["summary"]
    logger.info("%s on %s, %s: mAP in percent, types in rows, severities in columns:\n%s",
                content["weight"], data.splits.title, matrix["setting"], format_matrix(content, families))  # fmt: skip
    clean, corrupted = summary["clean"]["mAP"], summary["matrix"]["mean_corrupted"]["mAP"]
    title = (
        f"{printable(data.splits.title)}, {matrix['setting']}: mAP in percent\n"
        f"clean {100 * clean:.1f}, mean corrupted {100 * corrupted:.1f}"
    )
    save_corruption_matrix(path, matrix["mAP"], matrix["severities"], families, clean=clean, title=title)
    logger.info("corruption matrix: %s", path)


def save_features(
    bank: FeatureBank, protocols: tuple[Protocol, ...], directory: Path, *, weight: str, seed: int
) -> None:
    """Writes the features of every set that the settings test, first draws only: query_clean.npz and the like.

    Each holds `features` (N, D) float32, `pids`, `camids` (N,) int64, `paths` (N,) as read, `weight` and `seed`.
    """
    sides = {("query", p.query) for p in protocols} | {("gallery", p.gallery) for p in protocols}
    files = {}
    for split, condition in sorted(sides, key=str):
        found = bank.get(split, condition, 0)
        arrays = {
            "features": found.features.numpy(), "pids": found.pids, "camids": found.camids,
            "paths": np.array(found.paths), "weight": np.array(weight), "seed": np.array(seed),
        }  # fmt: skip
        name = "clean" if condition.is_clean else "corrupted"
        files[directory / f"{split}_{name}.npz"] = partial(_write_arrays, arrays=arrays)
    make_output_dir(directory)
    write_files(files)
    logger.info("features: %s", ", ".join(map(str, files)))


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as handle:  # given a name, NumPy would add .npz to it
        np.savez(handle, allow_pickle=False, **arrays)


def report_thresholds(bank: FeatureBank, protocols: tuple[Protocol, ...], path: Path, *, metric: str) -> None:
    """Logs and writes, for every setting's first draw, which distance means the same person."""
    found = {
        protocol.name: verify(
            bank.get("query", protocol.query, 0), bank.get("gallery", protocol.gallery, 0), metric=metric
        )
        for protocol in protocols
    }
    tables = "\n".join(f"{name}: {format_verification(result)}" for name, result in found.items())
    logger.info("%s distance that means the same person, first draw\n%s", metric, tables)
    write_text(path, make_threshold_csv(found, metric))
    logger.info("thresholds: %s", path)


def spread_queries(data: DataBundle, num_queries: int) -> list[int]:
    """Indices spread evenly over the query set, all of them where it has no more."""
    return np.unique(np.linspace(0, len(data.splits.query) - 1, num_queries).round().astype(int)).tolist()


def draw_ranked_lists(bank: FeatureBank, data: DataBundle, path: Path, *, num_queries: int, metric: str) -> None:
    """Draws the best answers of some queries, without re-ranking, spread evenly over the query set, clean and
    corrupted."""
    rows = []
    for index in spread_queries(data, num_queries):
        for condition in (Condition(), Condition("random")):
            query, gallery = bank.get("query", condition, 0), bank.get("gallery", condition, 0)
            distances = distance_rows(query.features[index : index + 1], gallery.features, metric=metric)[0].numpy()
            pid, camid = query.pids[index], query.camids[index]
            best = rank_gallery(distances, pid, camid, gallery.pids, gallery.camids)[:ANSWERS]
            rows.append(
                RankedRow(
                    title=f"pid {pid}, {'clean' if condition.is_clean else 'corrupted'}",
                    query=data.read_test_image("query", index, condition, 0),
                    answers=[data.read_test_image("gallery", int(i), condition, 0) for i in best],
                    correct=[bool(gallery.pids[i] == pid) for i in best],
                )
            )
    title = f"{printable(data.splits.title)}: queries and their first {ANSWERS} answers, {metric}, not re-ranked"
    save_ranked_lists(path, rows, title=title)
