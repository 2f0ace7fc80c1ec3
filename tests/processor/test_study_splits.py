"""Studies on validation identities: one split for all variants, and digests that the keys of the split leave alone."""

import pytest
from yacs.config import CfgNode

from config import load_cfg
from processor.study import VALUES_BEFORE_KEY, _digests, _without_later_keys
from tests.processor.test_study import make_plan, write_study
from utils.errors import UserError

SHARE = {"DATASETS.VALIDATION_SHARE": 0.2}


def digest(*opts):
    return _digests(load_cfg(opts=["CFAT.STAGE", "clean", *opts]), {}, {})


def keys_of(node, prefix=""):
    """The full names of all keys below a node."""
    found = set()
    for name, value in node.items():
        found |= keys_of(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else {prefix + name}
    return found


def test_digests_of_stages():
    assert digest() == digest("SOLVER.EVAL_ON", "test", "TEST.SPLIT", "test")
    share = digest("DATASETS.VALIDATION_SHARE", "0.2")
    assert share == digest(
        "DATASETS.VALIDATION_SHARE", "0.2", "SOLVER.EVAL_ON", "validation", "TEST.SPLIT", "validation"
    )
    others = [digest("DATASETS.VALIDATION_SHARE", "0.2", "DATASETS.VALIDATION_SEED", "1"), digest()]
    assert len({share, *others}) == 3


def test_keys_with_their_value_before_are_left_out():
    cfg = load_cfg()
    assert keys_of(cfg) - keys_of(_without_later_keys(cfg)) == VALUES_BEFORE_KEY.keys()
    on_validation = load_cfg(opts=["TEST.SPLIT", "validation"])
    found = _without_later_keys(on_validation)
    assert keys_of(on_validation) - keys_of(found) == VALUES_BEFORE_KEY.keys() - {"TEST.SPLIT"}
    assert found.TEST.SPLIT == "validation"


def test_variants_are_tested_on_one_split(tmp_path):
    on_validation = {**SHARE, "TEST.SPLIT": "validation"}
    common = make_plan(write_study(tmp_path / "study.yml", COMMON=on_validation))
    assert set(common.splits.values()) == {"validation (VALIDATION_SHARE 0.2, VALIDATION_SEED 0)"}
    shares = {"corrupted": {}, "less": SHARE}  # trained on other identities, tested on the same set
    make_plan(write_study(tmp_path / "study.yml", VARIANTS=shares))
    for other in (SHARE, {**on_validation, "DATASETS.VALIDATION_SHARE": 0.3}):
        variants = {"corrupted": on_validation, "other": other}
        with pytest.raises(
            UserError, match="compares variants on one split: found corrupted on validation .*; other on"
        ):
            make_plan(write_study(tmp_path / "study.yml", VARIANTS=variants))


def test_one_validation_set(tmp_path):
    several = {"DATASETS.NAMES": ["synthetic", "market1501"], "DATASETS.TEST": ["synthetic"], **SHARE}
    make_plan(write_study(tmp_path / "study.yml", COMMON=several))
    with pytest.raises(UserError, match="tests on synthetic, market1501; .* on one validation set: train on one"):
        make_plan(write_study(tmp_path / "study.yml", COMMON={**several, "TEST.SPLIT": "validation"}))
