"""The command lines end to end, in processes of their own, on a small synthetic data set in Market-1501's layout."""

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from datasets.synthetic.generate import SyntheticSettings, synthesize
from tests import commands
from tests.helpers import REPOSITORY
from tests.model.weights.test_load_model import random_state
from train import main as run_train
from utils.errors import UserError

STAGES = ("clean", "corrupted", "bridge", "align")
OPTIONS = {
    "MODEL.TRANSFORMER_TYPE": "test_vit",
    "INPUT.SIZE_TRAIN": [64, 32],
    "INPUT.SIZE_TEST": [64, 32],
    "DATASETS.NAMES": "market1501",
    "DATASETS.CHECK_COUNTS": "False",
    "DATALOADER.NUM_WORKERS": "0",
    "SOLVER.IMS_PER_BATCH": "16",
    "SOLVER.WARMUP_EPOCHS": "0",
    "TEST.REPEATS": "2",
    "TEST.RANKED_QUERIES": "2",
    **{f"CFAT.{stage.upper()}.MAX_EPOCHS": "2" for stage in STAGES},
}


def run(script, *opts, config="configs/Synthetic/cfat.yml"):
    return commands.run(script, *(["--config_file", config] if config else []), *opts)


def options(root, output, **changes):
    settings = {**OPTIONS, "DATASETS.ROOT_DIR": root / "data", "OUTPUT_DIR": output, **changes}
    return [part for pair in settings.items() for part in pair]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with data/ and, in run/, the output of train.py."""
    root = tmp_path_factory.mktemp("main")
    synthesize(root / "data" / "market1501", SyntheticSettings(num_identities=16, num_cameras=3, images_per_camera=2))
    done = run("train.py", *options(root, root / "run"))
    assert done.returncode == 0, done.stderr
    return root


def test_the_output_directory_of_a_run(trained):
    output = trained / "run"
    names = {path.name for path in output.iterdir()}
    assert names == {
        ".lock",
        "config.yml",
        "log.txt",
        "checkpoints",
        "tensorboard",
        "results.json",
        "results.csv",
        "per_query.npz",
        "ranked_list.png",
        "history.json",
        "report.html",
        "report_data.json",
        "curves.png",
        *(f"schedule_{stage}.png" for stage in STAGES),
    }
    assert sorted(path.stem for path in (output / "checkpoints").iterdir()) == sorted(STAGES)
    content = json.loads((output / "results.json").read_text())
    described = {"dataset", "dataset_version", "weight", "seed", "corruption", "evaluation"}
    assert set(content) == {*described, "protocols", "summary", "seen_in_training"}
    assert content["seen_in_training"]["corrupted"] == {"seen": 20, "of": 20}
    assert "types seen in training" in (output / "log.txt").read_text()
    assert content["corruption"]["backend"] == "fast"
    assert (content["dataset"], content["seed"]) == ("market1501", 1)
    assert set(content["protocols"]) == {"clean", "corrupted", "corrupted_query", "corrupted_gallery"}
    for name, row in content["protocols"].items():
        assert row["repeats"] == (1 if name == "clean" else 2)
        assert all(0 <= row[metric]["mean"] <= 1 for metric in ("mAP", "mINP", "rank1", "rank5", "rank10"))
    with (output / "results.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 1 + 3 * 2
    corrupted = [float(row["mAP"]) for row in rows if row["protocol"] == "corrupted"]
    assert sum(corrupted) / 2 == pytest.approx(content["protocols"]["corrupted"]["mAP"]["mean"])
    with Image.open(output / "ranked_list.png") as figure:
        assert figure.width > 500
    log = (output / "log.txt").read_text()
    assert all(f"stage {stage}: done" in log for stage in STAGES)
    assert re.search("; query 24 images of 8 identities; gallery", log)  # logged before log.txt was open


@pytest.mark.parametrize("workers", [0, 2])
def test_testing_again_gives_the_same_numbers_to_the_last_digit(trained, tmp_path, workers):
    weight = trained / "run" / "checkpoints" / "align.pth"
    opts = options(trained, tmp_path, **{"DATALOADER.NUM_WORKERS": workers, "TEST.WEIGHT": weight})
    done = run("test.py", *opts)
    assert done.returncode == 0, done.stderr
    first, again = (json.loads((path / "results.json").read_text()) for path in (trained / "run", tmp_path))
    assert again == first


def test_earlier_stages_are_tested_beside_the_last(trained, tmp_path):
    """As test.py tests them; the stages are those of the run before, and a checkpoint in place of one."""
    output = tmp_path / "run"
    shutil.copytree(trained / "run", output, ignore=shutil.ignore_patterns("results*", "report*", ".lock"))
    corrupted = tmp_path / "elsewhere.pth"
    shutil.copy(output / "checkpoints" / "corrupted.pth", corrupted)
    changes = {"SOLVER.RESUME": "auto", "TEST.STAGES": "[clean, corrupted]"}
    done = run("train.py", *options(trained, output, **changes))
    assert done.returncode == 0, done.stderr
    first, again = (json.loads((path / "results.json").read_text()) for path in (trained / "run", output))
    assert again["protocols"] == first["protocols"]
    beside = done.stdout.partition("model 1: ")[2]
    for stage in ("clean", "corrupted"):
        assert f"{output}/{stage}  the test of stage {stage}" in done.stdout
        assert f": {output}/checkpoints/{stage}.pth" in beside
        again = run("test.py", "OUTPUT_DIR", tmp_path / stage, config=output / stage / "config.yml")
        assert again.returncode == 0, again.stderr
        first, second = (json.loads((path / stage / "results.json").read_text()) for path in (output, tmp_path))
        assert first == second
        assert f"test.py --config_file {output}/{stage}/config.yml" in (output / stage / "report.html").read_text()
    page = (output / "report.html").read_text()
    assert all(f"{output}/{stage}" in page or f"run/{stage}" in page for stage in ("clean", "corrupted"))

    changes = {"CFAT.STAGES": "[align]", "CFAT.ALIGN.WEIGHT": output / "checkpoints" / "align.pth"}
    changes |= {"CFAT.CORRUPTED.WEIGHT": corrupted, "TEST.STAGES": "[corrupted]", "TEST.PROTOCOLS": "[clean]"}
    done = run("train.py", *options(trained, tmp_path / "of_files", **changes))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "of_files" / "corrupted" / "results.json").read_text())
    assert (found["weight"], found["protocols"]["clean"]) == (str(corrupted), first["protocols"]["clean"])


def test_features_of_a_test_are_searched(trained, tmp_path):
    """Also by a model that has side vectors of cameras, which the query's image does not have."""
    weight = {"TEST.WEIGHT": trained / "run" / "checkpoints" / "align.pth", "MODEL.SIE_CAMERA": "True"}
    changes = {"TEST.SAVE_FEATURES": "True", "TEST.PROTOCOLS": "[clean]", "TEST.REPORT": "False"}
    assert run("test.py", *options(trained, tmp_path / "test", **weight, **changes)).returncode == 0
    query = next((trained / "data" / "market1501" / "query").glob("*.jpg"))
    gallery = ["--gallery", tmp_path / "test" / "features" / "gallery_clean.npz", "--query", query]
    done = run("test.py", *gallery, *options(trained, tmp_path / "search", **weight))
    assert done.returncode == 0, done.stderr
    assert "mean of the file's" in done.stdout
    assert (tmp_path / "search" / "ranked.csv").exists()


def test_a_matrix_cell_is_a_test_of_that_type_and_severity(trained, tmp_path):
    weight = trained / "run" / "checkpoints" / "align.pth"
    changes = {"TEST.WEIGHT": weight, "TEST.PROTOCOLS": "['corrupted']", "TEST.REPEATS": "1"}
    matrix = {"TEST.MATRIX": "corrupted", "CORRUPTION.TEST": "['fog', 'blur']", "CORRUPTION.SEVERITIES": "[2, 5]"}
    done = run("test.py", *options(trained, tmp_path / "matrix", **changes, **matrix))
    assert done.returncode == 0, done.stderr
    assert "mean corrupted" in done.stderr + done.stdout
    narrow = {"CORRUPTION.TEST": "['glass_blur']", "CORRUPTION.SEVERITIES": "[5]"}
    done = run("test.py", *options(trained, tmp_path / "cell", **changes, **narrow))
    assert done.returncode == 0, done.stderr
    content, cell = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("matrix", "cell"))
    assert len(content["matrix"]["mAP"]) == 6
    assert content["matrix"]["mAP"]["glass_blur"][1] == cell["protocols"]["corrupted"]["mAP"]["mean"]
    assert set(content["protocols"]) == {"clean", "corrupted"}


def test_protocol_unseen_is_corrupted_by_imagenet_c_bar(trained, tmp_path):
    weight = trained / "run" / "checkpoints" / "align.pth"
    changes = {"TEST.WEIGHT": weight, "TEST.PROTOCOLS": "['clean', 'corrupted', 'unseen']"}
    changes |= {"CORRUPTION.TEST": "['bar']", "TEST.MATRIX": "corrupted_query", "CORRUPTION.SEVERITIES": "[4]"}
    done = run("test.py", *options(trained, tmp_path, **changes))
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "results.json").read_text())
    assert list(content["protocols"]) == ["clean", "corrupted", "unseen"]
    assert content["protocols"]["unseen"] == content["protocols"]["corrupted"]
    assert list(content["matrix"]["mAP"]) == content["corruption"]["protocol_unseen"] == content["corruption"]["names"]
    assert content["summary"]["matrix"]["family"].keys() == {"bar"}
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert sum(row["corruption"] == "unseen" for row in rows) == 2
    assert "unseen" in done.stdout + done.stderr


def test_re_ranking_features_and_thresholds(trained, tmp_path):
    weight = trained / "run" / "checkpoints" / "align.pth"
    changes = {"TEST.WEIGHT": weight, "TEST.PROTOCOLS": "['clean']"}
    changes |= dict.fromkeys(("TEST.RE_RANKING", "TEST.SAVE_FEATURES", "TEST.THRESHOLDS", "TEST.FLIP"), "True")
    changes |= {"TEST.QUERY_EXPANSION": "2", "TEST.FEATURE_DTYPE": "float16"}
    done = run("test.py", *options(trained, tmp_path / "re", **changes))
    assert done.returncode == 0, done.stderr
    content, plain = (json.loads((path / "results.json").read_text()) for path in (tmp_path / "re", trained / "run"))
    assert content["evaluation"]["re_ranking"] == {"k1": 20, "k2": 6, "lambda_value": 0.3}
    assert (content["evaluation"]["flip"], content["evaluation"]["query_expansion"]) == (True, 2)
    assert plain["evaluation"]["re_ranking"] is None
    assert content["protocols"]["clean"]["mAP"] != plain["protocols"]["clean"]["mAP"]
    assert {path.name for path in (tmp_path / "re" / "features").iterdir()} == {"query_clean.npz", "gallery_clean.npz"}
    assert (tmp_path / "re" / "thresholds.csv").read_text().startswith("protocol,metric,point,threshold")


def test_the_saved_configuration_runs_again(trained, tmp_path):
    weight = trained / "run" / "checkpoints" / "align.pth"
    done = run("test.py", "OUTPUT_DIR", tmp_path, "TEST.WEIGHT", weight, config=str(trained / "run" / "config.yml"))
    assert done.returncode == 0, done.stderr
    first, again = (json.loads((path / "results.json").read_text()) for path in (trained / "run", tmp_path))
    assert again["protocols"] == first["protocols"]


def test_a_stage_replaced_by_a_file_is_not_trained(trained, tmp_path):
    weights = {f"CFAT.{s.upper()}.WEIGHT": trained / "run" / "checkpoints" / f"{s}.pth" for s in STAGES[:3]}
    done = run("train.py", *options(trained, tmp_path, **weights))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["align.pth"]
    first, again = (
        torch.load(path / "checkpoints" / "align.pth", weights_only=True)["model"]
        for path in (trained / "run", tmp_path)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)  # the same initial weights and seed


def test_a_replaced_last_stage_is_what_is_tested(trained, tmp_path):
    weights = {f"CFAT.{s.upper()}.WEIGHT": trained / "run" / "checkpoints" / f"{s}.pth" for s in STAGES[1:]}
    done = run("train.py", *options(trained, tmp_path, **weights, **{"CFAT.CLEAN.MAX_EPOCHS": 1, "TEST.REPEATS": 1}))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["clean.pth"]
    assert json.loads((tmp_path / "results.json").read_text())["weight"] == str(weights["CFAT.ALIGN.WEIGHT"])


@pytest.mark.slow
def test_training_is_the_same_with_any_number_of_workers_and_evaluations(trained, tmp_path):
    changes = {"DATALOADER.NUM_WORKERS": 2, "SOLVER.EVAL_PERIOD": 1}
    changes |= {"TEST.PROTOCOLS": "['corrupted']", "TEST.RANKED_QUERIES": 0}
    done = run("train.py", *options(trained, tmp_path, **changes))
    assert done.returncode == 0, done.stderr
    best = {f"{stage}_best.pth" for stage in STAGES if stage != "bridge"}  # bridge changes no tested feature
    assert {path.name for path in (tmp_path / "checkpoints").glob("*_best.pth")} == best
    for stage in STAGES:
        first, again = (
            torch.load(path / "checkpoints" / f"{stage}.pth", weights_only=True) for path in (trained / "run", tmp_path)
        )
        for part in first.keys() - {"meta"}:
            assert all(torch.equal(value, again[part][name]) for name, value in first[part].items()), (stage, part)


RELEASED = {"INPUT.SIZE_TRAIN": "[256, 128]", "INPUT.SIZE_TEST": "[256, 128]", "TEST.PROTOCOLS": "['clean']"}


@pytest.mark.parametrize(
    ("name", "changes", "held"),
    [
        (
            "TransReID market1501 deit_small",
            {"MODEL.SIE_CAMERA": "False"},
            "deit_small_patch16_224_TransReID, stride 16",
        ),
        ("CIL-ReID market1501 resnet50_120.pth", {"TEST.RANKED_QUERIES": "0"}, "resnet50, GeM pooling, 751 classes"),
    ],
)
def test_a_released_file_is_tested_whatever_the_configuration(trained, tmp_path, name, changes, held):
    torch.save(random_state(name), tmp_path / "released.pth")
    weight = {"TEST.WEIGHT": tmp_path / "released.pth"}
    done = run("test.py", *options(trained, tmp_path / "run", **RELEASED, **weight, **changes))
    assert done.returncode == 0, done.stderr
    assert held in (tmp_path / "run" / "log.txt").read_text()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["protocols"]["clean"]["mAP"]["mean"] > 0


SHORT = {"CFAT.STAGES": "['clean']", "CFAT.CLEAN.MAX_EPOCHS": 1, "TEST.PROTOCOLS": "['clean']"}
RECIPES = {
    "jigsaw": {
        "MODEL.JPM": "True",
        "MODEL.SIE_VIEW": "True",
        "MODEL.STRIDE_SIZE": "[12, 12]",
        "MODEL.ID_LOSS_TYPE": "arcface",
        "MODEL.METRIC_LOSS_TYPE": "wrtriplet",
        "MODEL.IF_WITH_CENTER": "True",
        "INPUT.ERASING_TYPE": "self",
        "INPUT.RE_PROB": "0.5",
        "TEST.ATTENTION_QUERIES": "2",
    },
    "consistency": {"INPUT.SELF_ID": "True", "INPUT.AUGMIX": "True", "INPUT.ERASING_TYPE": "soft"},
    "resnet50": {
        "MODEL.NAME": "resnet50",
        "MODEL.GEM_POOL": "True",
        "INPUT.SELF_ID": "True",
        "INPUT.AUGMIX": "True",
        "INPUT.SIZE_TRAIN": "[32, 16]",
        "INPUT.SIZE_TEST": "[32, 16]",
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_published_recipe_trains_and_its_checkpoint_is_tested(trained, tmp_path, name):
    changes = {**SHORT, "TEST.FEATURE": "class_token", **RECIPES[name]}
    exported = {"a.pt2": tmp_path / "a.pt2", "a.onnx": tmp_path / "a.onnx"} if name == "jigsaw" else {}
    done = run("train.py", *options(trained, tmp_path, **changes, **{"TEST.EXPORT": exported.get("a.pt2", "")}))
    assert done.returncode == 0, done.stderr
    # The test gets the image size, and nothing else of the recipe.
    sizes = {key: value for key, value in changes.items() if key.startswith("INPUT.SIZE")}
    again = {"TEST.WEIGHT": tmp_path / "checkpoints" / "clean.pth", "TEST.PROTOCOLS": "['clean']", **sizes}
    again |= {"TEST.FEATURE": "class_token", "TEST.EXPORT": exported.get("a.onnx", "")}
    done = run("test.py", *options(trained, tmp_path / "again", **again))
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((path / "results.json").read_text()) for path in (tmp_path, tmp_path / "again"))
    assert first["protocols"] == second["protocols"]
    written = {path.name for path in tmp_path.iterdir()}
    assert set(exported) <= written
    assert ("attention.png" in written) == (name == "jigsaw")


def test_errors_relative_to_a_baseline(trained, tmp_path):
    base = trained / "run" / "results.json"
    weight = trained / "run" / "checkpoints" / "clean.pth"
    changes = {"TEST.WEIGHT": weight, "TEST.BASELINE": base, "TEST.PROTOCOLS": "['clean', 'corrupted']"}
    done = run("test.py", *options(trained, tmp_path, **changes))
    assert done.returncode == 0, done.stderr
    found, before = (json.loads(path.read_text()) for path in (tmp_path / "results.json", base))
    assert found["baseline"]["weight"] == before["weight"]
    for protocol in ("clean", "corrupted"):
        errors = [1 - content["protocols"][protocol]["mAP"]["mean"] for content in (found, before)]
        assert found["baseline"]["errors"][protocol]["mAP"] == pytest.approx(errors[0] / errors[1])
    assert found["seen_in_training"] == {"corrupted": {"seen": 0, "of": 20}}  # stage clean sees no corruption
    log = (tmp_path / "log.txt").read_text()
    assert f"errors in percent of those of the baseline {before['weight']} on market1501, seed 1 ({base})" in log
    assert "none of 20" in log


class TestErrors:
    """Each ends with status 1 and one message on stderr, without a traceback."""

    @staticmethod
    def check(done, *parts):
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        for part in parts:
            assert part in done.stderr

    def test_no_data(self, tmp_path):
        done = run("train.py", "DATASETS.ROOT_DIR", tmp_path, config=None)
        self.check(done, "Market-1501 not found", "Download Market-1501-v15.09.15.zip", "configs/Synthetic/cfat.yml")

    def test_several_processes(self, trained, tmp_path, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        done = run("train.py", *options(trained, tmp_path))
        self.check(done, "WORLD_SIZE is 2", "RANK, MASTER_ADDR, MASTER_PORT is not set; start with torchrun")

    def test_a_comparison_that_cannot_be_read_is_an_error_before_training(self, trained, tmp_path):
        self.check(run("train.py", *options(trained, tmp_path / "run", **{"TEST.COMPARE": "nowhere"})), "nowhere")
        self.check(run("train.py", *options(trained, tmp_path / "run", **{"TEST.COMPARE": "nowhere"})), "results.json")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("stages", "message"),
        [
            (
                "[align]",
                "TEST.STAGES ['align']: align: expected stages of CFAT.STAGES ['clean', 'align'] before the last",
            ),
            ("[corrupted]", "or with a checkpoint in CFAT.CORRUPTED.WEIGHT"),
            ("[bridge]", "expected some of clean, corrupted, align, each once, or none"),
        ],
    )
    def test_a_stage_that_cannot_be_tested_is_an_error_before_training(self, trained, tmp_path, stages, message):
        changes = {"TEST.STAGES": stages, "CFAT.STAGES": "[clean, align]"}
        with pytest.raises(UserError, match=re.escape(message)):
            run_train(list(map(str, options(trained, tmp_path / "run", **changes))))
        assert not (tmp_path / "run").exists()

    def test_a_baseline_that_does_not_compare_is_an_error_before_training(self, trained, tmp_path):
        changes = {"TEST.BASELINE": trained / "run", "TEST.AP": "trapezoid", "CORRUPTION.SEVERITIES": "[5]"}
        done = run("train.py", *options(trained, tmp_path / "run", **changes))
        self.check(done, "evaluation, ap: trapezoid, in the baseline step", "severities: [5], in the baseline [1, 2, 3")
        assert not (tmp_path / "run").exists()

    def test_no_weight(self, trained, tmp_path):
        self.check(run("test.py", *options(trained, tmp_path)), "TEST.WEIGHT is empty")

    def test_a_damaged_checkpoint_is_refused_before_the_data_are_read(self, trained, tmp_path):
        (tmp_path / "half.pth").write_bytes((trained / "run" / "checkpoints" / "align.pth").read_bytes()[:5000])
        weight = {"TEST.WEIGHT": tmp_path / "half.pth"}
        done = run("test.py", *options(trained, tmp_path / "run", **weight, **{"DATASETS.ROOT_DIR": "nowhere"}))
        self.check(done, f"checkpoint {tmp_path}/half.pth")
        assert "nowhere" not in done.stderr

    def test_unknown_keys_and_options_all_at_once(self):
        done = run("train.py", "SOLVER.BASE_LRR", "0.1", "CFAT.STUDENT_VIEWS", "bth")
        self.check(done, "did you mean SOLVER.BASE_LR?", "CFAT.STUDENT_VIEWS", "'bth'")
        assert re.search("2 errors", done.stderr)

    def test_unknown_corruption(self, trained, tmp_path):
        done = run("train.py", *options(trained, tmp_path, **{"CORRUPTION.TRAIN": "['fgo']"}))
        self.check(done, "CORRUPTION.TRAIN", "fog")

    def test_output_directory_that_cannot_be_written(self, trained, tmp_path):
        (tmp_path / "file").touch()
        self.check(
            run("train.py", *options(trained, tmp_path / "file" / "run")),
            f"output directory {tmp_path}/file/run",
            "cannot be written",
        )

    def test_checkpoint_of_another_image_size(self, trained, tmp_path):
        weight = trained / "run" / "checkpoints" / "align.pth"
        sizes = {"INPUT.SIZE_TRAIN": "[128, 64]", "INPUT.SIZE_TEST": "[128, 64]"}
        done = run("test.py", *options(trained, tmp_path, **{"TEST.WEIGHT": weight, **sizes}))
        self.check(done, "trained with INPUT.SIZE_TEST [64, 32], now [128, 64]")

    def test_checkpoint_of_another_data_set(self, trained, tmp_path):
        torch.save(random_state("TransReID market1501 deit_small"), tmp_path / "market.pth")
        done = run(
            "test.py", *options(trained, tmp_path / "run", **RELEASED, **{"TEST.WEIGHT": tmp_path / "market.pth"})
        )
        self.check(done, "for 6 camera/viewpoint combinations, but the data set has 3", "MODEL.SIE_CAMERA")
        assert not (tmp_path / "run").exists()

    def test_an_unknown_backbone_is_refused_before_training(self, trained, tmp_path):
        done = run("train.py", *options(trained, tmp_path / "run", **{"MODEL.TRANSFORMER_TYPE": "vit_tiny"}))
        self.check(done, "MODEL.TRANSFORMER_TYPE 'vit_tiny'", "did you mean vit_tiny_patch16_128_TransReID")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_truncated_image_in_training_costs_no_earlier_checkpoint(self, trained, tmp_path, workers):
        shutil.copytree(trained / "data", tmp_path / "data")
        shutil.copytree(trained / "run", tmp_path / "run")
        victim = sorted((tmp_path / "data" / "market1501" / "bounding_box_train").glob("*.jpg"))[3]
        victim.write_bytes(victim.read_bytes()[:700])
        before = {path: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").iterdir()}
        done = run("train.py", *options(tmp_path, tmp_path / "run", **{"DATALOADER.NUM_WORKERS": workers}))
        self.check(done, f"{victim}: cannot be read")
        assert before == {path: path.read_bytes() for path in (tmp_path / "run" / "checkpoints").iterdir()}
        assert (tmp_path / "run" / "results.json").read_bytes() == (trained / "run" / "results.json").read_bytes()


@pytest.mark.parametrize("script", ["train.py", "test.py"])
def test_help(script):
    done = run(script, "--help", config=None)
    assert done.returncode == 0
    assert "--config_file" in done.stdout


HELP = """
import runpy, sys
sys.argv = ["{script}", "--help"]
try:
    runpy.run_path("{script}", run_name="__main__")
except SystemExit:
    print([name for name in ("torch", "numpy", "cv2") if name in sys.modules])
"""


@pytest.mark.parametrize("script", ["train.py", "test.py"])
def test_help_does_not_import_torch(script):
    command = [sys.executable, "-c", HELP.format(script=script)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
