"""Several data sets as one: numbers of identities, cameras and viewpoints; test sets; validation across them."""

import logging

import numpy as np
import pytest
from PIL import Image

from config import load_cfg
from datasets import make_dataloader, read_dataset, read_training_set
from datasets.__main__ import main
from datasets.several_sets import join, parts_of, set_of_images
from utils.errors import UserError
from utils.structures import Condition, DatasetSplits, ImageRecord, SetNumbers, Sides


def records(place, *numbers):
    return tuple(
        ImageRecord(f"{place}/{pid}_{camid}_{viewid}.jpg", pid, camid, viewid) for pid, camid, viewid in numbers
    )


GATE = DatasetSplits(
    records("gate", (7, 0, 1), (3, 1, 0), (7, 1, 0)),
    records("gate", (1, 2, 0)),
    records("gate", (1, 0, 0)),
    name="gate",
)
HALL = DatasetSplits(records("hall", (3, 0, 0), (4, 0, 0)), (), records("hall", (9, 1, 2)), name="hall")


def test_identities_cameras_and_viewpoints_are_numbered_set_by_set():
    joint = join([GATE, HALL])
    assert joint.name == "gate+hall"
    assert [(record.pid, record.camid, record.viewid) for record in joint.train] == [
        *[(1, 0, 1), (0, 1, 0), (1, 1, 0)],
        *[(2, 3, 2), (3, 3, 2)],
    ]
    assert [record.path for record in joint.train] == [record.path for record in (*GATE.train, *HALL.train)]
    assert joint.parts == (SetNumbers("gate", 3, 2, 3), SetNumbers("hall", 2, 3, 2))
    assert set_of_images(joint) == [0, 0, 0, 1, 1]
    assert parts_of(GATE) == (SetNumbers("gate", 3, 2, 3),)


def write(root, name, *, seed, cameras=2, splits=("train", "query", "gallery")):
    """A folder set of two identities for training and two for tests, with other pixels for each seed."""
    for split in splits:
        for pid in (0, 1) if split == "train" else (2, 3):
            for camera in [0] if split == "query" else range(cameras):
                for number in range(2):
                    path = root / name / split / f"{pid}_{camera}_{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    rng = np.random.default_rng([seed, len(split), pid, camera, number])
                    Image.fromarray(rng.integers(0, 256, (24, 12, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    write(root, "gate", seed=1)
    write(root, "hall", seed=2, cameras=3)
    write(root, "yard", seed=3, splits=("query", "gallery"))
    return root


def configure(root, names, *opts):
    return load_cfg(
        opts=[
            *("DATASETS.ROOT_DIR", str(root), "DATASETS.NAMES", str(names), "DATASETS.FOLDER.QUERY", "query"),
            *("DATASETS.FOLDER.PATTERN", r"(?P<pid>\d+)_(?P<camid>\d+)_.+", "DATALOADER.NUM_WORKERS", "0"),
            *("INPUT.SIZE_TRAIN", "[32, 32]", "INPUT.SIZE_TEST", "[32, 32]", "SOLVER.IMS_PER_BATCH", "8"),
            *("DATALOADER.NUM_INSTANCE", "2", *opts),
        ]
    )


BOTH = ["folder:gate", "folder:hall"]


def test_training_and_test_sets_of_a_configuration(root, caplog):
    caplog.set_level(logging.INFO)
    data = make_dataloader(configure(root, BOTH, "DATASETS.TEST", "['folder:yard', 'folder:hall']"))
    assert (data.num_classes, data.num_cameras, data.num_views) == (4, 5, 2)
    batch = next(iter(data.train))
    assert sorted(batch["pids"].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    for pid, camid in zip(batch["pids"].tolist(), batch["camids"].tolist(), strict=True):
        assert camid in ((0, 1) if pid < 2 else (2, 3, 4))
    yard, hall = data.test_sets
    assert (yard.splits.name, yard.sides, yard.numbers.is_training) == ("folder:yard", None, False)
    assert (hall.splits.name, hall.sides, hall.numbers.is_training) == ("folder:hall", Sides(2, 1), True)
    assert {record.camid for record in hall.splits.gallery} == {0, 1, 2}  # its own numbers
    for line in (
        "folder:gate (gate) in ",
        "training set folder:gate+folder:hall: 20 images of 4 identities",
        "folder:yard (yard): no training set; with MODEL.SIE_CAMERA or SIE_VIEW, every image there gets the mean",
        "DATASETS.FOLDER.TRAIN train: not in ",
    ):
        assert line in caplog.text


def test_one_name_is_a_data_set_as_ever(root):
    splits = read_dataset(configure(root / "gate", "folder"))
    assert (splits.name, splits.version, splits.tests, splits.parts) == ("folder", "gate", (), ())
    assert splits.is_training
    named = read_dataset(configure(root, "folder:gate"))
    assert (named.name, named.version, named.train, named.root) == ("folder:gate", "gate", splits.train, splits.root)
    assert named == read_dataset(configure(root, "folder:gate", "DATASETS.TEST", "folder:gate"))


def test_without_training_the_test_sets_alone_are_read(root):
    missing = ["folder:nowhere", "market1501"]
    (one,) = make_dataloader(configure(root, missing, "DATASETS.TEST", "folder:yard"), with_train=False).test_sets
    assert (one.splits.name, one.num_cameras, one.sides) == ("folder:yard", 2, Sides())
    several = configure(root, missing, "DATASETS.TEST", "['folder:yard', 'folder:gate']")
    assert [one.numbers.name for one in make_dataloader(several, with_train=False).test_sets] == [
        "folder:yard",
        BOTH[0],
    ]


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_an_image_is_corrupted_as_in_a_test_on_its_set_alone(root, cache):
    condition = Condition("random")
    several = make_dataloader(configure(root, BOTH, "DATALOADER.CACHE", cache)).test_sets[1]
    alone = make_dataloader(configure(root / "hall", "folder"), with_train=False)
    for index in range(4):
        images = [data.read_test_image("query", index, condition, 1) for data in (several, alone)]
        assert (images[0] == images[1]).all()


def test_a_training_set_without_images_is_named(root):
    with pytest.raises(UserError, match=r"DATASETS\.FOLDER\.TRAIN train: .*yard.train does not exist"):
        read_dataset(configure(root, ["folder:gate", "folder:yard"]))


def test_the_fingerprint_is_of_all_sets_and_images_in_two_of_them_are_named(root, caplog):
    facts = [
        read_training_set(read_dataset(configure(root, names, *opts))).facts
        for names, opts in [
            (BOTH, []),
            (BOTH[::-1], []),
            (BOTH[:1], []),
            (BOTH, ["DATASETS.TEST", "folder:yard"]),
            (["folder:gate", "folder:./gate"], []),
        ]
    ]
    assert len({fact["sha256"] for fact in facts}) == 4
    assert facts[0] == facts[3]
    assert [facts[0][name] for name in ("images", "identities", "cameras", "views")] == [20, 4, 5, 2]
    (warning,) = [record.getMessage() for record in caplog.records if "several of the training sets" in record.message]
    assert warning.startswith("folder:gate+folder:./gate: 8 images are in several of the training sets, e.g. ")


def test_validation_of_several_sets(root, tmp_path, capsys):
    def check(names, *opts):
        cfg = configure(root, names)
        folder = ["DATASETS.FOLDER.QUERY", "query", "DATASETS.FOLDER.PATTERN", cfg.DATASETS.FOLDER.PATTERN]
        status = main(["check", "DATASETS.ROOT_DIR", str(root), "DATASETS.NAMES", str(names), *folder, *opts])
        return status, capsys.readouterr().out

    status, out = check(BOTH, "DATASETS.TEST", "folder:yard")
    assert status == 0
    reports = [out.index(f"folder:{name} ({name}) in {root / name}") for name in ("gate", "hall", "yard")]
    assert reports == sorted(reports)
    assert "folder:gate (gate), folder:hall (hall), folder:yard (yard)\n\nok duplicates: no training image is in" in out
    leak = root / "gate" / "train" / "0_0_0.png"
    target = tmp_path / "copy"
    write(target, "yard", seed=3, splits=("query", "gallery"))
    (target / "yard" / "gallery" / "2_1_1.png").write_bytes(leak.read_bytes())
    status, out = check(BOTH[:1], "DATASETS.TEST", f"folder:{target}/yard")
    assert status == 1
    text = (
        f"the same content: train of folder:gate, {leak} and gallery of folder:{target}/yard, {target}/yard/gallery/2"
    )
    assert f"ERROR {text}_1_1.png; leave one of the data sets out" in out
    with pytest.raises(UserError, match="--digests FILE is for one data set"):
        main(["check", "--deep", "--digests", str(tmp_path / "digests.json"), "DATASETS.NAMES", str(BOTH)])
