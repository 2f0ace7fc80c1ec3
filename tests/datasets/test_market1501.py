import numpy as np
import pytest
from PIL import Image

from datasets.images import resize
from datasets.market1501 import read_market1501
from utils.errors import UserError
from utils.images import read_image

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


@pytest.mark.parametrize("name", ["market1501", "Market-1501-v15.09.15"])
def test_reads_both_directory_names(tmp_path, name):
    directory = write_tree(tmp_path, name)
    (directory / "query" / "Thumbs.db").touch()  # comes with the archive
    splits = read_market1501(tmp_path, check_counts=False)
    assert [(r.pid, r.camid) for r in splits.train] == [(2, 0), (2, 2), (7, 1)]
    assert [(r.pid, r.camid) for r in splits.query] == [(1, 0), (3, 3)]
    assert [(r.pid, r.camid) for r in splits.gallery] == [(0, 0), (1, 1), (3, 5)]  # junk dropped, distractor kept
    assert splits.root == str(directory)
    assert splits.gallery[0].path == str(directory / "bounding_box_test" / "0000_c1s1_000151_01.jpg")


def test_counts_against_the_published_ones(tmp_path, caplog):
    write_tree(tmp_path)
    message = "train: 3 pictures of 2 identities, published 12936 of 751; query: 2 .* 3368 of 750; gallery: 3 .* of 750"
    with pytest.raises(UserError, match=message):
        read_market1501(tmp_path)
    read_market1501(tmp_path, check_counts=False)
    assert "not the published Market-1501" in caplog.text


def test_missing_data_set_says_what_to_do(tmp_path):
    with pytest.raises(UserError) as caught:
        read_market1501(tmp_path / "data")
    for part in (str(tmp_path / "data" / "market1501"), "Market-1501-v15.09.15.zip", "DATASETS.ROOT_DIR",
                 "configs/Synthetic/cfat.yml"):  # fmt: skip
        assert part in str(caught.value)


def test_half_extracted(tmp_path):
    write_tree(tmp_path, names={"bounding_box_train": NAMES["bounding_box_train"]})
    with pytest.raises(UserError, match="query, bounding_box_test missing"):
        read_market1501(tmp_path)


def test_empty_split(tmp_path):
    directory = write_tree(tmp_path, names={**NAMES, "query": []})
    with pytest.raises(UserError, match=f"{directory / 'query'}: no pictures"):
        read_market1501(tmp_path)


@pytest.mark.parametrize(
    "name", ["0002c1s1_000451_03.jpg", "person.png", "0002_c0s1_000451_03.jpg", "-2_c1s1_000451_03.jpg"]
)
def test_a_name_that_does_not_parse_is_named(tmp_path, name):
    write_tree(tmp_path, names={**NAMES, "query": [*NAMES["query"], name]})
    with pytest.raises(UserError, match=name):
        read_market1501(tmp_path)


def test_damaged_pictures_are_named(tmp_path):
    path = write_tree(tmp_path) / "query" / NAMES["query"][0]
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no picture"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"picture {path}: cannot be read"):
            read_image(path)
    with pytest.raises(UserError, match=r"gone\.jpg: cannot be read"):
        read_image(tmp_path / "gone.jpg")
    Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png: mode I;16, more than 8 bits a value; expected 8 bits"):
        read_image(tmp_path / "deep.png")


def test_grey_and_rgba_become_rgb(tmp_path):
    for mode, file in (("L", "grey.png"), ("RGBA", "alpha.png"), ("P", "palette.png")):
        Image.new(mode, (4, 6)).save(tmp_path / file)
        image = read_image(tmp_path / file)
        assert (image.shape, image.dtype) == ((6, 4, 3), np.uint8)


def test_resize_is_pils():
    image = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((64, 128), Image.Resampling.BILINEAR))
    assert (resize(image, (128, 64), Image.Resampling.BILINEAR) == expected).all()
    assert resize(image, (40, 20), Image.Resampling.BILINEAR) is image
