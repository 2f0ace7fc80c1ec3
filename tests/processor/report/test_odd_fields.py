"""One odd field in a file of a run costs its own place on the page, and Warnings say which: file, key, what to do."""

import contextlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from processor.per_query import read_average_precision
from processor.report import charts, write_card, write_report
from tests.processor.report.test_page import KINDS, all_text, by_id, defaults, parse
from tests.processor.small_report import write_small_report
from utils.errors import UserError

SCRIPT = "<script>alert(1)</script>" * 500
ODD = {
    "null": None,
    "text": "x",
    "negative": -1,
    "list": [],
    "object": {},
    "infinite": math.inf,
    "not a number": math.nan,
    "script": SCRIPT,
    "short script": "<script>",
    "control": "a\u202eb\x00",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    write_small_report(directory)
    return directory


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of a finished run; its page is made without plots, which take most of the time."""

    def plot(name, description, *arguments, **options):
        return f'<svg role="img" aria-labelledby="{name}-title"><title id="{name}-title">plot</title></svg>'

    for name in ("line_plot", "bar_plot", "histogram"):
        monkeypatch.setattr(charts, name, plot)
    return shutil.copytree(finished, tmp_path / "run")


def places(content, place=()):
    """Places of all values in a JSON value; of lists, that of the first element."""
    inner = content.items() if isinstance(content, dict) else list(enumerate(content))[:1]
    for key, value in inner:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from places(value, (*place, key))


def put(content, place, value):
    *outer, last = place
    for key in outer:
        content = content[key]
    content[last] = value


def change(path, place, value):
    content = json.loads(path.read_text())
    put(content, place, value)
    path.write_text(json.dumps(content))


def report(directory):
    text, tree = parse(write_report([directory], defaults=defaults()))
    assert [element.get("id") for element in tree.iter("section")] == list(KINDS)
    assert len(list(tree.iter("script"))) == 1
    assert not {"\u202e", "\x00"} & set(text)
    left_out = [element for element in tree.iter() if element.get("id") == "left-out"]
    return tree, [all_text(item) for one in left_out for item in one.iter("li")]


def missing(tree):
    """Sections, and parts of the first screen, that are not available."""
    return {
        element.get("id")
        for element in tree.iter()
        if element.get("id") and any(child.get("class") == "missing" for child in element)
    }


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["results.json", "report_data.json", "history.json"])
def test_any_odd_value_leaves_a_page_or_one_error(run, kind, name):
    good = (run / name).read_text()
    kinds = list(ODD)
    found = list(places(json.loads(good)))
    for place in found[kinds.index(kind) :: len(kinds)]:
        change(run / name, place, ODD[kind])
        refused = (name, place) == ("results.json", ("protocols",)) and kind != "object"
        with pytest.raises(UserError, match="results.json: cannot be read") if refused else contextlib.nullcontext():
            report(run)
        (run / name).write_text(good)


@pytest.mark.parametrize("value", [None, "x", math.nan, 1e400, SCRIPT])
def test_a_metric_that_cannot_be_read_costs_its_cell(run, value):
    change(run / "results.json", ("protocols", "corrupted", "mINP", "mean"), value)
    tree, left_out = report(run)
    rows = by_id(tree, "protocols-table").findall(".//tbody/tr")
    shown = [[all_text(cell) for cell in row.findall("td")] for row in rows]
    assert [row[0] == "\N{EN DASH}" for row in shown] == [False, True, False]
    assert all(cell != "\N{EN DASH}" for row in shown for cell in row[1:])
    (said,) = left_out
    assert said.startswith("results.json, protocols.corrupted.mINP: mean: Input should be a")
    assert said.endswith("; test again to write it")
    assert "1 field of the run cannot be read" in all_text(tree)


def test_a_deviation_and_a_number_of_repeats_cost_themselves_only(run):
    change(run / "results.json", ("protocols", "corrupted", "mAP", "std"), None)
    change(run / "results.json", ("protocols", "corrupted_query", "repeats"), 0)
    tree, left_out = report(run)
    assert len(left_out) == 2
    results = json.loads((run / "results.json").read_text())["protocols"]
    _, corrupted, query = by_id(tree, "protocols-table").findall(".//tbody/tr")
    assert all_text(corrupted.findall("td")[1]) == f"{100 * results['corrupted']['mAP']['mean']:.1f}"
    assert all_text(query.findall("td")[-1]) == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("name", "place", "value", "lost", "said"),
    [
        ("results.json", ("matrix", "mAP", "fog", 0), None, {"heatmap"}, "matrix: mAP.fog.0: "),
        ("results.json", ("matrix", "rank1"), {"fog": [0.5, 0.5]}, {"heatmap"}, "matrix: the matrix lacks cells"),
        ("results.json", ("evaluation", "ap"), 3, set(), "evaluation: ap: "),
        ("results.json", ("weight",), [], set(), "weight: "),
        ("history.json", ("clean", "epochs", 1, "loss"), "x", set(), "clean.epochs.1.loss: "),
        ("history.json", ("clean", "epochs", 1, "epoch"), None, {"training"}, "clean: epochs.1.epoch: "),
        ("report_data.json", ("sets", "rendered", "cmc", "clean", 2), -1, set(), "sets.rendered.cmc.clean: 2: "),
        ("report_data.json", ("sets", "rendered", "galleries", 0, "pid"), "x", {"gallery"}, "galleries: 0.pid: "),
        ("report_data.json", ("sets", "rendered"), 3, set(), "sets.rendered: Input should be an object"),
    ],
)
def test_what_is_left_out_and_what_is_said(run, name, place, value, lost, said):
    before = missing(report(run)[0])
    assert before == set()
    if name != "report_data.json":  # it belongs to the results as they were
        (run / "report_data.json").unlink()
        before = missing(report(run)[0])
    change(run / name, place, value)
    tree, (line,) = report(run)
    without_record = {"gallery", "attention", "cmc", "distances"} if place == ("sets", "rendered") else set()
    attention = {"attention"} if lost == {"gallery"} else set()
    assert missing(tree) - before == lost | without_record | attention
    assert line.startswith(f"{name}, ")
    assert said in line
    assert "again" in line


def test_the_worst_query_is_not_the_next_one(run):
    """The galleries begin with the worst-hit query: without it, the next one is not the worst."""
    assert "Identity" in all_text(by_id(report(run)[0], "worst-query"))
    change(run / "report_data.json", ("sets", "rendered", "galleries", 0, "clean", "image"), "\u00e4")
    tree, _ = report(run)
    paths, precision = read_average_precision(run)
    worst = Path(paths[np.argmax(precision["clean"] - precision["corrupted"])]).name
    said = all_text(by_id(tree, "worst-query"))
    assert worst in said
    assert "Identity" not in said  # of the recorded galleries


@pytest.mark.parametrize(
    "arrays",
    [
        {"paths": np.array(["a"]), "clean/ap": np.zeros(3, np.float32), "corrupted/ap": np.zeros((1, 1), np.float32)},
        {"paths": np.array([[1]]), "clean/ap": np.zeros((1, 1), np.float32)},
        {"paths": np.array(["a"]), "clean/ap": np.array([["x"]])},
        {"clean/ap": np.zeros((1, 1), np.float32)},
    ],
)
def test_metrics_of_queries_that_do_not_fit(run, arrays):
    (run / "report_data.json").unlink()
    np.savez(run / "per_query.npz", **arrays)
    tree, (said,) = report(run)
    assert said.startswith("per_query.npz: ")
    assert "Not known" in all_text(by_id(tree, "worst-query"))


def test_a_section_that_cannot_be_made_costs_no_other(run, monkeypatch):
    def fail(one):
        raise KeyError("<b>")

    monkeypatch.setattr(charts, "cmc", fail)
    tree, left_out = report(run)
    assert missing(tree) == {"cmc"}
    assert left_out == [
        "CMC curves: it could not be made (KeyError: '<b>'); test again with this version, or mend the files of the run"
    ]


def test_a_card_of_a_run_with_odd_fields(run, caplog):
    change(run / "results.json", ("matrix", "mAP", "fog"), None)
    change(run / "results.json", ("protocols", "clean", "rank5"), SCRIPT)
    text = write_card(run).read_text()
    assert "| clean " in text
    assert "<script>" not in text
    assert "model card: left out: results.json, matrix: mAP.fog: " in caplog.text
