"""Files of the version before the redesign: its checkpoint, OUTPUT_DIR and exported copy give the results that it gave.

tests/golden/README.md says how the files were made.
"""

import json
import shutil
from pathlib import Path

import pytest

from datasets.synthetic.generate import SyntheticSettings, synthesize
from test import main as run_test
from tests.helpers import GOLDEN
from train import main as run_train

EARLIER = GOLDEN / "earlier_version"
SETTINGS = {
    "MODEL.PRETRAIN_PATH": "",
    "MODEL.DEVICE": "cpu",
    "MODEL.TRANSFORMER_TYPE": "test_vit",
    "MODEL.JPM": False,
    "INPUT.SIZE_TRAIN": [64, 32],
    "INPUT.SIZE_TEST": [64, 32],
    "DATASETS.ROOT_DIR": "data",
    "DATASETS.CHECK_COUNTS": False,
    "DATALOADER.NUM_INSTANCE": 2,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_EPOCHS": 2,
    "SOLVER.OPTIMIZER_NAME": "SGD",
    "SOLVER.BASE_LR": 0.01,
    "SOLVER.WARMUP_EPOCHS": 0,
    "TEST.REPEATS": 2,
    "TEST.FEATURE": "class_token",
}
# Relative differences of a metric: on the same kind of CPU, and on another, whose kernels round differently.
SAME_CPU, OTHER_CPU = 1e-6, 1e-3

pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("earlier") / "data"
    synthesize(root / "market1501", SyntheticSettings(num_identities=8, num_cameras=3, images_per_camera=2), workers=1)
    return root


@pytest.fixture(autouse=True)
def directory(data, tmp_path, monkeypatch):
    """The working directory, with the data set, its exported copy and the run as the earlier version left them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "market1501").symlink_to(data / "market1501")
    (tmp_path / "data" / "market1501-C").symlink_to(EARLIER / "copy")
    shutil.copytree(EARLIER / "run", tmp_path / "run")
    monkeypatch.chdir(tmp_path)


def options(**changes):
    return [str(part) for pair in {**SETTINGS, **changes}.items() for part in pair]


def is_same_cpu() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return models == {(EARLIER / "cpu.txt").read_text().strip()}


def check_same_files(found: str, seen_in_training: dict) -> None:
    """The files of a test are those of the earlier version, byte for byte, but for what the checkpoint was trained on.

    results.json tells that today: no corruption is "seen", since stage clean has none, where the earlier version had
    those of CORRUPTION.TRAIN. Of the keys, "trained" and "seen_in_training" are new; no other was renamed or added.
    """
    assert Path(found, "results.csv").read_bytes() == (EARLIER / found / "results.csv").read_bytes()
    expected = (EARLIER / found / "results.json").read_text()
    content = json.loads(Path(found, "results.json").read_text())
    assert content.pop("seen_in_training") == seen_in_training
    corruption = content["corruption"]
    assert (corruption.pop("trained"), corruption["seen"]) == ([], [])
    corruption["seen"] = json.loads(expected)["corruption"]["seen"]
    assert json.dumps(content, indent=2) + "\n" == expected


def test_a_checkpoint_gives_the_same_results():
    changes = {"TEST.WEIGHT": "run/checkpoints/clean.pth", "TEST.MATRIX": "corrupted_query", "TEST.RE_RANKING": True}
    run_test(options(**changes, **{"CORRUPTION.TEST": ["noise", "fog"], "OUTPUT_DIR": "tested"}))
    protocols = ("corrupted", "corrupted_query", "corrupted_gallery")
    check_same_files("tested", {protocol: {"seen": 0, "of": 5} for protocol in protocols})


def test_an_exported_copy_gives_the_same_results():
    changes = {"DATASETS.NAMES": "market1501-C", "TEST.PROTOCOLS": ["clean"], "OUTPUT_DIR": "copy_tested"}
    run_test(options(**changes, **{"TEST.WEIGHT": "run/checkpoints/clean.pth"}))
    check_same_files("copy_tested", {})


def test_a_run_is_resumed_to_the_same_results():
    run_train(options(**{"OUTPUT_DIR": "run", "SOLVER.RESUME": "auto"}))
    log = Path("run/log.txt").read_text()
    assert "stage clean: finished by an earlier run" in log
    assert "stage corrupted: resumed from run/checkpoints/corrupted_last.pth" in log
    assert {path.name for path in Path("run/checkpoints").iterdir()} == {
        f"{stage}.pth" for stage in ("clean", "corrupted", "bridge", "align")
    }
    found, expected = (json.loads(path.read_text()) for path in (Path("run/results.json"), EARLIER / "resumed.json"))
    tolerance = SAME_CPU if is_same_cpu() else OTHER_CPU
    assert found["protocols"].keys() == expected["protocols"].keys()
    for name, protocol in expected["protocols"].items():
        assert found["protocols"][name]["repeats"] == protocol.pop("repeats")
        for metric, values in protocol.items():
            assert found["protocols"][name][metric] == pytest.approx(values, rel=tolerance, abs=tolerance)
