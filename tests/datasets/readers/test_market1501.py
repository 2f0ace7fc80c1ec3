import numpy as np
import pytest
from PIL import Image

from config import load_cfg
from datasets.readers.file_errors import FileErrors
from datasets.readers.market1501 import read_market1501
from datasets.readers.registry import read_dataset
from datasets.readers.validation import check_counts, count
from utils.errors import UserError
from utils.preprocessing import resize

NAMES = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c3s1_000551_01.jpg", "0007_c2s3_070952_01.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c4s6_015641_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c1s1_000151_01.jpg",
        "0001_c2s1_001976_01.jpg",
        "0003_c6s1_002051_01.jpg",
    ],
}


def write_tree(root, name="market1501", names=NAMES):
    rng = np.random.default_rng(0)
    for folder, files in names.items():
        (root / name / folder).mkdir(parents=True)
        for file in files:
            Image.fromarray(rng.integers(0, 256, (20, 10, 3), dtype=np.uint8)).save(root / name / folder / file)
    return root / name


def read(root, **options):
    errors = FileErrors()
    splits = read_market1501(root, errors, **options)
    errors.raise_if_errors("error")
    return splits


@pytest.mark.parametrize("name", ["market1501", "Market-1501-v15.09.15"])
def test_reads_both_directory_names(tmp_path, name):
    directory = write_tree(tmp_path, name)
    (directory / "query" / "Thumbs.db").touch()  # comes with the archive
    (directory / "query" / "._0001_c1s1_001051_00.jpg").touch()  # left by an archiver
    splits = read(tmp_path)
    assert [(r.pid, r.camid) for r in splits.train] == [(2, 0), (2, 2), (7, 1)]
    assert [(r.pid, r.camid) for r in splits.query] == [(1, 0), (3, 3)]
    assert [(r.pid, r.camid) for r in splits.gallery] == [(0, 0), (1, 1), (3, 5)]  # junk dropped, distractor kept
    assert splits.root == str(directory)
    assert splits.gallery[0].path == str(directory / "bounding_box_test" / "0000_c1s1_000151_01.jpg")


@pytest.mark.parametrize("name", ["market", "Market-1501", "Market1501/Market-1501-v15.09.15", "."])
def test_reads_a_directory_of_another_name(tmp_path, name):
    directory = write_tree(tmp_path, name)
    for other, file in (("synthetic", "manifest.json"), ("market1501-C", "export.json")):
        (write_tree(tmp_path / "others", other) / file).touch()
    splits = read(tmp_path)
    assert splits.root == str(directory)
    assert [r.path for r in splits.query] == [str(directory / "query" / file) for file in NAMES["query"]]


@pytest.mark.parametrize("name", ["market", "Market-1501", "my_market_subset"])
def test_a_synthetic_set_stands_for_it_by_its_name(tmp_path, name):
    directory = write_tree(tmp_path, name)
    (directory / "manifest.json").touch()
    (write_tree(tmp_path, "synthetic") / "manifest.json").touch()
    assert read(tmp_path).root == str(directory)
    (directory / "export.json").touch()  # a corrupted copy of one
    with pytest.raises(UserError, match="the images of another data set"):
        read(tmp_path)


def test_the_layout_with_other_names_is_another_data_set(tmp_path):
    duke = {folder: ["0002_c1_f0044158.jpg", "0002_c2_f0044158.jpg"] for folder in NAMES}
    directory = write_tree(tmp_path, "DukeMTMC-reID", duke)
    with pytest.raises(UserError, match=f"{directory} holds bounding_box_train, .* but the images of another data set"):
        read(tmp_path)


def test_counts_against_the_published_ones(tmp_path, caplog):
    write_tree(tmp_path)
    splits = read(tmp_path)
    assert count(splits, "gallery") == (3, 2)  # the distractor is an image, of no identity
    message = (
        "not market1501 as published: train: 3 images of 2 identities, published 12936 images of 751 identities; "
        "query: 2 .* 3368 images of 750 identities; gallery: 3 .* of 750 identities; cameras: 5, published 6"
    )
    with pytest.raises(UserError, match=message):
        check_counts(splits, refuse=True)
    check_counts(splits, refuse=False)
    assert "not market1501 as published" in caplog.text


def test_missing_data_set_says_what_to_do(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError) as caught:
        read(tmp_path / "data")
    for part in (
        str(tmp_path / "data" / "market1501"),
        "Market-1501-v15.09.15.zip",
        "DATASETS.ROOT_DIR",
        "configs/Synthetic/cfat.yml",
    ):
        assert part in str(caught.value)


def test_half_extracted(tmp_path):
    write_tree(tmp_path, names={"bounding_box_train": NAMES["bounding_box_train"]})
    with pytest.raises(UserError, match="query, bounding_box_test missing"):
        read(tmp_path)


@pytest.mark.parametrize(
    "name", ["0002c1s1_000451_03.jpg", "person.png", "0002_c0s1_000451_03.jpg", "-2_c1s1_000451_03.jpg"]
)
def test_a_name_that_does_not_parse_is_named(tmp_path, name):
    write_tree(tmp_path, names={**NAMES, "query": [*NAMES["query"], name]})
    for own_subset in (False, True):
        with pytest.raises(UserError, match=name):
            read(tmp_path, own_subset=own_subset)


@pytest.mark.parametrize("name", ["0002_c7s1_000451_03.jpg", "1502_c1s1_000451_03.jpg"])
def test_numbers_outside_the_published_range(tmp_path, name):
    write_tree(tmp_path, names={**NAMES, "query": [*NAMES["query"], name]})
    with pytest.raises(UserError, match=f"{name}: pid .*; expected a pid of -1 to 1501 and a camera of 1 to 6"):
        read(tmp_path)
    assert len(read(tmp_path, own_subset=True).query) == 3


@pytest.mark.parametrize("name", ["-01_c1s1_1_1.jpg", "-0_c1s1_1_1.jpg", "\uff12_c1s1_1_1.jpg"])
def test_junk_is_minus_one_alone_and_digits_are_ascii(tmp_path, name):
    write_tree(tmp_path, names={**NAMES, "query": [*NAMES["query"], name]})
    with pytest.raises(UserError, match=name):
        read(tmp_path, own_subset=True)


def test_one_identity_written_in_several_ways_is_reported(tmp_path, caplog):
    directory = write_tree(tmp_path, names={**NAMES, "query": [*NAMES["query"], "3_c1s1_1_1.jpg"]})
    assert [r.pid for r in read(tmp_path).query] == [1, 3, 3]
    assert (
        f"{directory}: 1 identities are written in several ways; pids are numbers there, so each is one identity"
        in caplog.text
    )
    assert "0003 = 3" in caplog.text


def configure(root, *opts):
    return load_cfg(opts=["DATASETS.ROOT_DIR", str(root), "DATASETS.CHECK_COUNTS", "False", *opts])


def test_empty_splits(tmp_path):
    for split, folder in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        directory = write_tree(tmp_path / split, names={**NAMES, folder: []})
        with pytest.raises(UserError, match=f"{directory}: no images for the {split} set of market1501"):
            read_dataset(configure(tmp_path / split))
    assert read_dataset(configure(tmp_path / "train"), with_train=False).train == ()


def test_damaged_images_are_reported_before_training_or_left_out(tmp_path, caplog):
    directory = write_tree(tmp_path)
    damaged = directory / "query" / NAMES["query"][0]
    damaged.write_bytes(damaged.read_bytes()[:300])
    (directory / "bounding_box_train" / "holiday.jpg").touch()
    with pytest.raises(UserError, match=r"holiday\.jpg: the name does not parse(.|\n)*ON_BAD_IMAGE skip") as caught:
        read_dataset(configure(tmp_path))
    (directory / "bounding_box_train" / "holiday.jpg").rename(directory / "bounding_box_train" / "0002_c1s1_1_1.jpg")
    with pytest.raises(UserError, match=r"0002_c1s1_1_1\.jpg: cannot be read") as caught:
        read_dataset(configure(tmp_path))
    assert "1 more such; of a data set, python -m datasets check lists them" in str(caught.value)
    splits = read_dataset(configure(tmp_path, "DATASETS.ON_BAD_IMAGE", "skip"))
    assert [len(split) for split in (splits.train, splits.query, splits.gallery)] == [3, 1, 3]
    assert "ON_BAD_IMAGE skip: left out 2, " in caplog.text
    assert len(read_dataset(configure(tmp_path, "DATASETS.CHECK_IMAGES", "False")).query) == 2
    (directory / "query" / "holiday.jpg").touch()
    splits = read_dataset(configure(tmp_path, "DATASETS.ON_BAD_IMAGE", "skip", "DATASETS.CHECK_COUNTS", "True"))
    assert len(splits.query) == 1  # what was skipped is no reason to refuse the counts


def test_images_a_level_too_deep(tmp_path):
    directory = write_tree(tmp_path)
    (directory / "query").rename(directory / "deep")
    (directory / "query").mkdir()
    (directory / "deep").rename(directory / "query" / "query")
    with pytest.raises(UserError, match=rf"{directory}/query: no image in it, but query/{NAMES['query'][0]} below it"):
        read(tmp_path)


def test_resize_is_pils():
    image = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((64, 128), Image.Resampling.BILINEAR))
    assert (resize(image, (128, 64), Image.Resampling.BILINEAR) == expected).all()
    assert resize(image, (40, 20), Image.Resampling.BILINEAR) is image
