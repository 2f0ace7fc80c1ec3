import pytest

from datasets import make_dataloader, read_dataset
from datasets.__main__ import main
from datasets.readers.validation import differences
from tests.datasets.readers.trees import configure, labels, read, write_images
from utils.errors import UserError

IMAGES = [
    f"{side}/00{pid}/00{pid}_0{n}.tif"
    for side in ("occluded_body_images", "whole_body_images")
    for pid in (1, 2)
    for n in (1, 2)
]


@pytest.mark.parametrize("directory", ["Occluded_REID", "OccludedREID", "ICME2018/Occluded_REID", "."])
def test_reads(tmp_path, directory):
    write_images(tmp_path / directory, IMAGES)
    splits = read(tmp_path, "occluded_reid")
    assert splits.train == ()
    assert labels(splits.query) == labels(splits.gallery) == [(1, 0), (1, 0), (2, 0), (2, 0)]
    assert splits.query[0].path == str(tmp_path / directory / "occluded_body_images/001/001_01.tif")
    assert not splits.has_cameras  # every gallery image of the identity is a match
    assert differences(splits) == {
        "query": "query: 4 images of 2 identities, published 1000 images of 200 identities",
        "gallery": "gallery: 4 images of 2 identities, published 1000 images of 200 identities",
    }


def test_it_is_for_tests_alone(tmp_path, capsys):
    write_images(tmp_path / "Occluded_REID", IMAGES)
    cfg = configure(tmp_path, "occluded_reid")
    with pytest.raises(UserError, match="occluded_reid has no train set, it is for tests alone: .*TEST.WEIGHT"):
        read_dataset(cfg)
    assert make_dataloader(cfg, with_train=False).num_cameras == 1
    options = ["DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.NAMES", "Occluded_REID"]
    assert main(["check", *options, "DATASETS.CHECK_COUNTS", "False"]) == 0
    assert "train: no images, a data set for tests only" in capsys.readouterr().out
    assert main(["check", *options]) == 1
    assert "query: 4 images of 2 identities, published 1000 images of 200" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["001/002_01.tif", "001_01.tif", "a/001_01.tif"])
def test_names_that_do_not_parse(tmp_path, name):
    write_images(tmp_path / "Occluded_REID", [*IMAGES, f"whole_body_images/{name}"])
    with pytest.raises(UserError, match=f"whole_body_images/{name}: the name does not parse"):
        read(tmp_path, "occluded_reid")


def test_missing(tmp_path):
    write_images(tmp_path / "other", [f"{side}/a_1.tif" for side in ("occluded_body_images", "whole_body_images")])
    with pytest.raises(
        UserError, match=r"Occluded-REID not found: .*other holds(.|\n)*Download it from https://github"
    ):
        read(tmp_path, "occluded_reid")
