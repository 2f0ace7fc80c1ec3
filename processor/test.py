"""A whole test: metrics, result files, tables and figures."""

import logging
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from yacs.config import CfgNode

from processor.attention import save_attention_maps
from processor.baseline import Baseline, normalise
from processor.comparisons import read_comparable, read_results
from processor.evaluate import FeatureCache, describe_evaluation, evaluate_protocols, make_evaluation
from processor.feature_files import stored
from processor.per_query import FILE as PER_QUERY
from processor.per_query import write_per_query
from processor.plots import RankedRow, save_corruption_matrix, save_ranked_lists
from processor.report import About, LiveReport
from processor.results import ResultFiles, join_results, make_results, make_rows, results_by_set
from processor.tables import format_baseline, format_files, format_matrix, format_table
from utils.escaping import printable
from utils.files import make_output_dir, write_files, write_text
from utils.metrics.evaluate import distance_rows
from utils.metrics.reference import rank_gallery
from utils.metrics.verification import format_verification, make_threshold_csv, verify
from utils.openmp import sharing_cores
from utils.stage_identity import weights_digest
from utils.structures import Condition, DataBundle, Protocol, RetrievalMetrics

logger = logging.getLogger(__name__)

TOP_K = 10  # gallery images shown for each query


def check(cfg: CfgNode) -> None:
    """Checks the processor's part of the configuration before any work.

    Raises:
        UserError: results that TEST.COMPARE names cannot be read.
    """
    for directory in cfg.TEST.COMPARE:
        read_results(directory)


@sharing_cores()
def do_test(
    cfg: CfgNode,
    data: DataBundle,
    model: nn.Module,
    protocols: tuple[Protocol, ...],
    *,
    device: torch.device,
    weight: str,
    matrix: tuple[Protocol, ...] = (),
    about: About | None = None,
    baseline: Baseline | None = None,
    selected_on: Sequence[str] = (),
) -> dict:
    """Tests `model` and writes results.json and results.csv.

    With TEST.RANKED_QUERIES it also writes ranked_list.png, with TEST.ATTENTION_QUERIES attention.png, with a matrix
    corruption_matrix.png; of several test sets, each into a directory of the set's name. The results of the protocols
    are on disk before the matrix begins.

    Args:
        data: its `test_sets` are tested.
        weight: the checkpoint of the model, for the record.
        matrix: cells of the corruption matrix; clean, which they are compared with, is then tested in any case.
        about: what report.html says of the run; with TEST.REPORT.
        baseline: what read_baseline returned; errors are then given relative to its errors too.
        selected_on: names of the sets on which `weight` was the best epoch, for the record.

    Returns:
        The content of results.json.
    """
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    if matrix and not any(protocol.is_clean for protocol in protocols):
        protocols = (Protocol("clean"), *protocols)
    if selected_on:
        logger.info("%s is the best of the evaluated epochs on %s", weight, ", ".join(selected_on))
    files = ResultFiles(output_dir)
    rows: dict[str, list[dict]] = {}  # of results.csv, by data set
    evaluation = make_evaluation(cfg)
    described = describe_evaluation(cfg, evaluation)
    compared = read_comparable(cfg.TEST.COMPARE, tested=[one.splits for one in data.test_sets], evaluation=described)
    report = LiveReport(cfg, about or About(), data, weight=weight, device=device, compared=compared)
    _warn_of_seen_types(data)
    kind = "data" if cfg.TEST.SPLIT == "test" else cfg.TEST.SPLIT
    several, directories = len(data.test_sets) > 1, set_directories(output_dir, data)

    def add_rows(cache: FeatureCache, tested: tuple[Protocol, ...], metrics: dict[str, RetrievalMetrics]) -> None:
        splits = cache.data.splits
        rows.setdefault(splits.name, []).extend(
            make_rows(
                metrics,
                tested,
                dataset=splits.name,
                dataset_version=splits.version,
                seed=cfg.SEED,
                evaluation=described,
                split=cfg.TEST.SPLIT,
            )
        )

    def write() -> dict:
        results = [
            make_results(
                own,
                weight=weight,
                corruptions=data.corruptions,
                evaluation=described,
                unknown_keys=cfg.LEFT_OUT_KEYS,
                split=cfg.TEST.SPLIT,
                selected_on=selected_on,
            )
            for own in rows.values()
        ]
        if baseline is not None:
            results = [own | {"baseline": normalise(own, baseline)} for own in results]
        content = join_results(results) if several else results[0]
        files.write(content, [row for own in rows.values() for row in own])
        logger.info("results: %s and results.csv", output_dir / "results.json")
        return content

    for one, directory in zip(data.test_sets, directories, strict=True):
        make_output_dir(directory)
        name, cache = one.splits.name, FeatureCache(model, one, device=device)
        _warn_of_small_gallery(cache, evaluation.query_expansion)
        metrics = evaluate_protocols(cache, protocols, cfg.TEST.REPEATS, evaluation)
        add_rows(cache, protocols, metrics)
        content = write()
        write_per_query(directory / PER_QUERY, metrics, one.splits.query, one.sample_gallery)
        own = results_by_set(content)[name]
        _log_table({str(output_dir): own, **({} if several else compared)}, cfg, f"{weight} on {one.splits.title}")
        _write_extras(cfg, cache, protocols, directory, weight=weight)
        report.add_set(cache, protocols, metrics)
        report.write(content)
        if matrix:
            add_rows(cache, matrix, evaluate_protocols(cache, matrix, cfg.TEST.MATRIX_REPEATS, evaluation))
            content = write()
            report_matrix(results_by_set(content)[name], one, directory / "corruption_matrix.png")
            report.write(content)
        if baseline is not None:
            logger.info("%s on %s, %s", weight, one.splits.title, format_baseline(results_by_set(content)[name]))
    if several:
        _log_table({str(output_dir): content, **compared}, cfg, f"{weight} on {len(rows)} {kind} sets")
    found = "\n".join(filter(None, map(format_files, dict.fromkeys([output_dir, *directories]))))
    logger.info("all in %s:\n%s", output_dir, found)
    return content


def _warn_of_seen_types(data: DataBundle) -> None:
    """Protocol unseen is named for what training leaves out; the configuration of a test may not know of it."""
    seen = [name for name in data.corruptions.protocol_unseen if name in (data.corruptions.trained or ())]
    if seen:
        logger.warning("protocol unseen: the checkpoint was trained on %s, which are not unseen", ", ".join(seen))


def _warn_of_small_gallery(cache: FeatureCache, neighbours: int) -> None:
    images = len(cache.indices("gallery", 0))
    if neighbours > images:
        logger.warning(
            "TEST.QUERY_EXPANSION %d: the gallery of %s has %d images; all of them are joined with every query",
            *(neighbours, cache.data.splits.title, images),
        )


def set_directories(output_dir: Path, data: DataBundle) -> list[Path]:
    """Where the figures, features and thresholds of each test set go: `output_dir`, or of several a directory each."""
    names = [re.sub(r"[^\w.-]+", "_", one.splits.name) for one in data.test_sets]
    if len(names) == 1:
        return [output_dir]
    unique = [f"{name}_{number}" if names.count(name) > 1 else name for number, name in enumerate(names, start=1)]
    return [output_dir / name for name in unique]


def _log_table(contents: dict[str, dict], cfg: CfgNode, tested: str) -> None:
    title = f"{tested}, {'re-ranked, ' if cfg.TEST.RE_RANKING else ''}percent"
    logger.info("%s, mean ± standard deviation over the repeats:\n%s", title, format_table(contents))


def _write_extras(
    cfg: CfgNode, cache: FeatureCache, protocols: tuple[Protocol, ...], output_dir: Path, *, weight: str
) -> None:
    """Writes what cfg.TEST asks for beside the results: features, thresholds, ranked lists, attention maps."""
    test, data = cfg.TEST, cache.data
    if test.SAVE_FEATURES:
        directory = output_dir / "features"
        save_features(cache, protocols, directory, weight=weight, seed=cfg.SEED, dtype=test.FEATURE_DTYPE)
    if test.THRESHOLDS:
        report_thresholds(cache, protocols, output_dir / "thresholds.csv", metric=test.METRIC)
    if test.RANKED_QUERIES:
        path = output_dir / "ranked_list.png"
        queries = spread_queries(len(cache.indices("query", 0)), test.RANKED_QUERIES)
        plot_ranked_lists(cache, path, queries=queries, metric=test.METRIC)
        logger.info("ranked lists: %s", path)
    if test.ATTENTION_QUERIES:
        images = cache.indices("query", 0)
        queries = images[spread_queries(len(images), test.ATTENTION_QUERIES)].tolist()
        save_attention_maps(cache.model, data, output_dir / "attention.png", queries=queries, device=cache.device)


def report_matrix(content: dict, data: DataBundle, path: Path) -> None:
    """Logs the corruption matrix of a results.json and plots it."""
    families, matrix, summary = data.corruptions.families, content["matrix"], content["summary"]
    title, table = f"{data.splits.title}, {matrix['setting']}: mAP in percent", format_matrix(content, families)
    logger.info("%s on %s, types in rows, severities in columns:\n%s", content["weight"], title, table)
    clean, corrupted = summary["clean"]["mAP"], summary["matrix"]["mean_corrupted"]["mAP"]
    title = f"{printable(title)}\nclean {100 * clean:.1f}, mean corrupted {100 * corrupted:.1f}"
    save_corruption_matrix(path, matrix["mAP"], matrix["severities"], families, clean=clean, title=title)
    logger.info("corruption matrix: %s", path)


def save_features(
    cache: FeatureCache,
    protocols: tuple[Protocol, ...],
    directory: Path,
    *,
    weight: str,
    seed: int,
    dtype: str = "float32",
) -> None:
    """Writes the features of every tested set, of the first repeat only: query_clean.npz, gallery_corrupted.npz, ...

    Each holds `features` (N, D) of type `dtype`, `pids`, `camids` (N,) int64, `paths` (N,) as read, `weight`, its
    `weights_sha256` and `seed`.
    """
    sides = {("query", p.query) for p in protocols} | {("gallery", p.gallery) for p in protocols}
    files: dict[Path, Callable[[Path], object]] = {}
    digest = weights_digest(weight)
    for split, condition in sorted(sides, key=str):
        found = cache.get(split, condition, 0)
        arrays = {"features": stored(found.features, dtype), "pids": found.pids, "camids": found.camids}
        texts = {"paths": np.array(found.paths), "weight": np.array(weight), "seed": np.array(seed)}
        texts["weights_sha256"] = np.array(digest)
        name = "corrupted" if condition.corruption == "random" else condition.corruption
        files[directory / f"{split}_{name}.npz"] = partial(_write_arrays, arrays=arrays | texts)
    make_output_dir(directory)
    write_files(files)
    logger.info("features: %s", ", ".join(map(str, files)))


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as handle:  # given a name, NumPy would add .npz to it
        np.savez(handle, allow_pickle=False, **arrays)


def report_thresholds(cache: FeatureCache, protocols: tuple[Protocol, ...], path: Path, *, metric: str) -> None:
    """Logs and writes, for the first repeat of every protocol, which distance means the same identity."""
    found = {
        protocol.name: verify(
            cache.get("query", protocol.query, 0), cache.get("gallery", protocol.gallery, 0), metric=metric
        )
        for protocol in protocols
    }
    tables = "\n".join(f"{name}: {format_verification(result)}" for name, result in found.items())
    logger.info("%s distance that means the same identity, first repeat\n%s", metric, tables)
    write_text(path, make_threshold_csv(found, metric))
    logger.info("thresholds: %s", path)


def spread_queries(total: int, num_queries: int) -> list[int]:
    """Indices spread evenly over a query set of `total` images, all of them where it has no more."""
    return np.unique(np.linspace(0, total - 1, num_queries).round().astype(int)).tolist()


def plot_ranked_lists(cache: FeatureCache, path: Path, *, queries: list[int], metric: str) -> None:
    """Plots the top-10 of some queries, clean and corrupted, without re-ranking."""
    rows = []
    for index in queries:
        for condition in (Condition(), Condition("random")):
            query, gallery = cache.get("query", condition, 0), cache.get("gallery", condition, 0)
            distances = distance_rows(query.features[index : index + 1], gallery.features, metric=metric)[0].numpy()
            pid, camid = query.pids[index], query.camids[index]
            ranked = rank_gallery(distances, pid, camid, gallery.pids, gallery.camids)[:TOP_K]
            row = RankedRow(
                title=f"pid {pid}, {'clean' if condition.is_clean else 'corrupted'}",
                query=cache.read_image("query", index, condition, 0),
                gallery=[cache.read_image("gallery", int(i), condition, 0) for i in ranked],
                correct=[bool(gallery.pids[i] == pid) for i in ranked],
            )
            rows.append(row)
    title = f"{printable(cache.data.splits.title)}: queries and their top-{TOP_K}, {metric}, not re-ranked"
    save_ranked_lists(path, rows, title=title)
