"""Model cards: of a directory, of a checkpoint, and of files that say little."""

import shutil

import pytest
import torch

from processor.report import write_card
from processor.report.facts import training_of
from tests.processor.small_report import write_small_report
from utils.errors import UserError

META = {
    "stage": "align",
    "epoch": 16,
    "images_seen": 38400,
    "training_seconds": 60.5,
    "dataset": "rendered",
    "num_pictures": 12,
    "num_classes": 4,
    "num_cameras": 3,
    "seed": 7,
    "versions": {"torch": "2.11.0"},
    "config": "CORRUPTION:\n  TRAIN: [all]\n",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("card")
    (directory / "checkpoints").mkdir()
    results = write_small_report(directory)
    return directory, results


def write_checkpoint(path, meta):
    path.parent.mkdir(exist_ok=True)
    torch.save({"model": {"weight": torch.zeros(2)}, "meta": meta}, path)
    return path


def test_the_card_of_a_directory_has_its_results(run):
    path = write_card(run[0])
    text = path.read_text()
    assert path == run[0] / "model_card.md"
    for name, row in run[1]["protocols"].items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {name.replace('_', chr(92) + '_')} ")]
        deviation = f" ± {100 * row['mAP']['std']:.1f}" if row["repeats"] > 1 else " "
        assert f"{100 * row['mAP']['mean']:.1f}{deviation}" in line
    assert "Weakest corruption family: " in text
    assert "The checkpoint says nothing of its training" in text  # it is not there
    for heading in ("Training data", "Results", "Limits", "Intended use", "Not for"):
        assert f"\n## {heading}\n" in text
    assert max(map(len, text.splitlines())) <= 160
    assert "\n\n\n" not in text
    assert r"\<i\>" in text  # of the checkpoint's name
    assert "<i>" not in text


def test_the_card_of_a_checkpoint(run, tmp_path):
    directory = shutil.copytree(run[0], tmp_path / "run")
    path = write_card(write_checkpoint(directory / "checkpoints" / "align.pth", META))
    text = path.read_text()
    assert path.name == "align_card.md"
    assert "Stage align, epoch 16, seed 7" in text
    assert "rendered: 12 images of 4 identities, 3 cameras" in text
    assert "Training saw all types of protocol corrupted" in text
    assert "No results of this checkpoint were found" in text  # those beside it are of another one
    results = (directory / "results.json").read_text().replace("checkpoints/<i>clean</i>.pth", "old/align.pth")
    (directory / "results.json").write_text(results)
    assert "| clean " in write_card(directory / "checkpoints" / "align.pth").read_text()


@pytest.mark.parametrize(
    ("stage", "clean_prob", "expected"), [("align", 0.5, ["all"]), ("align", 1.0, []), ("clean", 0.5, [])]
)
def test_a_stage_that_sees_no_corrupted_images_was_trained_on_none(stage, clean_prob, expected):
    config = f"CORRUPTION:\n  TRAIN: [all]\n  CLEAN_PROB: {clean_prob}\n"
    assert training_of(META | {"stage": stage, "config": config}).corruptions == expected


def test_a_checkpoint_of_another_project(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    text = write_card(tmp_path / "other.pth", out=tmp_path / "card.md").read_text()
    assert "says nothing of its training" in text
    assert "No results" in text


def test_neither_results_nor_a_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"results\.json"):
        write_card(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        write_card(tmp_path / "missing.pth")
