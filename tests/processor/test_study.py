"""Study files, plans that share stages, and the runner, whose jobs here are small scripts in real processes."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config import load_cfg, stage_cfg, stages_to_run
from model import initial_weight_files
from processor.dry_run import read_estimates
from processor.study import Job, Plan, plan_study, read_study
from processor.study_runner import RECORD, is_done, run_jobs, seconds_of
from tests.helpers import REPOSITORY
from utils.errors import UserError

BASE = REPOSITORY / "configs" / "Synthetic" / "cfat.yml"


def write_study(path, **changes):
    """A study file with three variants; a value of None leaves a key out."""
    content = {
        "BASE": str(BASE),
        "OUTPUT_DIR": str(path.parent / "out"),
        "SEEDS": [1, 2],
        "COMMON": {"CFAT.CLEAN.MAX_EPOCHS": 2},
        "VARIANTS": {
            "corrupted": {"CFAT.STAGES": ["clean", "corrupted"]},
            "cfat": {},
            "neck": ["TEST.FEATURE", "neck"],
        },
        "BASELINE": "corrupted",
    } | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))  # JSON is YAML
    return path


def make_plan(path):
    study = read_study(path)

    def stages_of(opts):
        cfg = load_cfg(str(study.base), opts)
        return [stage_cfg(cfg, name) for name in stages_to_run(cfg)]

    return plan_study(study, stages_of, initial_weight_files)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SEEDS": None}, "SEEDS missing"),
        ({"SEED": 3}, "'SEED' is no key of a study; did you mean SEEDS"),
        ({"SEEDS": [1, 1]}, "has a seed twice"),
        ({"SEEDS": [True]}, "expected a list of integers"),
        ({"SEEDS": []}, "expected a list of integers"),
        ({"VARIANTS": {}}, "VARIANTS: found {}"),
        ({"VARIANTS": {"a/b": {}}, "BASELINE": "a/b"}, "cannot name a directory"),
        ({"VARIANTS": {"stages": {}}, "BASELINE": "stages"}, "names the directory of the stages"),
        ({"BASELINE": "cfta"}, "no variant; did you mean cfat"),
        ({"BASE": 3}, "BASE: found 3, expected a text"),
        ({"COMMON": {"SEED": 3}}, "COMMON: SEED is set by the study itself"),
        ({"COMMON": ["SOLVER.BASE_LR"]}, "expected KEY: VALUE, or a list"),
        ({"COMMON": {"SOLVER": {"BASE_LR": 1}}}, "expected the value of one key"),
    ],
)
def test_errors_of_a_study_file(tmp_path, changes, message):
    path = write_study(tmp_path / "study.yml", **changes)
    with pytest.raises(UserError, match=message) as error:
        read_study(path)
    assert str(path) in str(error.value)


def test_a_wrong_key_names_its_variant(tmp_path):
    variants = {"corrupted": {}, "typo": {"SOLVER.BASE_LRR": 1}}
    with pytest.raises(UserError, match="variant typo: (.|\n)*did you mean SOLVER.BASE_LR"):
        make_plan(write_study(tmp_path / "study.yml", VARIANTS=variants))


def test_a_study_has_one_test_set(tmp_path):
    names = {"DATASETS.NAMES": ["market1501", "msmt17"]}
    plan = make_plan(write_study(tmp_path / "study.yml", COMMON=names | {"DATASETS.TEST": "cuhk03"}))
    again = make_plan(write_study(tmp_path / "study.yml", COMMON=names | {"DATASETS.TEST": "msmt17"}))
    assert plan.stages == again.stages  # the test set changes no weight
    with pytest.raises(UserError, match="variant corrupted: it tests on market1501, msmt17; a study compares variants"):
        make_plan(write_study(tmp_path / "study.yml", COMMON=names))


def test_a_plan_trains_identical_stages_once(tmp_path):
    plan = make_plan(write_study(tmp_path / "study.yml"))
    stages = [job.stage for job in plan.jobs.values() if job.stage]
    assert sorted(stages) == sorted(2 * ["clean", "corrupted", "bridge", "align"])  # for each of two seeds
    assert plan.stages["cfat", 1] == plan.stages["neck", 1]
    assert plan.stages["corrupted", 1] == plan.stages["cfat", 1][:2]
    assert not set(plan.stages["cfat", 1]) & set(plan.stages["cfat", 2])
    assert len(plan.tests) == 6
    align = plan.jobs[plan.stages["cfat", 1][3]]
    assert set(align.needs) == set(plan.stages["cfat", 1][:3])
    places = list(plan.jobs)
    assert all(places.index(need) < places.index(place) for place, job in plan.jobs.items() for need in job.needs)
    kinds = {plan.jobs[plan.stages["cfat", seed][3]].kind for seed in (1, 2)}
    assert len(kinds) == 1


def test_what_changes_weights_makes_another_stage(tmp_path):
    variants = {
        "corrupted": {},
        "lr": {"CFAT.ALIGN.BASE_LR": 0.01},
        "clean_lr": {"CFAT.CLEAN.BASE_LR": 0.01},
        "harmless": {"TEST.REPEATS": 3, "DATALOADER.NUM_WORKERS": 2},
        "data": {"DATASETS.NAMES": "market1501"},
    }
    plan = make_plan(write_study(tmp_path / "study.yml", VARIANTS=variants, SEEDS=[1]))
    base, lr, clean, harmless, data = (plan.stages[name, 1] for name in variants)
    assert harmless == base
    assert lr[:3] == base[:3]
    assert lr[3] != base[3]
    assert not set(clean) & set(base)  # every later stage starts from the clean one
    assert not set(data) & set(base)


def test_a_change_of_a_base_of_the_base_makes_another_test(tmp_path):
    """TEST.METRIC trains no stage anew, and the test runs again though the study and its BASE are as before."""
    grandparent, parent = tmp_path / "grandparent.yml", tmp_path / "parent.yml"
    parent.write_text(f"_BASE_: {grandparent}\n")
    path = write_study(tmp_path / "study.yml", BASE=str(parent), SEEDS=[1])
    digests = []
    for metric in ("euclidean", "cosine"):
        grandparent.write_text(f"_BASE_: {BASE}\nTEST: {{METRIC: {metric}}}\n")
        plan = make_plan(path)
        digests.append([plan.jobs[place].digest for place in (plan.stages["cfat", 1][-1], plan.tests["cfat", 1])])
    (stage, test), (stage_after, test_after) = digests
    assert stage == stage_after
    assert test != test_after


def test_a_plan_names_the_weights_of_its_own_jobs(tmp_path):
    plan = make_plan(write_study(tmp_path / "study.yml", SEEDS=[1]))
    clean, _, bridge, align = (plan.jobs[place] for place in plan.stages["cfat", 1])
    given = dict(zip(align.arguments[3::2], align.arguments[4::2], strict=True))
    assert given["CFAT.CLEAN.WEIGHT"] == str(clean.result)
    assert given["CFAT.BRIDGE.WEIGHT"] == str(bridge.result)
    assert given["CFAT.STAGES"] == "['align']"
    test = plan.jobs[plan.tests["neck", 1]]
    given = dict(zip(test.arguments[3::2], test.arguments[4::2], strict=True))
    assert given["TEST.WEIGHT"] == str(align.result)
    assert given["TEST.FEATURE"] == "neck"


def make_job(root, name, code, needs=(), digest="1"):
    """A job that runs `code` in its directory, after appending a line to a log of all starts."""
    place, script = root / name, root / f"{name}.py"
    log = f"open({str(root / 'starts.txt')!r}, 'a').write({name!r} + '\\n')"
    script.write_text(f"import os, sys, time\nos.chdir({str(place)!r})\n{log}\n{code}\n")
    needs = tuple(root / need for need in needs)
    return Job(f"job {name}", place, (str(script),), digest, place / "result.txt", name, needs=needs)


# A program that runs one job.
RUNNER = """
from pathlib import Path
from processor.study import Job, Plan
from processor.study_runner import run_jobs
job = Job("job", Path({place!r}), ({script!r},), "1", Path({result!r}), "long")
run_jobs(Plan({{job.directory: job}}))
"""
DONE = "open('result.txt', 'w').write('done')"


def starts(root):
    return (root / "starts.txt").read_text().split()


def test_jobs_run_in_order_and_once(tmp_path):
    jobs = [
        make_job(tmp_path, "a", f"time.sleep(0.5); {DONE}"),
        make_job(tmp_path, "b", f"assert os.path.exists('../a/result.txt'); {DONE}", needs=["a"]),
        make_job(tmp_path, "c", DONE),
    ]
    plan = Plan({job.directory: job for job in jobs})
    assert run_jobs(plan, at_once=2) == {}
    assert sorted(starts(tmp_path)) == ["a", "b", "c"]
    assert starts(tmp_path)[-1] == "b"
    assert all(is_done(job) for job in jobs)
    assert seconds_of(jobs[0]) >= 0.5
    assert run_jobs(plan) == {}
    assert len(starts(tmp_path)) == 3
    changed = make_job(tmp_path, "c", DONE, digest="2")
    assert seconds_of(changed) is None
    run_jobs(Plan({changed.directory: changed}))
    assert starts(tmp_path).count("c") == 2


def test_a_job_that_fails_stops_only_what_needs_it(tmp_path):
    jobs = [
        make_job(tmp_path, "bad", "print('error: the lr is too high'); sys.exit(1)"),
        make_job(tmp_path, "after", DONE, needs=["bad"]),
        make_job(tmp_path, "good", DONE),
        make_job(tmp_path, "silent", "pass"),  # ends well, and leaves no result
    ]
    errors = run_jobs(Plan({job.directory: job for job in jobs}))
    assert set(errors) == {tmp_path / name for name in ("bad", "after", "silent")}
    assert "status 1: error: the lr is too high" in errors[tmp_path / "bad"]
    assert "which failed" in errors[tmp_path / "after"]
    assert is_done(jobs[2])
    assert not is_done(jobs[3])
    jobs[0] = make_job(tmp_path, "bad", DONE)  # mended
    assert set(run_jobs(Plan({job.directory: job for job in jobs[:3]}))) == set()


def test_a_killed_study_waits_for_the_job_that_it_left_and_runs_nothing_twice(tmp_path, caplog):
    """The runner is killed while a job holds the lock of its directory, as a training does."""
    hold = (
        f"sys.path.insert(0, {str(REPOSITORY)!r})\nfrom utils.locks import lock_output_dir\n"
        f"with lock_output_dir('.'):\n    open('held', 'w').close(); time.sleep(3); {DONE}"
    )
    job = make_job(
        tmp_path, "long", f"if not os.path.exists('result.txt'):\n    {hold.replace(chr(10), chr(10) + '    ')}"
    )
    code = RUNNER.format(place=str(job.directory), script=job.arguments[0], result=str(job.result))
    runner = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    wait_for(job.directory / "held")
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert not job.result.exists()
    before = time.time()
    with caplog.at_level(logging.INFO):
        assert run_jobs(Plan({job.directory: job})) == {}
    assert caplog.text.count(f"waiting for another process that writes to {job.directory}") == 1
    assert job.result.exists()
    assert time.time() - before > 0.5
    assert starts(tmp_path) == ["long", "long"]  # the second one finds the result


def test_sigterm_stops_the_jobs_and_their_seconds_count(tmp_path):
    job = make_job(tmp_path, "long", "open('ready', 'w').close(); time.sleep(60)")
    code = RUNNER.format(place=str(job.directory), script=job.arguments[0], result=str(job.result))
    runner = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    wait_for(job.directory / "ready")
    time.sleep(0.3)
    runner.send_signal(signal.SIGTERM)
    assert runner.wait(timeout=30) == 128 + signal.SIGTERM
    record = json.loads((job.directory / RECORD).read_text())
    assert record["done"] is False
    assert record["seconds"] > 0.2
    assert not [line for line in processes() if str(tmp_path) in line]


def wait_for(path, seconds=30):
    until = time.time() + seconds
    while not path.exists():
        assert time.time() < until, f"{path} did not appear"
        time.sleep(0.05)


def processes():
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


def test_estimates_of_a_dry_run_are_read():
    log = "12:00 INFO stage clean: at 0.12 s per step, 3 min 05 s\nstage align: at 1.00 s per step, 2 h 03 min\n"
    assert read_estimates(log) == {"clean": 185, "align": 7380}


def test_the_ablation_trains_one_teacher_a_seed_and_shows_every_student_as_many_images():
    plan = make_plan(BASE.parent / "ablation.yml")
    names = {name for name, _ in plan.tests}
    assert len(names) == 13
    assert len({plan.stages[name, 1][0] for name in names}) == 1
    assert len([job for job in plan.jobs.values() if job.stage == "clean"]) == 5
    for name, seed in plan.tests:
        epochs, stages = 0, [plan.jobs[place] for place in plan.stages[name, seed]]
        for job in stages:
            cfg = stage_cfg(load_cfg(job.arguments[2], job.arguments[3:]), job.stage)
            views = {"clean": 0, "corrupted": 1, "bridge": 0, "align": 2 if cfg.CFAT.STUDENT_VIEWS == "both" else 1}
            epochs += views[job.stage] * cfg.SOLVER.MAX_EPOCHS
            assert (cfg.SOLVER.IMS_PER_BATCH, cfg.INPUT.SELF_ID) == (32, False)
        assert epochs == (0 if name == "teacher" else 20), name
        assert stages[0].stage == "clean"
