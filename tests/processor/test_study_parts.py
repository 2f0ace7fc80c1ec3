"""Parts of a study, keys that nothing reads, and what a dry run says of data that are not there."""

import pytest

from config import find_unread, load_cfg
from processor.__main__ import PLAN_WIDTH, main
from processor.study import _without_later_keys, read_study
from processor.study_parts import select, unread_overrides
from tests.processor.test_study import BASE, make_plan, write_study
from utils.errors import UserError


def test_a_part_has_the_tests_and_what_they_need(tmp_path):
    study, plan = read_study(path := write_study(tmp_path / "study.yml")), make_plan(path)
    assert select(study, plan) == plan
    part = select(study, plan, variants=("corrupted",), seeds=(2,))
    assert list(part.tests) == [("corrupted", 2)]
    assert part.splits == {("corrupted", 2): "the test set"}
    assert [job.stage for job in part.jobs.values()] == ["clean", "corrupted", ""]
    assert {job.digest for job in part.jobs.values()} < {job.digest for job in plan.jobs.values()}
    assert list(select(study, plan, seeds=(1,)).tests) == [(name, 1) for name in study.variants]
    with pytest.raises(UserError, match="--variants: no variant 'corupted'; did you mean corrupted"):
        select(study, plan, variants=("corupted",))
    with pytest.raises(UserError, match="--seeds: no seed 3; the study has 1, 2"):
        select(study, plan, seeds=(3,))


def test_what_no_variant_reads_is_said_once_and_jobs_are_quiet(tmp_path, caplog):
    variants = {
        "corrupted": {"CFAT.STAGES": ["clean", "corrupted"]},
        "vain": {"CFAT.STAGES": ["clean", "corrupted"], "CFAT.COARSE.TEMPERATURE": 0.2},
        "cfat": {},
    }
    common = {"CFAT.ALIGN.MAX_EPOCHS": 2, "SOLVER.STEPS": [3]}  # read by one variant; by none
    path = write_study(tmp_path / "study.yml", VARIANTS=variants, COMMON=common)
    study = read_study(path)

    def unread(opts):
        return {key: purpose for key, (_, purpose) in find_unread(str(study.base), opts).items()}

    assert "CFAT.ALIGN.MAX_EPOCHS" in unread(study.variants["corrupted"])
    lines = unread_overrides(study, unread)
    assert [line.split(" is given")[0] for line in lines] == ["SOLVER.STEPS", "variant vain: CFAT.COARSE.TEMPERATURE"]
    for job in make_plan(path).jobs.values():
        caplog.clear()
        load_cfg(job.arguments[2], job.arguments[3:])
        assert "nothing in this run" not in caplog.text


def test_keys_that_are_newer_than_a_study_leave_its_tests_finished():
    def tested(*opts):
        return _without_later_keys(load_cfg(str(BASE), opts))

    before = tested()
    assert "UNREAD_KEYS" not in before
    assert not {"BASELINE", "REPORT"} & before.TEST.keys()
    assert before.dump() == tested("UNREAD_KEYS", "warn", "TEST.BASELINE", "", "TEST.REPORT", "True").dump()
    assert tested("UNREAD_KEYS", "ignore").UNREAD_KEYS == "ignore"
    assert tested("TEST.BASELINE", "a.json").TEST.BASELINE == "a.json"
    assert tested("TEST.REPORT", "False").TEST.REPORT is False
    assert before.dump() != tested("TEST.METRIC", "cosine").dump()


@pytest.mark.parametrize("names", ["synthetic", "market1501"])
def test_a_dry_run_says_once_what_data_are_missing(tmp_path, capsys, names):
    common = {"DATASETS.ROOT_DIR": str(tmp_path / "nowhere"), "DATASETS.NAMES": names}
    path = write_study(tmp_path / "study.yml", COMMON=common)
    assert main(["study", str(path), "--dry-run", "--variants", "corrupted,neck", "--seeds", "2"]) == 1
    output = capsys.readouterr().out
    assert output.count("not found") == 1
    assert output.startswith("data of variant corrupted: ")
    assert str(tmp_path / "nowhere") in output
    assert not (tmp_path / "nowhere").exists()  # the synthetic set is not rendered
    assert "2 runs of 2 variants" in output
    assert "seed 1" not in output
    assert output.count("not known") >= 6  # no time is measured without data
    assert max(len(line) for line in output.splitlines() if line.startswith("|")) <= PLAN_WIDTH
    with pytest.raises(SystemExit):
        main(["study", str(path), "--seeds", "one"])
    assert "expected integers, e.g. 1,2" in capsys.readouterr().err
