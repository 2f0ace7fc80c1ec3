import pytest

from corruption.__main__ import main as corruption_main
from datasets import make_dataloader
from datasets.__main__ import main
from datasets.readers.validation import differences
from tests.datasets.readers.trees import configure, labels, read, write_images
from utils.errors import UserError
from utils.images import read_image
from utils.structures import Condition

TRAIN = ["0001_c001_00016450_0.jpg", "0001_c002_00016460_0.jpg", "0003_c020_00084280_0.jpg"]
QUERY = ["0002_c002_00030600_0.jpg"]
GALLERY = ["0002_c002_00030605_1.jpg", "0002_c003_00084280_0.jpg", "0776_c009_00000001_0.jpg"]
IMAGES = [
    f"{folder}/{file}"
    for folder, files in {"image_train": TRAIN, "image_query": QUERY, "image_test": GALLERY}.items()
    for file in files
]
POINTS = " ".join(["-1"] * 40)


@pytest.mark.parametrize("directory", ["VeRi", "veri", "VeRi-776", "vehicles/VeRi_776", "."])
@pytest.mark.parametrize("name", ["veri", "VeRi"])
def test_reads(tmp_path, name, directory):
    write_images(tmp_path / directory, IMAGES)
    splits = read(tmp_path, name)
    assert (splits.name, splits.root) == ("veri", str(tmp_path / directory))
    assert labels(splits.train) == [(1, 0), (1, 1), (3, 19)]
    assert labels(splits.query) == [(2, 1)]
    assert labels(splits.gallery) == [(2, 1), (2, 2), (776, 8)]
    assert not splits.has_distractors
    assert {record.viewid for record in splits.train} == {0}
    assert list(differences(splits).values()) == [
        "train: 3 images of 2 identities, published 37778 images of 576 identities",
        "query: 1 images of 1 identities, published 1678 images of 200 identities",
        "gallery: 3 images of 2 identities, published 11579 images of 200 identities",
        "cameras: 5, published 20",
    ]


def write_viewpoints(directory, *, without=()):
    for file, folder, names in (("train", "image_train", TRAIN), ("test", "image_test", [*QUERY, *GALLERY])):
        lines = [f"VeRi/{folder}/{name} {POINTS} {i}" for i, name in enumerate(names) if name not in without]
        (directory / f"keypoint_{file}.txt").write_text("\n".join(lines) + "\n")


def test_viewpoints(tmp_path, caplog):
    write_images(tmp_path / "VeRi", IMAGES)
    with pytest.raises(UserError, match="MODEL.SIE_VIEW True: .* no keypoint_train.txt and no keypoint_test.txt"):
        read(tmp_path, "veri", "MODEL.SIE_VIEW", "True")
    write_viewpoints(tmp_path / "VeRi")
    splits = read(tmp_path, "veri", "MODEL.SIE_VIEW", "True")
    assert [r.viewid for r in (*splits.train, *splits.query, *splits.gallery)] == [0, 1, 2, 0, 1, 2, 3]
    assert splits.published
    assert "left out" not in caplog.text
    assert {r.viewid for r in read(tmp_path, "veri").train} == {0}


def test_images_without_a_viewpoint_are_left_out_where_viewpoints_are_used(tmp_path, caplog):
    write_images(tmp_path / "VeRi", IMAGES)
    write_viewpoints(tmp_path / "VeRi", without=(TRAIN[0], GALLERY[2]))
    splits = read(tmp_path, "veri", "MODEL.SIE_VIEW", "True")
    assert [len(side) for side in (splits.train, splits.query, splits.gallery)] == [2, 1, 2]
    assert "left out 2 images without a viewpoint" in caplog.text
    assert (splits.title, differences(splits)) == ("veri (images with a viewpoint)", {})
    splits = read(tmp_path, "veri")
    assert [len(side) for side in (splits.train, splits.query, splits.gallery)] == [3, 1, 3]


@pytest.mark.parametrize("viewpoint", ["8", "-1", "front"])
def test_viewpoints_that_do_not_parse(tmp_path, viewpoint):
    write_images(tmp_path / "VeRi", IMAGES)
    write_viewpoints(tmp_path / "VeRi")
    (tmp_path / "VeRi/keypoint_train.txt").write_text(f"VeRi/image_train/{TRAIN[0]} {POINTS} {viewpoint}\n")
    with pytest.raises(UserError, match=r"keypoint_train\.txt, line 1: .* does not parse; expected a line like VeRi"):
        read(tmp_path, "veri", "MODEL.SIE_VIEW", "True")


@pytest.mark.parametrize("file", ["0777_c001_00000001_0.jpg", "0001_c021_00000001_0.jpg", "0001_c1s1_000451_03.jpg"])
def test_names_that_do_not_parse(tmp_path, file):
    write_images(tmp_path / "VeRi", [*IMAGES, f"image_query/{file}"])
    with pytest.raises(UserError, match=f"image_query/{file}: .*expected"):
        read(tmp_path, "veri")


def test_incomplete_and_check(tmp_path, capsys):
    with pytest.raises(UserError, match=r"VeRi-776 not found(.|\n)*Request it at https://vehiclereid"):
        read(tmp_path, "veri")
    write_images(tmp_path / "VeRi", [name for name in IMAGES if not name.startswith("image_query")])
    with pytest.raises(UserError, match="image_query missing; expected image_train, image_query, image_test"):
        read(tmp_path, "veri")
    write_images(tmp_path / "VeRi", IMAGES)
    options = ["DATASETS.ROOT_DIR", str(tmp_path), "DATASETS.NAMES", "veri", "DATASETS.CHECK_COUNTS", "False"]
    main(["check", *options])
    assert "37778 images of 576 identities, DIFFERS" in capsys.readouterr().out


def test_a_corrupted_copy(tmp_path, capsys):
    write_images(tmp_path / "VeRi", IMAGES)
    out = tmp_path / "VeRi-C"
    assert corruption_main(["export", "--data", str(tmp_path / "VeRi"), "--out", str(out), "--workers", "1"]) == 0
    assert "DATASETS.NAMES veri-C TEST.PROTOCOLS" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["image_query", "image_test", "image_train"]
    splits, copy = read(tmp_path, "veri"), read(tmp_path, "veri-C")
    assert splits.root == str(tmp_path / "VeRi")
    assert [labels(side) for side in (copy.train, copy.query, copy.gallery)] == [
        labels(side) for side in (splits.train, splits.query, splits.gallery)
    ]
    data = make_dataloader(configure(tmp_path, "veri", "SEED", "0"), with_train=False)
    for split in ("query", "gallery"):  # the images of the first repeat on the fly with the same seed
        for index, record in enumerate(getattr(copy, split)):
            image = data.read_test_image(split, index, Condition("random"), 0)
            assert (image == read_image(record.path)).all()
    out.rename(tmp_path / "cars-C")
    assert read(tmp_path, "veri-C").root == str(tmp_path / "cars-C")
    with pytest.raises(UserError, match="cars-C holds no keypoint_train.txt and no keypoint_test.txt"):
        read(tmp_path, "veri-C", "MODEL.SIE_VIEW", "True")
    write_viewpoints(tmp_path / "cars-C")
    copy = read(tmp_path, "veri-C", "MODEL.SIE_VIEW", "True")
    assert [r.viewid for r in (*copy.train, *copy.query, *copy.gallery)] == [0, 1, 2, 0, 1, 2, 3]
