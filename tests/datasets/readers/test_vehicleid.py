import numpy as np
import pytest

from datasets.__main__ import main
from datasets.readers.validation import differences
from datasets.sampled_gallery import sample_gallery
from tests.datasets.readers.trees import labels, read, write_images
from utils.errors import UserError
from utils.structures import ImageRecord

TRAIN = [("0000001", 5), ("0000002", 5), ("0000003", 9)]
TESTS = {800: [("0000007", 2), ("0000005", 2), ("0000006", 3)], 1600: [("0000005", 2)], 2400: [("0000006", 3)]}


def write_vehicleid(root, name="VehicleID_V1.0", train=TRAIN, tests=TESTS):
    directory = root / name
    write_images(directory / "image", [f"000000{number}.jpg" for number in range(1, 9)])
    (directory / "train_test_split").mkdir()
    lists = {"train_list": train, **{f"test_list_{size}": rows for size, rows in tests.items()}}
    for file, rows in lists.items():
        text = "".join(f"{image} {pid}\n" for image, pid in rows)
        (directory / "train_test_split" / f"{file}.txt").write_text(text)
    return directory


@pytest.mark.parametrize("directory", ["VehicleID_V1.0", "vehicleid", "cars/VehicleID_V1.0", "."])
@pytest.mark.parametrize("name", ["VehicleID", "vehicleid"])
def test_reads(tmp_path, name, directory):
    place = write_vehicleid(tmp_path, directory)
    splits = read(tmp_path, name)
    assert (splits.name, splits.root) == ("vehicleid", str(place))
    assert labels(splits.train) == [(5, 0), (5, 0), (9, 0)]
    assert splits.query is splits.gallery  # all test images; every repeat samples its gallery
    assert [(record.path, record.pid) for record in splits.query] == [
        (str(place / "image" / f"000000{number}.jpg"), pid) for number, pid in ((5, 2), (6, 3), (7, 2))
    ]
    assert splits.samples_gallery
    assert not splits.has_cameras


@pytest.mark.parametrize(("size", "images"), [(800, 6493), (1600, 13377), (2400, 19777)])
def test_test_sets_and_published_counts(tmp_path, size, images):
    write_vehicleid(tmp_path)
    splits = read(tmp_path, "vehicleid", "DATASETS.VEHICLEID.TEST_SIZE", str(size))
    assert len(splits.gallery) == len(TESTS[size])
    assert splits.title == f"vehicleid ({size} test identities)"
    found = differences(splits)
    assert found["train"] == "train: 3 images of 2 identities, published 113346 images of 13164 identities"
    assert found["gallery"].endswith(f"published {images} images of {size} identities")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("0000001", 5), ("0000099", 5)], r"train_list\.txt, line 2: image .*0000099\.jpg does not exist"),
        ([("0000001", 5), ("0000005", 5)], r"test_list_800\.txt, line 2: 0000005\.jpg a second time, as in .*line 2"),
        ([("0000001", "car")], r"train_list\.txt, line 1: '0000001 car' does not parse; .* like 0195003 3336"),
    ],
)
def test_lines_that_are_wrong(tmp_path, rows, message):
    write_vehicleid(tmp_path, train=rows)
    with pytest.raises(UserError, match=message):
        read(tmp_path, "vehicleid")


def test_missing_and_check(tmp_path, capsys):
    with pytest.raises(UserError, match=r"VehicleID not found(.|\n)*Request it at https://pkuml.org"):
        read(tmp_path, "vehicleid")
    directory = write_vehicleid(tmp_path)
    (directory / "train_test_split/test_list_1600.txt").unlink()
    with pytest.raises(UserError, match=r"test_list_1600\.txt missing"):
        read(tmp_path, "vehicleid", "DATASETS.VEHICLEID.TEST_SIZE", "1600")
    options = ["DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.NAMES", "VehicleID", "DATASETS.CHECK_COUNTS", "False"]
    main(["check", *options])
    out = capsys.readouterr().out
    assert "vehicleid (800 test identities)" in out
    assert "113346 images of 13164 identities, DIFFERS" in out


def test_sampled_galleries():
    records = [ImageRecord(f"{number}.jpg", number % 4, 0) for number in range(20)] + [ImageRecord("one.jpg", 9, 0)]
    pids = np.array([record.pid for record in records])
    masks = [sample_gallery(records, 7, repeat) for repeat in range(300)]
    for mask in masks:  # one image of each identity
        assert sorted(pids[mask]) == [0, 1, 2, 3, 9]
    chosen = np.sum(masks, axis=0)
    assert chosen[-1] == 300
    assert (abs(chosen[:-1] - 60) < 30).all()  # each of five images, uniformly
    assert (sample_gallery(records, 7, 3) == masks[3]).all()
    assert any((sample_gallery(records, 8, repeat) != masks[repeat]).any() for repeat in range(3))
    order = np.random.default_rng(0).permutation(len(records))
    assert (sample_gallery([records[index] for index in order], 7, 3) == masks[3][order]).all()
