"""What a study makes of finished tests: differences of the same queries, and none where tests do not compare."""

import argparse
import json

import numpy as np
import pytest

import processor.__main__ as command_line
from processor.per_query import FILE, write_per_query
from processor.results import METRICS
from processor.study import Job, Plan, Study
from processor.study_results import collect, write_study
from processor.study_runner import RECORD
from utils.checkpoints import save_checkpoint
from utils.structures import ImageRecord, RetrievalMetrics

SEEDS = (1, 2)
QUERIES = [ImageRecord(f"data/query/{number}.jpg", number, 0) for number in range(6)]


def add_test(plan, root, name, seed, ap, *, queries=QUERIES, dataset="market1501", convention="step"):
    """The files of a finished test, and of the stage before it."""
    stage, place = root / "stages" / f"{name}{seed}", root / name / f"seed{seed}"
    save_checkpoint(stage / "clean.pth", {}, {"images_seen": 100 * seed, "training_seconds": 10.0 * seed})
    place.mkdir(parents=True)
    table = np.stack([ap, ap, np.where(np.isnan(ap), 0, 1)], axis=1)
    table = np.where(np.isnan(table), 0, table)
    metrics = RetrievalMetrics(float(np.nanmean(ap)), 0.5, np.ones(10), len(ap), len(ap), per_query=table)
    write_per_query(place / FILE, {"clean": metrics}, queries)
    content = {
        "dataset": dataset,
        "dataset_version": "",
        "evaluation": {"ap": convention, "cmc": "standard"},
        "protocols": {"clean": {metric: {"mean": metrics.mAP, "std": 0.0} for metric in METRICS}},
    }
    (place / "results.json").write_text(json.dumps(content))
    (place / "results.csv").write_text("dataset,protocol\n")
    for directory, result in ((stage, stage / "clean.pth"), (place, place / "results.json")):
        plan.jobs[directory] = Job(name, directory, (), "digest", result, "kind")
        (directory / RECORD).write_text(json.dumps({"digest": "digest", "seconds": 99.0, "done": True}))
    plan.stages[name, seed], plan.tests[name, seed] = [stage], place


@pytest.fixture
def made(tmp_path):
    """A study of two comparable variants and three that do not compare with the baseline."""
    plan, rng = Plan(), np.random.default_rng(0)
    for seed in SEEDS:
        ap = rng.random(6)
        ap[4] = np.nan  # a query without a match
        add_test(plan, tmp_path, "base", seed, ap)
        add_test(plan, tmp_path, "better", seed, ap + 0.1 * rng.random(6))
        add_test(plan, tmp_path, "data", seed, ap, dataset="msmt17")
        add_test(plan, tmp_path, "convention", seed, ap, convention="trapezoid")
        add_test(plan, tmp_path, "queries", seed, ap, queries=QUERIES[::-1])
    variants = dict.fromkeys(("base", "better", "data", "convention", "queries"), ())
    return Study(tmp_path / "base.yml", tmp_path, SEEDS, variants, "base"), plan


def test_the_difference_is_that_of_the_means(made):
    study, plan = made
    found = collect(study, plan)
    means = {name: np.mean(result.protocols["clean"]["mAP"]) for name, result in found.items()}
    difference = found["better"].within_seeds["clean"]
    assert difference.mean == pytest.approx(means["better"] - means["base"], abs=1e-6)
    assert difference.low < difference.mean < difference.high
    assert found["better"].over_seeds == {}  # of two seeds
    assert (found["better"].images_seen, found["better"].seconds) == (100, 15.0)
    assert found["base"].within_seeds == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("data", "it was tested on msmt17, the baseline on market1501"),
        ("convention", "its metrics are {'ap': 'trapezoid', 'cmc': 'standard'}"),
        ("queries", "it was tested with other queries than the baseline"),
    ],
)
def test_what_does_not_compare_has_no_difference(made, name, reason, caplog):
    study, plan = made
    found = collect(study, plan)
    assert found[name].note.startswith(reason)
    assert found[name].within_seeds == {}
    assert f"variant {name} is not compared with base: {reason}" in caplog.text
    table = write_study(study, plan, found)
    line = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
    assert max(map(len, table.splitlines())) <= 80
    assert f"{100 * np.mean(found[name].protocols['clean']['mAP']):.2f}" in line
    content = json.loads((study.output_dir / "study.json").read_text())
    assert content["variants"][name]["not_compared"].startswith(reason)
    assert "not_compared" not in content["variants"]["better"]


def test_a_study_that_is_stopped_leaves_the_tables_of_what_is_done(made, monkeypatch):
    found, plan = made

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("processor.study.read_study", lambda _: found)
    monkeypatch.setattr("processor.study_parts.select", lambda *_, **__: plan)
    monkeypatch.setattr("processor.study_runner.run_jobs", stopped)
    monkeypatch.setattr(command_line, "make_plan", lambda _: plan)
    monkeypatch.setattr(command_line, "warn_of_unread_keys", lambda _: None)
    args = argparse.Namespace(file="study.yml", variants=None, seeds=None, dry_run=False, jobs=1)
    with pytest.raises(KeyboardInterrupt):
        command_line.study(args)
    assert "better" in (found.output_dir / "study.md").read_text()
