"""DukeMTMC-reID and Occluded-Duke, which share layout and names."""

import pytest

from datasets import read_dataset
from datasets.__main__ import main
from datasets.readers.validation import differences
from tests.datasets.readers.trees import configure, labels, read, write_images
from utils.errors import UserError

DUKE = {
    "bounding_box_train": ["0001_c2_f0046182.jpg", "0001_c5_f0051341.jpg", "0007_c8_f0012345.jpg"],
    "query": ["0005_c2_f0046985.jpg", "0033_c1_f0057706.jpg"],
    "bounding_box_test": ["0002_c1_f0044158.jpg", "0005_c5_f0051781.jpg", "0033_c3_f0000001.jpg"],
}


def write_duke(root, name, tree=DUKE):
    write_images(root / name, [f"{folder}/{file}" for folder, files in tree.items() for file in files])
    return root / name


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        *(("dukemtmc", directory) for directory in ("dukemtmcreid", "DukeMTMC-reID", "dukemtmc", "soccer/Duke")),
        *(
            ("occluded_duke", directory)
            for directory in ("Occluded_Duke", "dukemtmcreid/Occluded_Duke", "my/occ_split")
        ),
        *((name, "Occluded_Duke") for name in ("occ_duke", "OCC_Duke", "Occluded_Duke")),
    ],
)
def test_reads(tmp_path, name, directory):
    place = write_duke(tmp_path, directory)
    splits = read(tmp_path, name)
    assert splits.root == str(place)
    assert splits.name == ("dukemtmc" if name == "dukemtmc" else "occluded_duke")
    assert labels(splits.train) == [(1, 1), (1, 4), (7, 7)]
    assert labels(splits.query) == [(5, 1), (33, 0)]
    assert labels(splits.gallery) == [(2, 0), (5, 4), (33, 2)]
    assert splits.has_cameras
    assert not splits.has_distractors


def test_the_two_are_told_apart_by_the_names_of_directories(tmp_path):
    duke, occluded = write_duke(tmp_path, "data/Duke"), write_duke(tmp_path, "data/Occ-Duke/images")
    write_duke(tmp_path, "data/dukemtmcreid-C")
    (tmp_path / "data/dukemtmcreid-C/export.json").touch()  # a corrupted copy
    assert read(tmp_path, "dukemtmc").root == str(duke)
    assert read(tmp_path, "occluded_duke").root == str(occluded)
    assert read(occluded, "occluded_duke").root == str(occluded)
    occluded.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="Occluded-Duke not found: .*holds bounding_box_train, .* of another data set"):
        read(tmp_path / "data", "occluded_duke")


def test_published_counts(tmp_path):
    write_duke(tmp_path, "dukemtmcreid")
    write_duke(tmp_path, "Occluded_Duke")
    assert differences(read(tmp_path, "dukemtmc")) == {
        "train": "train: 3 images of 2 identities, published 16522 images of 702 identities",
        "query": "query: 2 images of 2 identities, published 2228 images of 702 identities",
        "gallery": "gallery: 3 images of 3 identities, published 17661 images of 1110 identities",
        "cameras": "cameras: 5, published 8",
    }
    assert list(differences(read(tmp_path, "occluded_duke")).values()) == [
        "train: 3 images of 2 identities, published 15618 images of 702 identities",
        "query: 2 images of 2 identities, published 2210 images of 519 identities",
        "gallery: 3 images of 3 identities, published 17661 images of 1110 identities",
        "cameras: 5, published 8",
    ]
    with pytest.raises(UserError, match="not dukemtmc as published: train: 3 images .* DATASETS.CHECK_COUNTS False"):
        read_dataset(configure(tmp_path, "dukemtmc", "DATASETS.CHECK_COUNTS", "True"))


@pytest.mark.parametrize("file", ["0005_c9_f0046985.jpg", "0005_c2s1_000451_03.jpg", "duke.jpg"])
def test_names_that_do_not_parse(tmp_path, file):
    write_duke(tmp_path, "dukemtmcreid", {**DUKE, "query": [*DUKE["query"], file]})
    with pytest.raises(UserError, match=f"query/{file}: .*expected"):
        read(tmp_path, "dukemtmc")


def test_missing(tmp_path):
    (tmp_path / "Occluded_Duke.zip").touch()
    with pytest.raises(UserError, match=r"DukeMTMC-reID not found: .*dukemtmcreid(.|\n)*offer no download"):
        read(tmp_path, "dukemtmc")
    with pytest.raises(UserError, match=r"found the archive .*Occluded_Duke\.zip, which is not unpacked"):
        read(tmp_path, "occluded_duke")


@pytest.mark.parametrize(("name", "directory"), [("dukemtmc", "DukeMTMC-reID"), ("occluded_duke", "Occluded_Duke")])
def test_check_and_corrupted_copy(tmp_path, capsys, name, directory):
    from corruption.__main__ import main as corruption_main

    write_duke(tmp_path, directory)
    options = ["DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.CHECK_COUNTS", "False"]
    assert main(["check", *options, "DATASETS.NAMES", name]) == 0
    assert "published 16522" in capsys.readouterr().out or name == "occluded_duke"
    paths = ["--data", str(tmp_path / directory), "--out", str(tmp_path / f"{directory}-C")]
    assert corruption_main(["export", *paths, "--workers", "1", "--seed", "3"]) == 0
    assert f"DATASETS.NAMES {name}-C TEST.PROTOCOLS" in capsys.readouterr().out
    original, copy = read(tmp_path, name), read(tmp_path, f"{name}-C")
    assert [labels(side) for side in (copy.train, copy.query, copy.gallery)] == [
        labels(side) for side in (original.train, original.query, original.gallery)
    ]
    assert main(["check", *options, "DATASETS.NAMES", f"{name}-C"]) == 0
