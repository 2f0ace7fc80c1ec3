"""The examples of docs/adding.md: every block is applied to a copy of the repository, which is then used."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corruption import FAMILIES
from tests.docs.data_sets import write_synthetic
from tests.docs.sandbox import Sandbox
from tests.docs.tables import appended
from tests.helpers import REPOSITORY

PAGE = REPOSITORY / "docs" / "adding.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "data", "logs", "pretrained", "tests", "build")

# Run in the copy, with the data set's root; prints one JSON object: what each example gave.
USE = """
import json
import sys

import torch

from config import load_cfg
from datasets import make_dataloader
from loss import make_loss
from model import load_model, make_model
from solver import make_optimizer
from utils.checkpoints import save_checkpoint
from utils.stage_identity import settings_of_stage

root = sys.argv[1]
SMALL = [
    "INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", "SOLVER.IMS_PER_BATCH", "8", "CFAT.STAGE", "clean",
    "DATALOADER.NUM_WORKERS", "0", "DATASETS.NAMES", "corridor", "DATASETS.ROOT_DIR", root,
]


def configure(*opts):
    return load_cfg("configs/Synthetic/cfat.yml", [*SMALL, *opts])


data = make_dataloader(configure())
counts = {"num_classes": data.num_classes, "num_cameras": data.num_cameras, "num_views": data.num_views}
batch = next(iter(data.train))
batch["images"] = batch["images"].float() / 255


def train_step(*opts):
    cfg = configure(*opts)
    torch.manual_seed(0)
    model = make_model(cfg, **counts).train()
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    before = [weight.detach().clone() for weight in model.base.parameters()]
    output = model(batch)
    losses = loss_fn(output, batch)
    losses["loss"].backward()
    optimizer.step()
    unchanged = sum(torch.equal(*pair) for pair in zip(before, model.base.parameters(), strict=True))
    return cfg, model, output, {name: loss.item() for name, loss in losses.items()}, unchanged


with_loss = train_step("MODEL.UNIFORMITY_LOSS_WEIGHT", "0.5")
cfg, model, output, losses, unchanged = train_step("MODEL.NAME", "resnet18", "TEST.FEATURE", "neck")
path = f"{root}/resnet18.pth"
save_checkpoint(path, model.export_state(), {"config": cfg.dump()})
loaded = load_model(cfg, path, num_cameras=data.num_cameras, num_views=data.num_views)
with torch.no_grad():
    features = [net.extract(batch["images"]) for net in (model.eval(), loaded)]
print(json.dumps({
    "reader": {split: len(getattr(data.splits, split)) for split in ("train", "query", "gallery")}
    | {"identities": data.num_classes, "cameras": data.num_cameras, "batch": list(batch["images"].shape)},
    "loss": {
        "embeddings": with_loss[2].embedding.tolist(),
        "losses": with_loss[3],
        "without": train_step()[3],
        "settings": settings_of_stage(configure("MODEL.UNIFORMITY_LOSS_WEIGHT", "0.5")),
    },
    "backbone": {
        "embedding": list(output.embedding.shape),
        "losses": losses,
        "unchanged": unchanged,
        "loads": torch.equal(*features),
    },
}))
"""


def apply_block(language: str, text: str, root: Path) -> None:
    """Writes the file that a `python` block holds, or edits the file that a `diff` block names."""
    head, body = text.split("\n", 1)
    if language == "python":
        path = root / head.removeprefix("# ")
        assert not path.exists(), f"{head}: is there already"
        path.write_text(body, encoding="utf-8")
        return
    path = root / head.removeprefix("--- ")
    content = path.read_text(encoding="utf-8")
    for hunk in body.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] or line for line in lines if line[0] != sign) for sign in "+-")
        assert content.count(before) == 1, f"{head}: expected exactly once:\n{before}"
        content = content.replace(before, after)
    path.write_text(content, encoding="utf-8")


def run(copy: Path, *arguments) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with every example of the page."""
    root = tmp_path_factory.mktemp("adding") / "copy"
    shutil.copytree(REPOSITORY, root, ignore=NOT_COPIED)
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert {language for language, _ in blocks} == {"python", "diff", "bash"}
    for language, text in blocks:
        if language != "bash":
            apply_block(language, text, root)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Corridor: 8 identities, 2 cameras, 2 images by each."""
    root = tmp_path_factory.mktemp("data")
    for pid in range(1, 9):
        for camera in (0, 1):
            (root / "corridor" / f"cam{camera}").mkdir(parents=True, exist_ok=True)
            for number in (1, 2):
                image = Image.new("RGB", (32, 64), (30 * pid, 100 * camera, 60 * number))
                image.save(root / "corridor" / f"cam{camera}" / f"{pid:04}_{number:02}.png")
    (root / "corridor" / "train.txt").write_text("0001\n0002\n0003\n0004\n")
    return root


@pytest.fixture(scope="module")
def found(copy, data):
    """What the reader, the loss and the backbone gave on Corridor."""
    return json.loads(run(copy, "-c", USE, data))


def test_the_reader(found):
    assert found["reader"] == {
        "train": 16,
        "query": 8,
        "gallery": 8,
        "identities": 4,
        "cameras": 2,
        "batch": [8, 3, 64, 32],
    }


def test_the_loss(found):
    losses, without = found["loss"]["losses"], found["loss"]["without"]
    assert set(losses) - set(without) == {"uniformity_loss"}
    rows = [np.array(row) / np.linalg.norm(row) for row in found["loss"]["embeddings"]]
    pairs = [np.exp(-2 * np.sum((a - b) ** 2)) for i, a in enumerate(rows) for b in rows[:i]]
    assert losses["uniformity_loss"] == pytest.approx(np.log(np.mean(pairs)), rel=1e-4, abs=1e-5)
    assert losses["loss"] == pytest.approx(without["loss"] + 0.5 * losses["uniformity_loss"], rel=1e-5)
    assert found["loss"]["settings"]["MODEL.UNIFORMITY_LOSS_WEIGHT"] == 0.5


def test_the_corruption(copy, tmp_path):
    path, grid = tmp_path / "image.png", tmp_path / "grid.png"
    Image.new("RGB", (40, 80), (200, 150, 100)).save(path)
    code = """
import sys
import numpy as np
from PIL import Image
from corruption import corrupt
from corruption.__main__ import main
image_path, grid = sys.argv[1:]
main(["list"])
main(["grid", "--image", image_path, "--type", "lost_rows", "--out", grid])
image = np.asarray(Image.open(image_path))
for backend in ("fast", "imagecorruptions"):
    out, again = (corrupt(image, "lost_rows", 3, np.random.default_rng(7), backend=backend) for _ in range(2))
    assert (out == again).all() and out.shape == image.shape and out.dtype == np.uint8
    print(*((out == value).all(axis=(1, 2)).sum() for value in (0, image)))
"""
    *lines, fast, published = run(copy, "-c", code, path, grid).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    names = [name for name, text in cells if text != "what it is"]
    own = [name for family in FAMILIES.values() for name in family]  # digital, that of lost_rows, is the last
    assert names[: len(own) + 1] == [*own, "lost_rows"]
    for line in (fast, published):
        lost, kept = map(int, line.split())
        assert lost + kept == 80
        assert 4 <= lost <= 22  # 12 expected
    assert Image.open(grid).width > 0


@pytest.mark.documents
def test_commands(copy, data, tmp_path):
    """The commands of the page, in their order; the demo's checkpoint is that of the first training."""
    write_synthetic(copy / "data" / "synthetic")
    (copy / "data" / "corridor").symlink_to(data / "corridor")
    commands, sandbox = [], Sandbox(tmp_path / "sandbox")
    for language, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "bash":
            sandbox.run(text, lambda command: commands.append(command) or 0)
    assert len(commands) == 6
    demo = copy / "logs" / "demo" / "checkpoints"
    demo.mkdir(parents=True)
    for _, *arguments in commands:
        run(copy, *arguments, *shlex.split(appended(" ".join(["python", *arguments]))))
        if "logs/uniformity" in arguments:
            shutil.copy(copy / "logs" / "uniformity" / "checkpoints" / "align.pth", demo)
    for name in ("lost_rows.png", "lost_rows/results.json", "uniformity/results.json"):
        assert (copy / "logs" / name).is_file()


def test_the_backbone(found):
    backbone = found["backbone"]
    assert backbone["embedding"] == [8, 512]
    assert np.isfinite(list(backbone["losses"].values())).all()
    assert backbone["unchanged"] == 0
    assert backbone["loads"]
