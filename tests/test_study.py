"""python -m processor study end to end: stages trained once, killed and resumed, tables that hold the numbers."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from datasets.synthetic.generate import SyntheticSettings, synthesize
from processor.per_query import read_average_precision
from tests.helpers import REPOSITORY
from utils.metrics.bootstrap import paired_bootstrap

COMMON = {
    "MODEL.TRANSFORMER_TYPE": "test_vit",
    "INPUT.SIZE_TRAIN": [64, 32],
    "INPUT.SIZE_TEST": [64, 32],
    "DATASETS.NAMES": "market1501",
    "DATASETS.CHECK_COUNTS": False,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.WARMUP_EPOCHS": 0,
    "CFAT.STAGES": ["clean"],
    "CFAT.CLEAN.MAX_EPOCHS": 40,
    "TEST.REPEATS": 1,
    "TEST.RANKED_QUERIES": 0,
    "TEST.PROTOCOLS": ["clean", "corrupted"],
}


def study(path, *arguments, **options):
    command = [sys.executable, "-m", "processor", "study", str(path), *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study that was killed with its training and run again: its directory, and what the second run printed."""
    root = tmp_path_factory.mktemp("study")
    synthesize(root / "data" / "market1501", SyntheticSettings(num_identities=16, num_cameras=3, images_per_camera=2))
    path = root / "study.yml"
    content = {
        "BASE": str(REPOSITORY / "configs" / "Synthetic" / "cfat.yml"),
        "OUTPUT_DIR": str(root / "out"),
        "SEEDS": [1],
        "COMMON": {**COMMON, "DATASETS.ROOT_DIR": str(root / "data")},
        "VARIANTS": {"token": {}, "neck": {"TEST.FEATURE": "neck"}},
        "BASELINE": "token",
    }
    path.write_text(json.dumps(content))
    first = study(path, start_new_session=True)
    state = None
    until = time.time() + 120
    while state is None and time.time() < until:
        state = next((root / "out").glob("stages/*/checkpoints/clean_last.pth"), None)
        time.sleep(0.05)
    assert state is not None
    first.send_signal(signal.SIGKILL)
    subprocess.run(["pkill", "-KILL", "-f", str(root / "out" / "stages")], check=False)
    first.wait()
    second = study(path)
    output, _ = second.communicate(timeout=240)
    assert second.returncode == 0, output
    return root / "out", output


def test_the_stage_was_trained_once_and_resumed(finished):
    out, _ = finished
    (stage,) = (out / "stages").iterdir()
    log = (stage / "log.txt").read_text()
    assert "stage clean: resumed from" in log
    assert log.count("stage clean: done") == 1
    assert "nothing in this run reads it" not in log


def test_tables_hold_the_numbers_of_the_tests(finished):
    out, output = finished
    results = {name: json.loads((out / name / "seed1" / "results.json").read_text()) for name in ("token", "neck")}
    content = json.loads((out / "study.json").read_text())
    for name, result in results.items():
        found = content["variants"][name]["protocols"]["corrupted"]["mAP"]
        assert found == [result["protocols"]["corrupted"]["mAP"]["mean"]]
        assert f"{100 * found[0]:.2f}" in output
        assert f"{100 * found[0]:.2f}" in (out / "study.md").read_text()
        assert f"{100 * found[0]:.2f}" in (out / "study.tex").read_text()
    ap = {name: read_average_precision(out / name / "seed1").by_protocol["clean"] for name in results}
    matched = np.isfinite(ap["token"])
    assert ap["token"][matched].mean() == pytest.approx(results["token"]["protocols"]["clean"]["mAP"]["mean"], abs=1e-6)
    expected = paired_bootstrap((ap["neck"] - ap["token"])[None, matched])
    assert content["variants"]["neck"]["difference_within_seeds"]["clean"] == pytest.approx(expected._asdict())
    assert content["variants"]["neck"]["difference_over_seeds"] == {}  # of one seed
    updates = 40 * 2  # epochs of two batches
    assert content["variants"]["token"]["images_seen"] == updates * 16


def test_the_csv_has_a_row_for_each_variant_protocol_and_repeat(finished):
    out, _ = finished
    with open(out / "study.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["variant"], row["protocol"]) for row in rows] == [
        (name, protocol) for name in ("token", "neck") for protocol in ("clean", "corrupted")
    ]
    assert (out / "study.png").stat().st_size > 5000


def test_a_finished_study_runs_nothing(finished):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("log.txt")}
    again = study(out.parent / "study.yml", "--dry-run")
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert output.count("done") == 3
    assert "left, one at a time: about 0 min 00 s" in output
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("log.txt")}


def test_a_part_of_a_study_and_what_is_not_done(finished):
    out, _ = finished
    path = out.parent / "part.yml"
    content = json.loads((out.parent / "study.yml").read_text())
    path.write_text(json.dumps(content | {"SEEDS": [1, 2]}))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("log.txt")}
    again = study(path, "--seeds", "1", "--variants", "token,neck")
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output
    assert "not done: token, seed 2; neck, seed 2" in output
    assert "not done: token, seed 2; neck, seed 2" in (out / "study.md").read_text()
    found = json.loads((out / "study.json").read_text())
    assert found["not_done"] == {"token": [2], "neck": [2]}
    assert found["variants"]["neck"]["types_seen_in_training"] == {"corrupted": "none of 20"}
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("log.txt")}
