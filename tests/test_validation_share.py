"""Validation end to end: train.py that evaluates and tests on held-back identities, test.py on its checkpoints."""

import json

import pytest

from datasets.synthetic.generate import SyntheticSettings, synthesize
from test import main as run_test
from tests.test_several_sets import SETTINGS
from train import main as run_train
from utils.checkpoints import load_checkpoint
from utils.errors import UserError

pytestmark = pytest.mark.usefixtures("restored_logging")
SHARE = {"DATASETS.VALIDATION_SHARE": 0.25, "DATASETS.VALIDATION_SEED": 2}
TUNED = {**SHARE, "SOLVER.EVAL_PERIOD": 1, "SOLVER.EVAL_ON": "validation", "TEST.SPLIT": "validation"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("validation")
    settings = SyntheticSettings(num_identities=16, num_cameras=3, images_per_camera=2)
    synthesize(root / "data" / "market1501", settings, workers=1)
    return root


def options(root, output, **changes):
    small = {"TEST.REPEATS": 1, "TEST.PROTOCOLS": "[clean, corrupted]", "DATASETS.NAMES": "market1501"}
    settings = {**SETTINGS, **small, "DATASETS.ROOT_DIR": root / "data", "OUTPUT_DIR": output, **changes}
    return [str(part) for pair in settings.items() for part in pair]


def results_of(output):
    return json.loads((output / "results.json").read_text())


@pytest.fixture
def tuned(root):
    """A run on validation, trained by the first test that asks for it."""
    output = root / "tuned"
    if not (output / "results.json").exists():
        run_train(options(root, output, **TUNED))
    return output


def test_training_and_testing_on_validation(root, tuned, tmp_path):
    content, log = results_of(tuned), (tuned / "log.txt").read_text()
    assert content["split"] == "validation"
    assert "2 of 8 identities are held back for validation: 6 queries, 6 images in the gallery" in log
    assert "the best epoch is chosen on market1501 validation (SOLVER.EVAL_ON)" in log
    meta = load_checkpoint(tuned / "checkpoints" / "clean.pth")["meta"]
    assert (meta["num_classes"], meta["num_cameras"], meta["validation"]["share"]) == (6, 3, 0.25)
    best = tuned / "checkpoints" / "clean_best.pth"  # of the only epoch
    run_test(options(root, tmp_path, **{"TEST.WEIGHT": best, "TEST.SPLIT": "validation"}))
    found = results_of(tmp_path)
    assert found["protocols"] == content["protocols"]
    assert (found["split"], found["selected_on"]) == ("validation", ["market1501 validation"])
    run_test(options(root, tmp_path / "test", **{"TEST.WEIGHT": best}))
    tested = results_of(tmp_path / "test")
    assert "split" not in tested
    assert tested["selected_on"] == ["market1501 validation"]
    assert tested["protocols"] != content["protocols"]


def test_what_may_change_before_a_run_is_resumed(root, tuned):
    resume = {**SHARE, "SOLVER.RESUME": "auto", "OUTPUT_DIR": tuned}
    run_train(options(root, tuned, **{**resume, "SEED": 1234}))
    assert "stage clean: finished by an earlier run" in (tuned / "log.txt").read_text()
    assert "split" not in results_of(tuned)
    for changes in ({"DATASETS.VALIDATION_SEED": 3}, {"DATASETS.VALIDATION_SHARE": 0.5}):
        with pytest.raises(UserError, match="other training set: .*sha256"):
            run_train(options(root, tuned, **{**resume, **changes}))


def test_weights_that_know_the_validation_identities(root, tuned, tmp_path):
    weight = tuned / "checkpoints" / "clean.pth"
    other = {**TUNED, "DATASETS.VALIDATION_SEED": 3}
    with pytest.raises(UserError, match="TEST.WEIGHT .*held back other identities"):
        run_test(options(root, tmp_path, **{**other, "TEST.WEIGHT": weight}))
    with pytest.raises(UserError, match="CFAT.CLEAN.WEIGHT .*held back other identities"):
        run_train(options(root, tmp_path, **{**other, "CFAT.CLEAN.WEIGHT": weight}))
    started = {"CFAT.STAGES": "[corrupted]", "CFAT.CORRUPTED.INIT": "clean", "CFAT.CLEAN.WEIGHT": weight}
    with pytest.raises(UserError, match="CFAT.CLEAN.WEIGHT .*held back other identities"):
        run_train(options(root, tmp_path, **{**other, **started}))


def test_a_chain_of_checkpoints_over_another_data_set(root, tuned, tmp_path):
    settings = SyntheticSettings(num_identities=8, num_cameras=3, images_per_camera=2, seed=1)
    synthesize(root / "data" / "synthetic", settings, workers=1)
    between = {"DATASETS.NAMES": "synthetic", "MODEL.PRETRAIN_PATH": tuned / "checkpoints" / "clean.pth"}
    run_train(options(root, tmp_path, **between, **{"TEST.PROTOCOLS": "[clean]"}))
    weight = tmp_path / "checkpoints" / "clean.pth"
    (first,) = load_checkpoint(weight)["meta"]["earlier_trainings"]
    assert (first["datasets"], first["share"], first["seed"]) == (["market1501"], 0.25, 2)
    last = {**TUNED, "MODEL.PRETRAIN_PATH": weight}
    run_train(["--dry-run", *options(root, tmp_path / "last", **last)])
    with pytest.raises(UserError, match="PRETRAIN_PATH .*: a model that its initial weights come from held back other"):
        run_train(["--dry-run", *options(root, tmp_path / "last", **{**last, "DATASETS.VALIDATION_SEED": 3})])


def test_a_split_without_a_share(root, tmp_path):
    with pytest.raises(UserError, match=r"SOLVER.EVAL_ON: found validation, but DATASETS.VALIDATION_SHARE 0"):
        run_train(options(root, tmp_path, **{"SOLVER.EVAL_ON": "validation", "SOLVER.EVAL_PERIOD": 1}))
    with pytest.raises(UserError, match=r"TEST.SPLIT validation: DATASETS.VALIDATION_SHARE 0 holds no identities back"):
        run_train(options(root, tmp_path, **{"TEST.SPLIT": "validation"}))
