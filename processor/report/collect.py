"""What only the running test knows, collected for report_data.json: distances, ranked galleries, attention maps."""

import base64
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from processor.attention import attention_maps, correlation
from processor.evaluate import FeatureCache
from processor.per_query import per_query_arrays
from processor.report.facts import describe_machine, read_training
from processor.report.plots import overlay
from processor.report.record import (
    About,
    Cell,
    Distances,
    IdentityRow,
    Match,
    Point,
    QueryGallery,
    Ranked,
    Record,
    SetRecord,
    digest,
    write_record,
)
from utils.errors import UserError
from utils.logging import warnings_of_run
from utils.metrics.evaluate import distance_rows
from utils.metrics.reference import rank_gallery
from utils.metrics.verification import count_pairs
from utils.structures import Condition, FeatureSet, Protocol, RetrievalMetrics

logger = logging.getLogger(__name__)

WORST, OTHERS = 27, 9  # queries whose ranked galleries are shown: the worst hit, and some spread over the rest
TOP = 5  # gallery images of each
IDENTITIES = 15  # that lose most
ATTENTION = 6  # queries with attention maps
HEIGHT = 96  # pixels of an embedded image
QUALITY = 72  # of its JPEG
BINS = 60  # of the distances
PAIRED_QUERIES = 400  # whose distances are counted: all pairs of a large test would take as long as an evaluation
# Of these, the first that was tested is shown beside clean.
SHOWN = ("corrupted", "corrupted_query", "corrupted_gallery", "unseen")


class Recorder:
    """Collects what a report needs while a test runs, and writes it; use it in the main process alone.

    Nothing that goes wrong here stops the test: a section without data says why.

    Args:
        about: see About.
        weight: the checkpoint.
        num_sets: test sets, which share the number of images.
        device: in words, for the record.
    """

    def __init__(self, about: About, *, weight: str, num_sets: int, device: Any) -> None:
        self.about, self.num_sets = about, num_sets
        self.training = read_training(weight)
        self.facts = describe_machine(device)
        self.sets: dict[str, SetRecord] = {}

    def add_set(
        self, cache: FeatureCache, protocols: Sequence[Protocol], metrics: Mapping[str, RetrievalMetrics], metric: str
    ) -> None:
        """Collects from the test on one data set, whose features `cache` still holds."""
        splits, corruptions = cache.data.splits, cache.data.corruptions
        record = SetRecord(
            title=splits.title,
            queries=len(cache.indices("query", 0)),
            gallery=len(cache.indices("gallery", 0)),
            identities=len({one.pid for one in splits.query}),
            families={family: list(names) for family, names in corruptions.families.items()},
            cmc={name: [float(value) for value in found.cmc] for name, found in metrics.items()},
        )
        if corruptions.protocol_unseen:
            record.families |= {"unseen": list(corruptions.protocol_unseen)}
        collector = _SetCollector(cache, {protocol.name: protocol for protocol in protocols}, metrics, metric)
        count = max((WORST + OTHERS) // self.num_sets, 6)
        worst = count * WORST // (WORST + OTHERS)
        for section, collect in {
            "distances": lambda: collector.distances(record),
            "cells": lambda: collector.cells(record),
            "galleries": lambda: collector.galleries(record, worst, count - worst),
            "attention": lambda: collector.attention(record),
        }.items():
            _try(section, collect, record)
        self.sets[splits.name] = record

    def write(self, output_dir: Path, results: dict) -> None:
        """Writes report_data.json beside a results.json with this content."""
        record = Record(
            results=digest(results),
            command=self.about.command,
            facts=self.facts,
            training=self.training,
            warnings=warnings_of_run(),
            sets=self.sets,
        )
        write_record(output_dir, record)


def _try(section: str, collect: Callable[[], object], record: SetRecord) -> None:
    try:
        collect()
    except UserError as error:
        record.reasons[section] = str(error)
    except Exception as error:  # a report costs no test
        logger.warning("report: section %s cannot be made (%s: %s)", section, type(error).__name__, error)
        record.reasons[section] = f"it could not be made ({type(error).__name__}: {error})"[:1000]


class _SetCollector:
    """Collects from the test on one data set."""

    def __init__(
        self,
        cache: FeatureCache,
        protocols: Mapping[str, Protocol],
        metrics: Mapping[str, RetrievalMetrics],
        metric: str,
    ) -> None:
        self.cache, self.protocols, self.metric = cache, protocols, metric
        self.arrays = per_query_arrays(metrics, cache.data.splits.query, cache.data.sample_gallery)
        self.rows: list[int] = []  # of the queries in `galleries`
        self._sampled: dict[Condition, list[tuple[str, int] | None]] = {}

    def distances(self, record: SetRecord) -> None:
        for name, protocol in self.protocols.items():
            query = self.cache.get("query", protocol.query, 0)
            gallery = self.cache.get("gallery", protocol.gallery, 0)
            total = len(query.pids)
            rows = np.unique(np.linspace(0, total - 1, min(total, PAIRED_QUERIES)).round().astype(int))
            counts = count_pairs(_select(query, rows), gallery, metric=self.metric)
            found, (edges, same, different) = counts.verification(), counts.histogram(BINS)
            record.distances[name] = Distances(
                metric=self.metric,
                edges=edges.tolist(),
                same=same.tolist(),
                different=different.tolist(),
                points=[Point(**asdict(point)) for point in found.points],
                equal_error_rate=found.equal_error_rate,
                queries=len(rows),
                all_queries=total,
            )

    def cells(self, record: SetRecord) -> None:
        """Groups the queries of every sampled protocol by their corruption."""
        corruptions_of = self.cache.data.test_corruptions
        if corruptions_of is None:
            raise UserError("the data set does not tell which corruption each image has")
        for name, protocol in self.protocols.items():
            if not protocol.query.is_sampled:
                continue
            groups: dict[tuple[str, int], list[tuple[float, bool]]] = {}
            for repeat, (ap, first) in enumerate(
                zip(self.arrays[f"{name}/ap"], self.arrays[f"{name}/first"], strict=True)
            ):
                for sampled, one_ap, one_first in zip(
                    corruptions_of("query", protocol.query, repeat), ap, first, strict=True
                ):
                    if sampled is not None and np.isfinite(one_ap):
                        groups.setdefault(sampled, []).append((float(one_ap), one_first == 1))
            record.cells[name] = [
                Cell(
                    corruption=corruption,
                    severity=severity,
                    queries=len(values),
                    mAP=float(np.mean([ap for ap, _ in values])),
                    rank1=float(np.mean([right for _, right in values])),
                )
                for (corruption, severity), values in sorted(groups.items())
            ]

    def galleries(self, record: SetRecord, worst: int, others: int) -> None:
        """Ranked galleries of the worst-hit queries, then of some spread over the rest, best kept last."""
        shown = next((name for name in SHOWN if name in self.protocols), None)
        if shown is None or "clean" not in self.protocols:
            raise UserError("it needs protocol clean and a corrupted one; TEST.PROTOCOLS has not both")
        record.protocol = shown
        clean, corrupted = self.arrays["clean/ap"], self.arrays[f"{shown}/ap"]
        known = np.flatnonzero(np.isfinite(clean[0]) & np.isfinite(corrupted[0]))
        known = np.intersect1d(known, self.cache.indices("query", 0))
        mean_corrupted = np.array([np.mean(column[np.isfinite(column)]) for column in corrupted[:, known].T])
        record.identity_rows = self._identities(known, clean[0][known], mean_corrupted)
        order = np.argsort(-(clean[0][known] - corrupted[0][known]), kind="stable")
        rest = order[worst:]
        spread = rest[np.unique(np.linspace(0, len(rest) - 1, min(others, len(rest))).round().astype(int))]
        first = set(order[:worst].tolist())
        for place in [*order[:worst], *spread]:
            index = int(known[place])
            query = self.cache.data.splits.query[index]
            record.galleries.append(
                QueryGallery(
                    path=query.path,
                    pid=query.pid,
                    camid=query.camid,
                    is_worst=int(place) in first,
                    clean=self._ranked("clean", index),
                    corrupted=self._ranked(shown, index),
                    corrupted_ap=float(mean_corrupted[place]),
                )
            )
            self.rows.append(index)

    def _identities(self, known: np.ndarray, clean: np.ndarray, corrupted: np.ndarray) -> list[IdentityRow]:
        """The identities whose queries lose most."""
        pids = self.arrays["pids"][known]
        rows = [
            IdentityRow(
                pid=int(pid),
                queries=int((pids == pid).sum()),
                clean=float(clean[pids == pid].mean()),
                corrupted=float(corrupted[pids == pid].mean()),
            )
            for pid in np.unique(pids)
        ]
        return sorted(rows, key=lambda row: row.corrupted - row.clean)[:IDENTITIES]

    def _ranked(self, name: str, index: int) -> Ranked:
        """Query `index` of the data set and the top of its ranked gallery, in the first repeat."""
        protocol, cache = self.protocols[name], self.cache
        query, gallery = cache.get("query", protocol.query, 0), cache.get("gallery", protocol.gallery, 0)
        row = int(np.searchsorted(cache.indices("query", 0), index))
        distances = distance_rows(query.features[row : row + 1], gallery.features, metric=self.metric)[0].numpy()
        pid, camid = query.pids[row], query.camids[row]
        ranked = rank_gallery(distances, pid, camid, gallery.pids, gallery.camids)[:TOP]
        sampled = self._corruption(protocol.query, index)
        return Ranked(
            image=encode(cache.read_image("query", row, protocol.query, 0)),
            corruption=sampled[0],
            severity=sampled[1],
            ap=float(self.arrays[f"{name}/ap"][0, index]),
            first=int(self.arrays[f"{name}/first"][0, index]),
            top=[
                Match(
                    image=encode(cache.read_image("gallery", int(at), protocol.gallery, 0)),
                    pid=int(gallery.pids[at]),
                    camid=int(gallery.camids[at]),
                    right=bool(gallery.pids[at] == pid),
                )
                for at in ranked
            ],
        )

    def _corruption(self, condition: Condition, index: int) -> tuple[str, int]:
        if condition.is_clean or self.cache.data.test_corruptions is None:
            return "", 0
        if condition not in self._sampled:
            self._sampled[condition] = self.cache.data.test_corruptions("query", condition, 0)
        return self._sampled[condition][index] or ("", 0)

    def attention(self, record: SetRecord) -> None:
        """Attention maps of the worst-hit queries, over the images."""
        if not hasattr(self.cache.model, "attend"):
            raise UserError("attention maps need a vision transformer")
        protocol = self.protocols.get(record.protocol)
        if protocol is None or protocol.query.is_clean:
            raise UserError("it needs protocol clean and one with corrupted queries")
        for index, shown in list(zip(self.rows, record.galleries, strict=True))[:ATTENTION]:
            conditions = (Condition(), protocol.query)
            maps = attention_maps(self.cache.model, self.cache.data, index, self.cache.device, conditions)
            shown.attention_correlation = correlation(*maps)
            limits = (float(maps.min()), float(maps.max()))
            for ranked, condition, one in zip((shown.clean, shown.corrupted), conditions, maps, strict=True):
                image = self.cache.data.read_test_image("query", index, condition, 0)
                ranked.attention = encode(overlay(image, one.numpy(), limits))


def _select(found: FeatureSet, rows: np.ndarray) -> FeatureSet:
    return FeatureSet(found.features[rows], found.pids[rows], found.camids[rows])


def encode(image: np.ndarray) -> str:
    """A small JPEG of an image (H, W, 3) uint8 RGB, in base64."""
    found = Image.fromarray(image)
    width = min(max(round(found.width * HEIGHT / found.height), 8), 3 * HEIGHT)
    buffer = io.BytesIO()
    found.resize((width, HEIGHT), Image.Resampling.BICUBIC, reducing_gap=3.0).save(
        buffer, "JPEG", quality=QUALITY, optimize=True
    )
    return base64.b64encode(buffer.getvalue()).decode("ascii")
