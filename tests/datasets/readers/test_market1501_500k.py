import numpy as np
import pytest
import torch
from PIL import Image

from datasets import make_dataloader
from datasets.readers.validation import differences
from processor import do_inference
from tests.datasets.readers.test_market1501 import NAMES, write_tree
from tests.datasets.readers.trees import configure, labels, read, write_images
from utils.errors import UserError
from utils.structures import Protocol

DISTRACTORS = ["0000_c1s1_000001_01.jpg", "-1_c6s3_000002_01.jpg"]


@pytest.mark.parametrize("directory", ["images", "distractors_500k", "distractors_500k/images"])
def test_distractors_join_the_gallery(tmp_path, directory):
    write_images(write_tree(tmp_path) / directory, DISTRACTORS)
    plain, splits = read(tmp_path, "market1501"), read(tmp_path, "Market1501_500k")
    assert (splits.train, splits.query) == (plain.train, plain.query)
    assert splits.gallery[: len(plain.gallery)] == plain.gallery
    assert labels(splits.gallery[len(plain.gallery) :]) == [(0, 5), (0, 0)]
    assert (splits.name, splits.has_distractors) == ("market1501_500k", True)
    assert differences(splits)["gallery"] == "gallery: 5 images of 2 identities, published 750 identities"


class MeanColour(torch.nn.Module):
    def extract(self, images, camids, viewids):
        return images.mean(dim=(2, 3))


def write_colours(directory, colours):
    for name, colour in colours.items():
        Image.fromarray(np.full((20, 10, 3), colour, np.uint8)).save(directory / name)


def test_they_match_nothing_and_count_as_wrong(tmp_path):
    """Distractors that are nearer to every query than its match."""
    directory = write_tree(tmp_path)
    write_images(directory / "images", DISTRACTORS)
    queries = dict(zip(NAMES["query"], (50, 150), strict=True))
    write_colours(directory / "query", queries)
    write_colours(directory / "bounding_box_test", {"0001_c2s1_001976_01.jpg": 60, "0003_c6s1_002051_01.jpg": 160})
    write_colours(directory / "images", dict(zip(DISTRACTORS, (54, 154), strict=True)))
    found = {}
    for name in ("market1501", "market1501_500k"):
        data = make_dataloader(configure(tmp_path, name, "DATALOADER.NUM_WORKERS", "0"), with_train=False)
        found[name] = do_inference(MeanColour(), data, (Protocol("clean"),), device=torch.device("cpu"))["clean"]
    assert (found["market1501"].mAP, found["market1501"].rank(1)) == (1, 1)
    assert (found["market1501_500k"].mAP, found["market1501_500k"].rank(1)) == (0.5, 0)
    assert found["market1501_500k"].num_valid_queries == 2


def test_missing(tmp_path):
    directory = write_tree(tmp_path)
    with pytest.raises(UserError, match="has no directory of distractors, images or .*; it holds bounding_box_test"):
        read(tmp_path, "market1501_500k")
    (directory / "images").mkdir()
    with pytest.raises(UserError, match="images: no distractors in it"):
        read(tmp_path, "market1501_500k")


@pytest.mark.parametrize("name", [NAMES["query"][0], "0000_c7s1_000001_01.jpg", "distractor.jpg"])
def test_names_of_others(tmp_path, name):
    write_images(write_tree(tmp_path) / "images", [*DISTRACTORS, name])
    with pytest.raises(UserError, match=f"images/{name}: expected the name of a distractor"):
        read(tmp_path, "market1501_500k")
