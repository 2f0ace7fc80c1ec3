"""Several data sets end to end, in processes of their own: joint training, and tests of one model on each."""

import csv
import json
import re
import shutil

import pytest
import torch

from datasets.synthetic.generate import SyntheticSettings, synthesize
from test import main as run_test
from tests import commands
from train import main as run_train
from utils.errors import UserError

SETTINGS = {
    "MODEL.TRANSFORMER_TYPE": "vit_tiny_patch16_128_TransReID",
    "MODEL.PRETRAIN_PATH": "",
    "MODEL.DEVICE": "cpu",
    "INPUT.SIZE_TRAIN": "[32, 32]",
    "INPUT.SIZE_TEST": "[32, 32]",
    "DATASETS.CHECK_COUNTS": "False",
    "DATASETS.FOLDER.TRAIN": "bounding_box_train",
    "DATASETS.FOLDER.GALLERY": "bounding_box_test",
    "DATASETS.FOLDER.PATTERN": r"(?P<pid>-?\d+)_c(?P<camid>\d+)s.+",
    "DATALOADER.NUM_WORKERS": "0",
    "DATALOADER.NUM_INSTANCE": "2",
    "SOLVER.IMS_PER_BATCH": "8",
    "SOLVER.WARMUP_EPOCHS": "0",
    "SOLVER.MAX_EPOCHS": "1",
    "CFAT.STAGES": "[clean]",
    "TEST.REPEATS": "2",
    "CORRUPTION.TEST": "[noise, fog]",
}
GATE, STREET, PHOTOS = "market1501:gate", "synthetic:street", "folder:photos"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for number, (place, cameras) in enumerate({"gate/market1501": 3, "street/synthetic": 3, "photos": 2}.items()):
        settings = SyntheticSettings(num_identities=8, num_cameras=cameras, images_per_camera=2, seed=number)
        synthesize(root / "data" / place, settings, workers=1)
    return root


def options(root, output, **changes):
    settings = {**SETTINGS, "DATASETS.ROOT_DIR": root / "data", "OUTPUT_DIR": output, **changes}
    return [str(part) for pair in settings.items() for part in pair]


def rows_of(output, name):
    with (output / "results.csv").open() as handle:
        return [row for row in csv.DictReader(handle) if row["dataset"] == name]


def results_of(output):
    return json.loads((output / "results.json").read_text())


JOINT = {
    "DATASETS.NAMES": [GATE, PHOTOS],
    "DATASETS.TEST": [PHOTOS, STREET, GATE],
    "DATALOADER.BALANCE": "sets",
    "SOLVER.EVAL_PERIOD": 1,
}


@pytest.fixture(scope="module")
def joint(root):
    """The output of training on two data sets and testing on these and a third."""
    done = commands.run("train.py", *options(root, root / "joint", **JOINT))
    assert done.returncode == 0, done.stderr
    return root / "joint"


def test_joint_training_and_a_test_on_each_set(joint):
    content = results_of(joint)
    assert list(content) == ["weight", "seed", "datasets"]
    assert list(content["datasets"]) == [PHOTOS, STREET, GATE]
    for name, results in content["datasets"].items():
        assert results["dataset"] == name
        rows = rows_of(joint, name)
        assert [row["protocol"] for row in rows] == [
            "clean",
            *(protocol for protocol in list(results["protocols"])[1:] for _ in range(2)),
        ]
        assert float(rows[0]["mAP"]) == results["protocols"]["clean"]["mAP"]["mean"] > 0
    checkpoint = torch.load(joint / "checkpoints" / "clean.pth", weights_only=True)
    assert checkpoint["meta"]["datasets"] == [
        {"name": GATE, "num_cameras": 3, "num_views": 1},
        {"name": PHOTOS, "num_cameras": 2, "num_views": 1},
    ]
    assert len(checkpoint["model"]["base.sie_embed"]) == 3 + 2
    assert len(checkpoint["model"]["classifier.weight"]) == 4 + 4
    log = (joint / "log.txt").read_text()
    for name in (PHOTOS, STREET, GATE):
        assert f"stage clean epoch 1, corrupted/{name}: mAP " in log
        assert f"\n  {name}:\n\n  | protocol " in log
    assert (joint / "checkpoints" / "clean_best.pth").exists()


def test_the_checkpoint_on_a_set_of_its_own_and_another(root, joint, tmp_path):
    changes = {
        "DATASETS.NAMES": [PHOTOS],
        "DATASETS.TEST": [STREET, PHOTOS],
        "TEST.WEIGHT": joint / "checkpoints" / "clean.pth",
        "TEST.MATRIX": "corrupted_query",
        "TEST.COMPARE": joint,
        "CORRUPTION.SEVERITIES": "[1, 2, 3, 4, 5]",
        **{f"TEST.{name}_QUERIES": 1 for name in ("RANKED", "ATTENTION")},
        **{f"TEST.{name}": True for name in ("SAVE_FEATURES", "THRESHOLDS")},
    }
    done = commands.run("test.py", *options(root, tmp_path, **changes))
    assert done.returncode == 0, done.stderr
    found, before = results_of(tmp_path)["datasets"], results_of(joint)["datasets"]
    assert list(found) == [STREET, PHOTOS]
    for name in found:
        assert found[name]["protocols"] == before[name]["protocols"]
        assert len(found[name]["matrix"]["mAP"]) == 5
        directory = tmp_path / name.replace(":", "_")
        assert {path.name for path in directory.iterdir()} == {
            *("features", "thresholds.csv", "ranked_list.png", "attention.png", "corruption_matrix.png"),
            "per_query.npz",
        }
    log = (tmp_path / "log.txt").read_text()
    (number,) = re.findall(rf"model (\d): .*clean\.pth in {re.escape(str(joint))}$", log, re.MULTILINE)
    tables = re.search(f"\n  {STREET}:\n(.*?)\n  {PHOTOS}:\n", log, re.DOTALL)[1].strip().split("\n\n")
    for table in tables:  # a wide one goes on below
        cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        compared = [row[1] for row in cells if row[0] == number]
        assert compared == list(before[STREET]["protocols"]), table
        assert len(compared) == 4
    warning = f"not trained on {STREET}, whose images all get the mean of the file's 5 side vectors"
    assert (done.stdout + done.stderr).count(warning) == 1


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.parametrize(("name", "camera"), [(PHOTOS, True), (GATE, True), (STREET, False)])
def test_a_set_alone_has_the_results_that_it_has_among_several(root, joint, tmp_path, name, camera):
    changes = {
        "DATASETS.NAMES": name,
        "MODEL.SIE_CAMERA": camera,
        "TEST.WEIGHT": joint / "checkpoints" / "clean.pth",
    }
    run_test(options(root, tmp_path, **changes))
    assert rows_of(tmp_path, name) == rows_of(joint, name)
    assert results_of(tmp_path) == results_of(joint)["datasets"][name]


@pytest.mark.usefixtures("restored_logging")
def test_what_may_change_before_a_run_is_resumed(root, joint, tmp_path):
    output = tmp_path / "joint"
    shutil.copytree(joint, output)
    resume = {**JOINT, "SOLVER.RESUME": "auto", "TEST.PROTOCOLS": "[clean]"}
    run_train(options(root, output, **{**resume, "DATASETS.TEST": GATE}))
    assert "stage clean: finished by an earlier run" in (output / "log.txt").read_text()
    assert results_of(output)["protocols"]["clean"] == results_of(joint)["datasets"][GATE]["protocols"]["clean"]
    with pytest.raises(UserError, match="other settings: DATALOADER.BALANCE sets there, identities here"):
        run_train(options(root, output, **{**resume, "DATALOADER.BALANCE": "identities"}))
    with pytest.raises(UserError, match="other training set: .*cameras 5 there, 6 here.*sha256"):
        run_train(options(root, output, **{**resume, "DATASETS.NAMES": [GATE, STREET]}))


@pytest.mark.usefixtures("restored_logging")
def test_a_claimed_training_set_that_the_checkpoint_does_not_know(root, joint, tmp_path):
    changes = {"DATASETS.NAMES": STREET, "TEST.WEIGHT": joint / "checkpoints" / "clean.pth"}
    with pytest.raises(
        UserError, match=f"trained on {GATE}, {PHOTOS}, not on {STREET}, whose cameras it does not know"
    ):
        run_test(options(root, tmp_path, **changes))
