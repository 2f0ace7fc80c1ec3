"""The size of a Market-sized report, from random records; what a record refuses."""

import json

import numpy as np
import pytest

from processor.report.collect import OTHERS, TOP, WORST, encode
from processor.report.page import render
from processor.report.record import (
    FILE,
    Cell,
    Distances,
    Match,
    Point,
    QueryGallery,
    Ranked,
    ReadRecord,
    Record,
    SetRecord,
    digest,
    read_record,
    write_record,
)
from processor.report.run import Run
from processor.resume import library_versions

MAX_BYTES = 5_000_000
NAMES = [f"corruption_{number}" for number in range(20)]


def market_record():
    """The most that a test records of 3,368 queries, with images of noise, which JPEG compresses worst."""
    rng = np.random.default_rng(0)

    def image():
        return encode(rng.integers(0, 256, (128, 64, 3), dtype=np.uint8))

    def ranked():
        top = [Match(image=image(), pid=1, camid=1, right=place == 2) for place in range(TOP)]
        return Ranked(image=image(), corruption="fog", severity=3, ap=0.5, first=3, top=top, attention=image())

    galleries = [
        QueryGallery(
            path=f"/data/Market-1501/query/{number:04d}_c1s1_001051_00.jpg",
            pid=number,
            camid=0,
            is_worst=number < WORST,
            clean=ranked(),
            corrupted=ranked(),
            corrupted_ap=0.2,
        )
        for number in range(WORST + OTHERS)
    ]
    protocols = ("clean", "corrupted", "corrupted_query", "corrupted_gallery", "unseen")
    points = [Point(name="equal error rate", threshold=0.5, true_accept_rate=0.9, false_accept_rate=0.1)]
    distances = Distances(
        metric="euclidean",
        edges=np.linspace(0, 2, 61).tolist(),
        same=rng.integers(0, 10**6, 60).tolist(),
        different=rng.integers(0, 10**8, 60).tolist(),
        points=points * 4,
        equal_error_rate=0.1,
        queries=400,
        all_queries=3368,
    )
    cells = [
        Cell(corruption=name, severity=severity, queries=336, mAP=0.123456789, rank1=0.5)
        for name in NAMES
        for severity in range(1, 6)
    ]
    return SetRecord(
        title="market1501",
        queries=3368,
        gallery=15913,
        identities=750,
        families={"noise": NAMES[:5], "blur": NAMES[5:10], "weather": NAMES[10:15], "digital": NAMES[15:]},
        protocol="corrupted",
        cmc={name: rng.random(50).tolist() for name in protocols},
        distances=dict.fromkeys(protocols, distances),
        cells=dict.fromkeys(protocols[1:], cells),
        galleries=galleries,
    )


def test_a_market_sized_report_has_less_than_5_mb():
    metric = {"mean": 0.5, "std": 0.1}
    row = {**dict.fromkeys(("mAP", "mINP", "rank1", "rank5", "rank10"), metric), "repeats": 10}
    record = market_record()
    results = {"weight": "a.pth", "seed": 1, "protocols": dict.fromkeys(record.cmc, row)}
    terms = {f"term_{number}_loss": 1.0 for number in range(12)}
    epochs = [{"epoch": epoch, "lr": 0.1, "grad_norm": 1.0, "accuracy": 0.5, **terms} for epoch in range(1, 121)]
    stage = {"epochs": epochs, "evaluations": [], "schedule": {"epoch": list(range(300)), "lr": [0.1] * 300}}
    run = Run(
        directory="logs/market1501/cfat",
        label="market1501/cfat",
        results={"market1501": results},
        record=Record(results="", sets={"market1501": record}, facts=library_versions()),
        reason="",
        history=dict.fromkeys(("clean", "corrupted", "bridge", "align"), stage),
        history_of="logs/market1501/cfat",
        config={f"SECTION.KEY_{number}": number for number in range(250)},
        config_text="KEY: value\n" * 300,
        warnings={f"warning {number}": 1 for number in range(200)},
        warnings_of="this run",
    )
    size = len(render([run], {}).text.encode())
    assert 1_000_000 < size < MAX_BYTES


def test_a_record_is_read_as_written(tmp_path):
    results = {"weight": "a.pth"}
    record = Record(results=digest(results), command="python test.py", sets={"market1501": market_record()})
    write_record(tmp_path, record)
    assert read_record(tmp_path, results) == ReadRecord(record, "", [])


@pytest.mark.parametrize(
    ("text", "reason", "left_out"),
    [
        ("", "cannot be read", "report_data.json: cannot be read (Expecting value"),
        (
            '{"results": 3}',
            "cannot be read",
            "report_data.json: cannot be read (results: Input should",
        ),
        ('{"results": "x"}', "belongs to another test than results.json", None),
    ],
)
def test_a_damaged_record_gives_a_reason(text, reason, left_out, tmp_path):
    (tmp_path / FILE).write_text(text)
    found = read_record(tmp_path, {"weight": "a.pth"})
    assert found.record is None
    assert found.reason.startswith(f"{FILE} {reason}")
    assert [str(field)[: len(left_out or "")] for field in found.left_out] == ([left_out] if left_out else [])


def test_a_record_with_a_damaged_field_has_the_others(tmp_path):
    results = {"weight": "a.pth"}
    content = Record(results=digest(results), command="python test.py", sets={"a": market_record()}).model_dump()
    content["warnings"] = {"a": -1, "b": 1}
    content["sets"]["a"]["distances"]["clean"]["edges"].pop()
    content["sets"]["a"]["galleries"][3]["clean"]["top"][0]["image"] = "<script>"
    (tmp_path / FILE).write_text(json.dumps(content))
    found = read_record(tmp_path, results)
    kept = found.record.sets["a"]
    assert found.record.warnings == {"b": 1}
    assert list(kept.distances) == list(kept.cmc)[1:]
    assert (kept.galleries, len(kept.cells)) == ([], 4)
    assert {field.key for field in found.left_out} == {
        "warnings.a",
        "sets.a.distances.clean",
        "sets.a.galleries",
    }
    (gallery,) = [field for field in found.left_out if field.key == "sets.a.galleries"]
    assert gallery.reason.startswith("3.clean.top.0.image: String should match pattern")
    assert gallery.reason.endswith("found '<script>'")


def test_an_embedded_image_is_small():
    tall, wide = (np.zeros(shape, np.uint8) for shape in ((1000, 2, 3), (20, 4000, 3)))
    for image in (tall, wide):
        assert 100 < len(encode(image)) < 5000
