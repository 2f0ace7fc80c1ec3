"""Metrics of every query: per_query.npz, which comparisons of two models are made from.

paths, pids, camids     (Q,) the queries
<protocol>/ap           (repeats, Q) float32 average precision; NaN for a query without a match
<protocol>/inp          (repeats, Q) float32 inverse negative penalty; NaN likewise
<protocol>/first        (repeats, Q) int32 rank of the first match, from 1; 0 without a match
"""

import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.errors import UserError
from utils.escaping import printable
from utils.files import write_files
from utils.structures import ImageRecord, RetrievalMetrics

FILE = "per_query.npz"


def write_per_query(
    path: Path,
    results: Mapping[str, RetrievalMetrics],
    queries: Sequence[ImageRecord],
    sample_gallery: Callable[[int], np.ndarray] | None = None,
) -> None:
    """Writes the metrics of every query.

    Args:
        path: the file.
        results: metrics by protocol, with the `per_query` of each repeat.
        queries: the Q queries, in the order of the features.
        sample_gallery: see DataBundle; an image that is in the gallery of a repeat is no query there, as one without a
            match.
    """
    arrays = per_query_arrays(results, queries, sample_gallery)

    def write(partial: Path) -> None:
        with open(partial, "wb") as handle:  # savez would append .npz to a name
            np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]

    write_files({path: write})


def per_query_arrays(
    results: Mapping[str, RetrievalMetrics],
    queries: Sequence[ImageRecord],
    sample_gallery: Callable[[int], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The content of the file, by name; arguments as in `write_per_query`."""
    arrays: dict[str, np.ndarray] = {
        "paths": np.array([record.path for record in queries]),
        "pids": np.array([record.pid for record in queries]),
        "camids": np.array([record.camid for record in queries]),
    }
    for protocol, metrics in results.items():
        repeats = metrics.repeats or (metrics,)
        table = np.zeros((len(repeats), len(queries), 3))
        for repeat, single in enumerate(repeats):
            is_query = slice(None) if sample_gallery is None else ~sample_gallery(repeat)
            table[repeat, is_query] = single.per_query
        ap, inp, first = np.moveaxis(table, 2, 0)
        unmatched = first == 0
        arrays[f"{protocol}/ap"] = np.where(unmatched, np.nan, ap).astype(np.float32)
        arrays[f"{protocol}/inp"] = np.where(unmatched, np.nan, inp).astype(np.float32)
        arrays[f"{protocol}/first"] = first.astype(np.int32)
    return arrays


class QueryPrecision(NamedTuple):
    """Average precision of the queries of a finished test.

    Attributes:
        paths: (Q,) the queries.
        by_protocol: protocol -> (Q,) float64, whose mean without NaN is the mean over the repeats of their mAP; NaN for
            a query that has no match in any repeat.
    """

    paths: np.ndarray
    by_protocol: dict[str, np.ndarray]


def read_average_precision(directory: str | Path) -> QueryPrecision:
    """Reads the average precision of every query of a finished test.

    Args:
        directory: OUTPUT_DIR of the test.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    path = Path(directory) / FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            paths = arrays["paths"]
            tables = {name: arrays[name] for name in arrays.files if name.endswith("/ap")}
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); test again to write it") from error
    if paths.ndim != 1 or paths.dtype.kind != "U":
        raise UserError(
            f"{path}: paths has shape {paths.shape} {paths.dtype}, expected (Q,) text; test again to write it"
        )
    for name, table in tables.items():
        if table.ndim != 2 or table.dtype.kind != "f" or not len(table) or table.shape[1] != len(paths):
            raise UserError(
                f"{path}: {printable(name)} has shape {table.shape} {table.dtype}, expected (repeats, {len(paths)}) "
                "float32; test again to write it"
            )
    return QueryPrecision(paths, {name.removesuffix("/ap"): _shares(table) for name, table in tables.items()})


def _shares(values: np.ndarray) -> np.ndarray:
    """(R, Q) average precision in every repeat -> (Q,) each query's share of the mean over the repeats: where a query
    has a match in some repeats only, those count."""
    known = np.isfinite(values)
    matched = known.any(axis=0)
    in_repeat = np.where(known, values, 0).astype(np.float64) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(matched, in_repeat.mean(axis=0) * matched.sum(), np.nan)
