import hashlib
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from datasets.__main__ import main
from datasets.readers.file_errors import FileErrors
from datasets.report import SHOWN, Level
from datasets.validate import inspect_images, validate
from utils.structures import Counts, DatasetSplits, ImageRecord

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
NAMES = {
    TRAIN: ["0002_c1s1_000451_03.jpg", "0002_c3s1_000551_01.jpg", "0007_c2s3_070952_01.png"],
    QUERY: ["0001_c1s1_001051_00.jpg", "0003_c4s6_015641_00.jpg"],
    GALLERY: ["-1_c1s1_000401_03.jpg", "0000_c1s1_000151_01.jpg", "0001_c2s1_001976_01.jpg", "0003_c6s1_002051_01.jpg"],
}


def write_image(path, size=(20, 10), **options):
    """An image of this (height, width) that is another for every name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(os.fsencode(path)))
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, **options)
    return path


def write_subset(root):
    """A subset of Market-1501 below `root`, without an error but its counts."""
    for folder, names in NAMES.items():
        for name in names:
            write_image(root / "market1501" / folder / name)
    return root / "market1501"


@pytest.fixture
def tree(tmp_path):
    return write_subset(tmp_path)


@pytest.fixture
def check(tmp_path, capsys):
    """Runs the command on a subset in tmp_path: exit status, and the lines it printed."""

    def run(*arguments):
        subset = ["DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.CHECK_COUNTS", "False"]
        capsys.readouterr()
        status = main(["check", *arguments, *subset] if "--fast" in arguments else ["check", *subset, *arguments])
        return status, capsys.readouterr().out.splitlines()

    return run


def errors_of(lines, mark="ERROR "):
    return [line.removeprefix(mark) for line in lines if line.startswith(mark)]


def warnings_of(lines):
    return errors_of(lines, "WARNING ")


def table_of(lines):
    """Cells of each row by its first cell; a table too wide for a terminal goes on in another below it."""
    rows = {}
    for line in lines:
        assert len(line) <= 80 or not line.startswith("|")
        if line.startswith("| "):
            name, *cells = (cell.strip() for cell in line.split("|")[1:-1])
            rows.setdefault(name, []).extend(cells)
    return rows


def test_a_subset_without_an_error(tree, check):
    write_image(tree / TRAIN / NAMES[TRAIN][0], (40, 8))
    write_image(tree / TRAIN / NAMES[TRAIN][1], (12, 30))
    status, lines = check()
    assert status == 0
    assert lines[0] == f"market1501 in {tree}"
    assert table_of(lines) == {
        "split": ["images", "identities", "cameras", "published", "height x width"],
        "train": ["3", "2", "3", "12936 images of 751 identities, DIFFERS", "20x10 to 12x30"],
        "query": ["2", "2", "2", "3368 images of 750 identities, DIFFERS", "20x10"],
        "gallery": ["3", "2", "3", "15913 images of 750 identities, DIFFERS", "20x10"],  # the distractor is no identity
    }
    assert warnings_of(lines) == [
        "train: 3 images of 2 identities, published 12936 images of 751 identities",
        "query: 2 images of 2 identities, published 3368 images of 750 identities",
        "gallery: 3 images of 2 identities, published 15913 images of 750 identities",
        "cameras: 5, published 6",
    ]
    assert [line for line in lines if line.startswith("ok ")] == [
        "ok names and lists: every entry is an image that was read",
        "ok identities: none is in train and in test",
        "ok matches: every query has one in the gallery",
        "ok decoding: all 8 images can be read",
        "ok duplicates: no file of train has the content of one of test",
        "ok duplicates: no file of query has the content of another of gallery",
    ]
    assert lines[-1] == "no errors, 4 warnings"


def test_other_counts_are_an_error_unless_the_user_accepts_a_subset(tree, check):
    status, lines = check("DATASETS.CHECK_COUNTS", "True")
    assert status == 1
    assert len(errors_of(lines)) == 4
    assert errors_of(lines)[0] == "train: 3 images of 2 identities, published 12936 images of 751 identities"
    write_image(tree / QUERY / "1502_c1s1_000451_03.jpg")
    write_image(tree / GALLERY / "1502_c7s1_000451_03.jpg")
    assert check()[0] == 0  # such numbers may be in a custom subset
    _, lines = check("DATASETS.CHECK_COUNTS", "True")
    assert sum("expected a pid of -1 to 1501 and a camera of 1 to 6" in line for line in errors_of(lines)) == 2


def test_names_that_do_not_parse_are_all_named(tree, check):
    for number in range(SHOWN + 3):
        write_image(tree / QUERY / f"holiday{number:02d}.jpg")
    (tree / GALLERY / "me.png").touch()
    for options in ((), ("--fast",)):
        status, lines = check(*options)
        assert status == 1
        errors = errors_of(lines)
        assert len(errors) == SHOWN + 1
        for number, error in enumerate(errors[:-1]):
            assert error.startswith(f"{tree / QUERY / f'holiday{number:02d}.jpg'}: the name does not parse")
        assert errors[-1] == "... and 4 more"
        assert "24 errors, 4 warnings" in lines[-1]


def test_links_in_loops(tmp_path, check):
    for name in ("train/anna/1.jpg", "query/bert/1.jpg", "gallery/bert/2.jpg"):
        write_image(tmp_path / name)
    (tmp_path / "train" / "anna" / "again").symlink_to(tmp_path / "train")
    status, lines = check("DATASETS.NAMES", "folder", "MODEL.SIE_CAMERA", "False")
    assert status == 1
    (error,) = errors_of(lines)
    assert error.startswith(f"{tmp_path / 'train' / 'anna' / 'again'}: a symbolic link that leads back to")


def test_list_entries_without_a_image(tmp_path, check):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_image(tmp_path / name)
    rows = [
        "path,pid,split",
        "a.jpg,1,train",
        "gone.jpg,1,train",
        "b.jpg,2,query",
        "c.jpg,2,gallery",
        "lost.jpg,2,query",
    ]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    status, lines = check("--fast", "DATASETS.NAMES", "csv", "MODEL.SIE_CAMERA", "False")
    assert status == 1
    first, second = errors_of(lines)
    assert first.startswith(f"{tmp_path / 'data.csv'}, line 3: image {tmp_path / 'gone.jpg'} does not exist")
    assert second.startswith(f"{tmp_path / 'data.csv'}, line 6: image {tmp_path / 'lost.jpg'} does not exist")


def test_images_that_cannot_be_decoded(tree, check):
    empty, cut = tree / TRAIN / NAMES[TRAIN][2], tree / QUERY / NAMES[QUERY][0]
    text = tree / GALLERY / NAMES[GALLERY][3]
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:400])
    text.write_text("no image")
    status, lines = check()
    assert status == 1
    errors = errors_of(lines)
    for path, reason, error in zip((empty, cut, text), ("identify", "(?i)truncated", "identify"), errors, strict=True):
        assert f" {path}: cannot be read (" in error
        assert re.search(reason, error)
    assert lines[-1] == "3 errors, 4 warnings"


def test_fast_opens_no_image(tree, check):
    for folder, names in NAMES.items():
        for name in names:
            (tree / folder / name).write_bytes(b"")
    status, lines = check("--fast")
    assert status == 0
    assert [row[-1] for row in table_of(lines).values()] == ["height x width", *["not opened (--fast)"] * 3]
    assert lines[-1] == "no errors, 4 warnings; images not opened (--fast)"
    status, lines = check()
    assert status == 1
    assert len(errors_of(lines)) == 8
    assert [row[-1] for row in table_of(lines).values()] == ["height x width", *["none"] * 3]
    assert any(line.startswith("ok duplicates") for line in lines)  # eight empty files are no copies of each other


def test_the_same_content_in_train_and_in_test(tree, check):
    trained, query = tree / TRAIN / NAMES[TRAIN][0], tree / QUERY / "0003_c5s1_000001_00.jpg"
    distractor = tree / GALLERY / "0000_c2s2_000002_02.jpg"
    for copy in (query, distractor):
        shutil.copy(trained, copy)
    status, lines = check()
    assert status == 1
    assert sorted(errors_of(lines)) == [
        f"the same content: train {trained} and gallery {distractor}; remove one",
        f"the same content: train {trained} and query {query}; remove one",
    ]
    assert warnings_of(lines)[-1] == f"the same content: query {query} and gallery {distractor}; remove one"
    assert check("--fast")[0] == 0


def test_the_same_content_in_query_and_gallery_is_a_warning(tree, check):
    query, copy = tree / QUERY / NAMES[QUERY][0], tree / GALLERY / "0001_c5s1_000001_01.jpg"
    shutil.copy(query, copy)
    status, lines = check()
    assert status == 0
    assert warnings_of(lines)[-1] == f"the same content: query {query} and gallery {copy}; remove one"


def test_identities_in_train_and_in_test(tree, check):
    shared = write_image(tree / TRAIN / "0003_c2s1_000001_00.jpg")
    write_image(tree / TRAIN / "0000_c2s1_000001_00.jpg")  # a distractor stands for no one
    for options in ((), ("--fast",)):
        status, lines = check(*options)
        assert status == 1
        assert errors_of(lines) == [
            f"identity 3 is in train ({shared}) and in gallery ({tree / GALLERY / NAMES[GALLERY][3]}); take it "
            "out of one of them"
        ]


def test_queries_without_a_match(tree, check):
    lost = [write_image(tree / QUERY / f"00{pid}_c1s1_000001_00.jpg") for pid in range(10, 17)]
    write_image(tree / GALLERY / "0010_c1s1_000002_00.jpg")  # by the query's own camera
    status, lines = check("--fast")
    assert status == 1
    assert errors_of(lines) == [
        "7 of 9 queries have no match in the gallery, the same identity by another camera: "
        f"{', '.join(map(str, lost[:5]))}, ..."
    ]


def test_empty_splits_of_a_published_set(tree, check):
    for split, folder in (("train", TRAIN), ("query", QUERY), ("gallery", GALLERY)):
        shutil.move(tree / folder, tree.parent / "away")
        (tree / folder).mkdir()
        status, lines = check()
        assert status == 1
        assert errors_of(lines)[0] == f"{split}: no images; unpack again, or check the keys below DATASETS"
        (tree / folder).rmdir()
        shutil.move(tree.parent / "away", tree / folder)


def test_own_data_for_tests_only(tmp_path, check):
    for name in ("gallery/bert/2.jpg", "gallery/carl/3.jpg", "query/bert/1.jpg"):
        write_image(tmp_path / name)
    own = ("DATASETS.NAMES", "folder", "MODEL.SIE_CAMERA", "False", "DATASETS.FOLDER.TRAIN", "")
    status, lines = check(*own)
    assert status == 0
    assert warnings_of(lines) == ["train: no images, a data set for tests only"]
    assert table_of(lines)["gallery"] == ["2", "2", "unknown", "none", "20x10"]
    lost = write_image(tmp_path / "query" / "dora" / "1.jpg")
    status, lines = check(*own)
    assert status == 1
    expected = f"1 of 2 queries have no match in the gallery, the same identity in another file: {lost}"
    assert errors_of(lines) == [expected]


def test_a_file_listed_in_train_and_in_test(tmp_path, check):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        write_image(tmp_path / name)
    (tmp_path / "data.csv").write_text("path,pid,split\na.jpg,1,train\na.jpg,1,query\nb.jpg,2,query\nc.jpg,2,gallery\n")
    for options in ((), ("--fast",)):
        status, lines = check(*options, "DATASETS.NAMES", "csv", "MODEL.SIE_CAMERA", "False")
        assert status == 1
        assert errors_of(lines)[0] == f"{tmp_path / 'a.jpg'} is in train and in query; take it out of one of them"


def levels(splits):
    return {finding.kind: finding.level for finding in validate(splits, FileErrors()).findings}


def test_classic_cuhk03_tests_with_the_same_images_twice(tmp_path):
    first, second, train = (
        write_image(tmp_path / name) for name in ("1_001_1_01.png", "1_001_2_06.png", "1_002_1_01.png")
    )
    test = (ImageRecord(str(first), 1, 0), ImageRecord(str(second), 1, 1))
    splits = DatasetSplits((ImageRecord(str(train), 2, 0),), test, test, name="cuhk03")
    assert set(levels(splits).values()) == {Level.FINE}
    shutil.copy(first, second)
    report = validate(splits, FileErrors())
    assert [finding.text for finding in report.findings if finding.level is Level.WARNING] == [
        f"the same content: query {first} and gallery {second}; remove one"
    ]


def test_pids_that_differ_between_training_and_test(tmp_path):
    paths = [str(write_image(tmp_path / f"{name}.jpg")) for name in "abc"]
    records = [ImageRecord(path, 0, camera) for camera, path in enumerate(paths)]
    splits = DatasetSplits(*((record,) for record in records), name="msmt17", common_pids=False)
    assert "identities" not in levels(splits)
    assert levels(replace(splits, common_pids=True))["identities"] is Level.ERROR
    assert levels(replace(splits, common_pids=True, has_distractors=True))["identities"] is Level.FINE
    published = {"train": Counts(None, 1), "query": Counts(1, 1), "gallery": Counts(1, None)}
    assert levels(replace(splits, published=published, published_cameras=3))["counts"] is Level.FINE


def test_a_inspection_gives_what_is_on_the_disk(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    upright, lying = write_image(tmp_path / "a.png", (30, 12)), write_image(tmp_path / "b.jpg", (12, 30), exif=turned)
    infos = inspect_images([str(upright), str(lying), str(upright), str(tmp_path / "gone.jpg")])
    assert list(infos) == [str(upright), str(lying), str(tmp_path / "gone.jpg")]
    for path in (upright, lying):
        assert infos[str(path)][:3] == ((30, 12), hashlib.sha256(path.read_bytes()).hexdigest(), "")
    assert f" {tmp_path / 'gone.jpg'}: cannot be read (" in infos[str(tmp_path / "gone.jpg")].error
