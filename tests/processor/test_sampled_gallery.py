"""VehicleID's protocol in a whole test: every repeat samples its gallery, clean images are extracted once."""

import csv
import json

import numpy as np
import pytest
import torch

from config import load_cfg
from corruption import PROTOCOLS
from datasets import make_dataloader
from datasets.sampled_gallery import sample_gallery
from processor import do_inference, do_test
from tests.datasets.readers.trees import write_images
from utils.metrics.evaluate import evaluate_features
from utils.structures import Condition, FeatureSet

CPU = torch.device("cpu")
IMAGES = {f"{number:07d}": number % 5 for number in range(100, 124)}  # name -> pid: five identities
TRAIN = {f"{number:07d}": number % 2 for number in range(1, 5)}


class Bands(torch.nn.Module):
    """The mean colours of an image's bands; counts the images that it has seen."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def extract(self, images, camids, viewids):
        self.seen += len(images)
        return images.unflatten(2, (4, -1)).mean(dim=(3, 4)).flatten(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_images(root / "VehicleID_V1.0" / "image", [f"{name}.jpg" for name in (*TRAIN, *IMAGES)])
    lists = root / "VehicleID_V1.0" / "train_test_split"
    lists.mkdir()
    for file, rows in (("train_list", TRAIN), ("test_list_800", IMAGES)):
        (lists / f"{file}.txt").write_text("".join(f"{name} {pid}\n" for name, pid in rows.items()))
    return root


def configure(root, output, *opts):
    fixed = {
        "DATASETS.NAMES": "VehicleID",
        "DATASETS.ROOT_DIR": root,
        "DATASETS.CHECK_COUNTS": False,
        "DATALOADER.NUM_WORKERS": 0,
        "INPUT.SIZE_TEST": [32, 16],
        "OUTPUT_DIR": output,
        "SEED": 3,
    }
    return load_cfg(opts=[*(str(part) for pair in fixed.items() for part in pair), *opts])


def extract(data, condition, repeat):
    """Features of all test images, and their pids."""
    batches = list(data.test_loader("query", condition, repeat))
    features = torch.cat([Bands().extract(batch["images"].float() / 255, None, None) for batch in batches])
    return features, np.concatenate([batch["pids"].numpy() for batch in batches])


def test_repeats_against_a_loop(root, tmp_path):
    data = make_dataloader(configure(root, tmp_path), with_train=False)
    protocols, model = tuple(PROTOCOLS.values()), Bands()
    found = do_inference(model, data, protocols, device=CPU, repeats=4)
    # clean images once, and the corrupted ones of every repeat once, whichever side they are on
    assert model.seen == len(IMAGES) * (1 + 4)
    clean = extract(data, Condition(), 0)
    for repeat in range(4):
        corrupted = extract(data, Condition("random"), repeat)
        is_gallery = sample_gallery(data.splits.gallery, 3, repeat)
        assert is_gallery.sum() == 5
        for protocol in protocols:
            sides = {}
            for side, rows in (("query", ~is_gallery), ("gallery", is_gallery)):
                features, pids = clean if getattr(protocol, side).is_clean else corrupted
                camids = np.full(rows.sum(), side == "gallery")  # another camera, as the TransReID codebase numbers it
                sides[side] = FeatureSet(features[rows], pids[rows], camids.astype(int))
            expected = evaluate_features(**sides)
            metrics = found[protocol.name].repeats[repeat]
            assert (metrics.mAP, metrics.rank(1)) == (expected.mAP, expected.rank(1))
            assert metrics.num_valid_queries == len(IMAGES) - 5
    assert len({metrics.mAP for metrics in found["clean"].repeats}) > 1
    assert found["clean"].mAP == np.mean([metrics.mAP for metrics in found["clean"].repeats])


def test_results_features_and_ranked_lists(root, tmp_path):
    opts = ["TEST.RANKED_QUERIES", "2", "TEST.SAVE_FEATURES", "True", "TEST.THRESHOLDS", "True"]
    cfg = configure(root, tmp_path, *opts)
    data = make_dataloader(cfg, with_train=False)
    content = do_test(cfg, data, Bands(), (PROTOCOLS["clean"],), device=CPU, weight="a.pth")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["repeat"] for row in rows] == [str(repeat) for repeat in range(10)]  # the protocol's ten
    assert {row["dataset_version"] for row in rows} == {"800 test identities"}
    assert content["protocols"]["clean"]["repeats"] == 10
    assert content["protocols"]["clean"]["mAP"]["mean"] == pytest.approx(np.mean([float(row["mAP"]) for row in rows]))
    assert content["protocols"]["clean"]["rank1"]["std"] > 0
    assert json.loads((tmp_path / "results.json").read_text()) == content
    is_gallery = sample_gallery(data.splits.gallery, 3, 0)
    for side, chosen in (("query", ~is_gallery), ("gallery", is_gallery)):
        with np.load(tmp_path / "features" / f"{side}_clean.npz") as arrays:
            paths = [record.path for record, taken in zip(data.splits.query, chosen, strict=True) if taken]
            assert arrays["paths"].tolist() == paths
    assert (tmp_path / "ranked_list.png").stat().st_size > 1000


def test_another_seed_samples_other_galleries(root, tmp_path):
    masks = [
        make_dataloader(configure(root, tmp_path, "SEED", seed), with_train=False).sample_gallery(0)
        for seed in ("3", "3", "4")
    ]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()
