import numpy as np
import pytest
from PIL import Image

from config import load_cfg
from datasets.readers.file_errors import FileErrors
from datasets.readers.msmt17 import read_msmt17
from datasets.readers.registry import read_dataset
from datasets.readers.validation import check_counts
from utils.errors import UserError

LISTS = {
    "train": ["0001/0001_000_15_0303morning_0008_0.jpg 1", "0000/0000_000_01_0303morning_0008_0.jpg 0"],
    "val": ["0000/0000_001_02_0113noon_0020_1.jpg 0"],
    "query": ["0000/0000_000_03_0303afternoon_0008_0.jpg 0"],
    "gallery": ["3059/3059_002_07_0303morning_0015_2.jpg 3059", "0000/0000_001_04_0303morning_0008_0.jpg 0"],
}
FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}


def write_tree(root, version="V1", name=None):
    directory = root / (name or f"MSMT17_{version}")
    rng = np.random.default_rng(0)
    for split, lines in LISTS.items():
        folder = directory / FOLDERS[version][split in ("query", "gallery")]
        for line in lines:
            path = folder / line.split()[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(path)
        write_list(directory, split, lines)
    return directory


def write_list(directory, split, lines):
    (directory / f"list_{split}.txt").write_text("".join(f"{line}\n" for line in lines))


def read(root, **options):
    errors = FileErrors()
    return read_msmt17(root, errors, **options), errors.messages


@pytest.mark.parametrize("version", ["V1", "V2"])
@pytest.mark.parametrize("name", [None, "MSMT17", "msmt17"])
@pytest.mark.parametrize("asked", [True, False])
def test_reads_both_versions(tmp_path, caplog, version, name, asked):
    directory = write_tree(tmp_path, version, name)
    caplog.set_level("INFO")
    splits, errors = read(tmp_path, version=version if asked else "auto")
    train, test = (directory / folder for folder in FOLDERS[version])
    assert errors == []
    assert [(r.path, r.pid, r.camid) for r in splits.train] == [  # in the order of the paths, not of the lists
        (str(train / "0000/0000_000_01_0303morning_0008_0.jpg"), 0, 0),
        (str(train / "0000/0000_001_02_0113noon_0020_1.jpg"), 0, 1),
        (str(train / "0001/0001_000_15_0303morning_0008_0.jpg"), 1, 14),
    ]
    assert [(r.pid, r.camid) for r in splits.query] == [(0, 2)]
    assert [(r.path, r.pid, r.camid) for r in splits.gallery] == [
        (str(test / "0000/0000_001_04_0303morning_0008_0.jpg"), 0, 3),
        (str(test / "3059/3059_002_07_0303morning_0015_2.jpg"), 3059, 6),
    ]
    assert (splits.name, splits.version, splits.root) == ("msmt17", f"MSMT17_{version}", str(directory))
    assert not splits.common_pids
    assert not splits.has_distractors
    assert splits.has_cameras
    assert f"MSMT17: {version}, in {directory}" in caplog.text


def test_published_counts(tmp_path):
    directory = write_tree(tmp_path)
    with pytest.raises(UserError) as caught:
        check_counts(read(tmp_path)[0], refuse=True)
    assert str(caught.value).startswith(
        f"{directory}: not msmt17 (MSMT17_V1) as published: "
        "train: 3 images of 2 identities, published 32621 images of 1041 identities; "
        "query: 1 images of 1 identities, published 11659 images of 3060 identities; "
        "gallery: 2 images of 2 identities, published 82161 images of 3060 identities; "
        "cameras: 6, published 15."
    )


def test_without_the_validation_set(tmp_path):
    (write_tree(tmp_path) / "list_val.txt").unlink()
    splits, _ = read(tmp_path, with_val=False)
    assert len(splits.train) == 2
    assert splits.published["train"] == (30248, 1041)
    with pytest.raises(UserError, match=r"MSMT17_V1: list_val\.txt missing; expected train, test, list_train\.txt, "):
        read(tmp_path)


def test_which_version(tmp_path):
    first, second = write_tree(tmp_path, "V1"), write_tree(tmp_path, "V2", "MSMT17")
    with pytest.raises(UserError, match=f"found V1 in {first} and V2 in {second}, .* DATASETS.MSMT17.VERSION V1, or"):
        read(tmp_path)
    for version in FOLDERS:
        assert read(tmp_path, version=version)[0].version == f"MSMT17_{version}"
    second.rename(tmp_path.with_name(f"{tmp_path.name}-elsewhere"))
    with pytest.raises(UserError, match=f"VERSION V2: found only V1 in {first}; expected mask_train_v2 and mask_test"):
        read(tmp_path, version="V2")


@pytest.mark.parametrize("name", ["msmt", "MSMT17_V2", "MSMT17/MSMT17_V1", "msmt17/MSMT17_V1", "a/b/c"])
@pytest.mark.parametrize("version", ["auto", "V1"])
def test_it_is_found_by_its_content(tmp_path, caplog, name, version):
    caplog.set_level("INFO")
    directory = write_tree(tmp_path, "V1", name)
    splits, _ = read(tmp_path, version=version)
    assert (splits.root, splits.version) == (str(directory), "MSMT17_V1")
    assert f"MSMT17: V1, in {directory}" in caplog.text
    with pytest.raises(UserError, match=f"VERSION V2: found only V1 in {directory}"):
        read(tmp_path, version="V2")
    other = write_tree(tmp_path, "V1", "other")
    with pytest.raises(UserError, match=f"MSMT17 V1: several directories have its content: .*{other}"):
        read(tmp_path, version=version)
    assert read(other, version=version)[0].root == str(other)


def test_not_there(tmp_path):
    for version in ("auto", "V1", "V2"):
        with pytest.raises(UserError, match=r"MSMT17 not found: neither (.|\n)*pkuvmc\.com(.|\n)*DATASETS\.ROOT_DIR"):
            read(tmp_path, version=version)
    directory = write_tree(tmp_path, "V2")
    assert read(directory)[0].root == str(directory)


@pytest.mark.parametrize("split", LISTS)
@pytest.mark.parametrize("version", ["auto", "V1"])
def test_a_missing_list(tmp_path, split, version):
    (write_tree(tmp_path) / f"list_{split}.txt").unlink()
    with pytest.raises(UserError, match=rf"MSMT17_V1: list_{split}\.txt missing"):
        read(tmp_path, version=version)


PARSE = "does not parse; expected a line like 0000/0000_000_01_0303morning_0008_0.jpg 0"
NUMBERS = r"expected a pid that is the directory's, 0 to 3059, and a camera of 1 to 15"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000/0000_001_04_0303morning_0008_0.jpg", PARSE),
        ("0000/0000_001_04_0303morning_0008_0.jpg 0 0", PARSE),
        ("0000/0000_001_04_0303morning_0008_0.jpg zero", PARSE),
        ("0000/holiday.jpg 0", PARSE),
        ("0000/0000_001_four_0303morning_0008_0.jpg 0", PARSE),
        (r"0000\0000_001_04_0303morning_0008_0.jpg 0", PARSE),
        ("../test/0000/0000_001_04_0303morning_0008_0.jpg 0", PARSE),
        ("0000/../0000_001_04_0303morning_0008_0.jpg 0", PARSE),
        ("/0000/0000_001_04_0303morning_0008_0.jpg 0", PARSE),
        ("0000/0000_001_04_0303morning_0008_0.jpg " + "9" * 5000, PARSE),
        ("0000/0000_001_04_0303morning_0008_0.jpg 1", f"pid 1, camera 4; {NUMBERS}"),
        ("0000/0000_001_04_0303morning_0008_0.jpg -1", f"pid -1, camera 4; {NUMBERS}"),
        ("3060/3060_001_04_0303morning_0008_0.jpg 3060", f"pid 3060, camera 4; {NUMBERS}"),
        ("0000/0000_001_00_0303morning_0008_0.jpg 0", f"pid 0, camera 0; {NUMBERS}"),
        ("0000/0000_001_16_0303morning_0008_0.jpg 0", f"pid 0, camera 16; {NUMBERS}"),
        ("0000/0000_009_04_0303morning_0008_0.jpg 0", "does not exist; unpack the archive again, or remove the line"),
        ("0007/0007_001_04_0303morning_0008_0.jpg 7", "does not exist; unpack the archive again, or remove the line"),
        (LISTS["gallery"][1], "0000_001_04_0303morning_0008_0.jpg a second time, as in {list}, line 2; remove one"),
        (LISTS["query"][0], "0000_000_03_0303afternoon_0008_0.jpg a second time, as in {query}, line 1; remove one"),
    ],
)
def test_errors_of_lines(tmp_path, line, message):
    directory = write_tree(tmp_path)
    write_list(directory, "gallery", [*LISTS["gallery"], "", line])
    splits, (error,) = read(tmp_path)
    path = directory / "list_gallery.txt"
    assert error.startswith(f"{path}, line 4: ")
    assert message.format(list=path, query=directory / "list_query.txt") in error
    assert len(splits.gallery) == 2  # the error alone is left out


def test_errors_of_training_lines(tmp_path):
    directory = write_tree(tmp_path)
    wrong = "1041/1041_001_04_0303morning_0008_0.jpg 1041"
    write_list(directory, "val", [*LISTS["val"], LISTS["train"][0], wrong])
    splits, errors = read(tmp_path)
    assert f"a second time, as in {directory / 'list_train.txt'}, line 1" in errors[0]
    assert f"{directory / 'list_val.txt'}, line 3: 1041/1041_001" in errors[1]
    assert "0 to 1040" in errors[1]
    assert len(errors) == 2
    assert len(splits.train) == 3


def test_a_missing_image_names_list_line_and_image(tmp_path):
    directory = write_tree(tmp_path)
    image = directory / "train" / LISTS["train"][1].split()[0]
    image.unlink()
    image.symlink_to("nowhere.jpg")
    splits, errors = read(tmp_path)
    assert errors == [
        f"{directory / 'list_train.txt'}, line 2: image {image} does not exist; unpack the archive again, or "
        "remove the line"
    ]
    assert len(splits.train) == 2


def test_images_may_be_links(tmp_path):
    directory = write_tree(tmp_path)
    image = directory / "train" / LISTS["train"][1].split()[0]
    image.rename(tmp_path / "moved.jpg")
    image.symlink_to(tmp_path / "moved.jpg")
    (image.parent / "loop.jpg").symlink_to("loop.jpg")
    splits, errors = read(tmp_path)
    assert errors == []
    assert len(splits.train) == 3


def test_how_lists_may_be_saved(tmp_path):
    directory = write_tree(tmp_path)
    spaced = "\r\n".join([*LISTS["gallery"], "", "  "]).replace(" ", " \t ")
    (directory / "list_gallery.txt").write_bytes(b"\xef\xbb\xbf" + spaced.encode())
    splits, errors = read(tmp_path)
    assert errors == []
    assert [r.pid for r in splits.gallery] == [0, 3059]
    (directory / "list_gallery.txt").write_bytes(spaced.encode("utf-16"))
    with pytest.raises(UserError, match=r"list_gallery\.txt: is not UTF-8 text \(.*; expected lines like 0000/"):
        read(tmp_path)
    (directory / "list_gallery.txt").unlink()
    (directory / "list_gallery.txt").mkdir()
    with pytest.raises(UserError, match=r"list_gallery\.txt: is no regular file"):
        read(tmp_path)


def test_through_the_configuration(tmp_path):
    write_tree(tmp_path, "V1")
    write_tree(tmp_path, "V2")
    opts = {
        "DATASETS.NAMES": "msmt17",
        "DATASETS.ROOT_DIR": str(tmp_path),
        "DATASETS.CHECK_COUNTS": "False",
        "DATASETS.MSMT17.VERSION": "V2",
        "DATASETS.MSMT17.WITH_VAL": "False",
    }
    splits = read_dataset(load_cfg(opts=[part for pair in opts.items() for part in pair]))
    assert splits.title == "msmt17 (MSMT17_V2)"
    assert [len(split) for split in (splits.train, splits.query, splits.gallery)] == [2, 1, 2]
