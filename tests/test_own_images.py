"""A directory of PNGs named <pid>/<cam>_<n>.png trains and tests by a YAML file alone."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from datasets.__main__ import main as run_datasets
from datasets.synthetic.generate import SyntheticSettings, synthesize
from test import main as run_test
from tests.helpers import REPOSITORY
from train import main as run_train

STAGES = ("CLEAN", "CORRUPTED", "BRIDGE", "ALIGN")
PATTERN = r"person (?P<pid>\d+)/(?P<camid>\d)_.+\.png"
pytestmark = pytest.mark.usefixtures("restored_logging")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The YAML file; its images are beside it."""
    root = tmp_path_factory.mktemp("own")
    rendered = synthesize(root / "rendered", SyntheticSettings(num_identities=16, num_cameras=3, images_per_camera=3))
    for path in sorted((Path(rendered) / "bounding_box_train").iterdir()):
        pid, rest = path.name.split("_", 1)
        image = root / "photos" / f"person {int(pid)}" / f"{rest[1]}_{len(rest)}{path.stem[-9:]}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).save(image)
    settings = {
        "_BASE_": str(REPOSITORY / "configs" / "Synthetic" / "cfat.yml"),
        "DATASETS": {
            "NAMES": "folder",
            "ROOT_DIR": str(root / "photos"),
            "FOLDER": {"TRAIN": ".", "QUERY": "", "GALLERY": ".", "PATTERN": PATTERN},
        },
        "DATALOADER": {"NUM_WORKERS": 0, "NUM_INSTANCE": 4},
        "MODEL": {"TRANSFORMER_TYPE": "test_vit"},
        "INPUT": {"SIZE_TRAIN": [64, 32], "SIZE_TEST": [64, 32]},
        "SOLVER": {"IMS_PER_BATCH": 8, "WARMUP_EPOCHS": 0},
        "CFAT": {stage: {"MAX_EPOCHS": 1} for stage in STAGES},
        "TEST": {"REPEATS": 1, "RANKED_QUERIES": 2},
        "OUTPUT_DIR": str(root / "run"),
    }
    (root / "photos.yml").write_text(yaml.safe_dump(settings))
    return root / "photos.yml"


@pytest.fixture(scope="module")
def weight(config):
    """The checkpoint that training on the images leaves."""
    run_train(["--config_file", str(config)])
    return str(config.parent / "run" / "checkpoints" / "align.pth")


def test_images_train_and_test_by_a_yaml_file_alone(config, weight):
    assert run_datasets(["check", "--config_file", str(config)]) == 0
    root = config.parent
    results = json.loads((root / "run" / "results.json").read_text())
    assert (results["dataset"], results["dataset_version"]) == ("folder", "photos")
    assert set(results["protocols"]) == {"clean", "corrupted", "corrupted_query", "corrupted_gallery"}
    again = str(root / "again")
    # another SEED: the split stays
    run_test(["--config_file", str(config), "TEST.WEIGHT", weight, "OUTPUT_DIR", again, "SEED", "5"])
    repeated = json.loads((root / "again" / "results.json").read_text())["protocols"]
    assert repeated["clean"] == results["protocols"]["clean"]
    assert repeated["corrupted"] != results["protocols"]["corrupted"]


def test_without_cameras(config, weight):
    root = config.parent
    out = str(root / "no_cameras")
    opts = ["DATASETS.FOLDER.PATTERN", r"person (?P<pid>\d+)/.+", "MODEL.SIE_CAMERA", "False"]
    run_test(
        ["--config_file", str(config), "TEST.WEIGHT", weight, "OUTPUT_DIR", out, "TEST.SAVE_FEATURES", "True", *opts]
    )
    results = json.loads((root / "no_cameras" / "results.json").read_text())
    assert results["protocols"]["clean"]["mAP"]["mean"] > 0
