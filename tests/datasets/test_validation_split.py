"""Identities held back for validation: which ones, their queries, what is left to train on, and checkpoints of it."""

import dataclasses
import hashlib
import logging

import numpy as np
import pytest

from config import load_cfg
from corruption import apply_condition, make_test_policy
from corruption import test_generator as corruption_generator
from datasets import check_validation, make_dataloader, match_validation, read_dataset, read_training_set
from datasets.readers.custom import make_splits as make_custom_splits
from datasets.readers.file_errors import FileErrors
from datasets.readers.numbering import CustomImage
from datasets.readers.validation import count_sides, labels_of, queries_without_match, seed_label
from datasets.several_sets import join, set_of_images
from datasets.synthetic.generate import SyntheticSettings, synthesize
from datasets.validation_split import hold_back
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.held_back import identities_digest, make_held_back, read_earlier, read_held_back
from utils.images import read_image
from utils.seeds import derive_seed
from utils.structures import Condition, DatasetSplits, ImageRecord, SetNumbers, Sides


def make_splits(pids=range(10, 30), cameras=(0, 0, 1, 2, 2), **changes):
    """Each identity has an image of each of `cameras`; identity 10 is seen by camera 0 alone."""
    train = tuple(
        ImageRecord(f"/data/train/{pid}_{number}.jpg", pid, 0 if pid == 10 else camera)
        for pid in pids
        for number, camera in enumerate(cameras)
    )
    test = (ImageRecord("/data/query/1.jpg", 1, 3, 1),), (ImageRecord("/data/gallery/1.jpg", 1, 4),)
    return dataclasses.replace(DatasetSplits(train, *test, name="gate", root="/data"), **changes)


def pids_of(records):
    return {record.pid for record in records}


def held_pids(splits):
    (validation,) = splits.validation
    return pids_of((*validation.query, *validation.gallery))


def test_which_identities_are_held_back():
    splits = make_splits()
    found = hold_back(splits, share=0.25, seed=3)
    order = sorted(range(11, 30), key=lambda pid: derive_seed(3, "validation", "identity", pid))
    assert held_pids(found) == set(order[:5])
    assert held_pids(found) == {12, 13, 15, 28, 29}  # in another version, too
    shuffled = dataclasses.replace(splits, train=splits.train[::-1])
    assert {record.path for record in hold_back(shuffled, share=0.25, seed=3).validation[0].query} == {
        record.path for record in found.validation[0].query
    }
    assert held_pids(found) < held_pids(hold_back(splits, share=0.5, seed=3))
    assert held_pids(found) != held_pids(hold_back(splits, share=0.25, seed=4))
    more = make_splits(pids=range(10, 31))
    assert len(held_pids(hold_back(more, share=0.25, seed=3)) ^ held_pids(found)) in (0, 2)


def test_training_and_validation_share_nothing_and_lose_nothing(caplog):
    caplog.set_level(logging.INFO)
    splits = make_splits()
    found = hold_back(splits, share=0.25, seed=3)
    (validation,) = found.validation
    assert not pids_of(found.train) & held_pids(found)
    assert sorted((*found.train, *validation.query, *validation.gallery), key=str) == sorted(splits.train, key=str)
    assert sorted(set(labels_of(found))) == list(range(15))
    assert (found.query, found.gallery) == (splits.query, splits.gallery)
    assert count_sides(found) == count_sides(validation) == count_sides(splits) == (5, 2)
    assert found.parts == (SetNumbers("gate", 5, 2, len(found.train)),)
    assert set_of_images(found) == [0] * len(found.train)
    assert 10 in pids_of(found.train)
    assert (
        "5 of 20 identities are held back for validation: 10 queries, 15 images in the gallery; 1 ident" in caplog.text
    )
    assert (validation.title, validation.tested_name, found.title) == ("gate validation", "gate validation", "gate")


@pytest.mark.parametrize(
    ("cameras", "queries"), [((0, 0, 1, 2, 2), (0, 2)), ((0, 1), None), ((0, 1, 2), None), ((0, 0, 1), (0,))]
)
def test_every_query_has_a_match(cameras, queries):
    (validation,) = hold_back(make_splits(cameras=cameras), share=0.5, seed=0).validation
    assert queries_without_match(validation) == []
    assert pids_of(validation.query) == pids_of(validation.gallery)
    for pid in pids_of(validation.query):
        found = tuple(record.camid for record in validation.query if record.pid == pid)
        assert found == queries if queries else len(found) == 1


def test_without_cameras_and_with_sampled_galleries():
    splits = make_splits(cameras=(0, 0, 0), has_cameras=False)
    (validation,) = hold_back(splits, share=0.25, seed=0).validation
    assert (len(validation.query), len(validation.gallery)) == (5, 10)
    assert queries_without_match(validation) == []
    (validation,) = hold_back(dataclasses.replace(splits, samples_gallery=True), share=0.25, seed=0).validation
    assert validation.query == validation.gallery
    assert (len(validation.query), validation.samples_gallery) == (15, True)


@pytest.mark.parametrize(
    ("share", "changes", "message"),
    [
        (0.05, {}, "0.05: holds back 1 of the 20 identities of gate, 19 of which .* a share of 0.1000 to 0.9000"),
        (0.96, {}, "0.96: holds back 19 of the 20 identities of gate, 19 of which .*; expected 2 to 18 of them"),
        (
            0.5,
            {"cameras": (0, 0)},
            "0.5: holds back 10 of the 20 identities of gate, 0 of which have images by two cameras; .* leave it 0 for",
        ),
        (
            0.5,
            {"cameras": (0,), "has_cameras": False},
            "0.5: holds back 10 of the 20 identities of gate, 0 of which have images in two files; expected at least 2",
        ),
        (
            0.5,
            {"pids": (11, 12, 13)},
            "0.5: holds back 2 of the 3 identities of gate, 3 of which .*; expected at least 2, and 2 left to train on",
        ),
    ],
)
def test_too_few_identities(share, changes, message):
    splits = make_splits(**changes)
    with pytest.raises(UserError, match=f"DATASETS.VALIDATION_SHARE {message}"):
        hold_back(splits, share=share, seed=0)


def test_several_training_sets_each_give_their_share():
    gate, hall = make_splits(), make_splits(pids=range(40, 50), cameras=(0, 1), name="hall")
    sets = [hold_back(splits, share=0.4, seed=0) for splits in (gate, hall)]
    joint = join(sets)
    assert len(set(labels_of(joint))) == 12 + 6
    assert joint.parts == (SetNumbers("gate", 5, 2, 12 * 5), SetNumbers("hall", 5, 2, 6 * 2))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    settings = SyntheticSettings(num_identities=16, num_cameras=3, images_per_camera=2)
    synthesize(root / "market1501", settings, workers=1)
    return root


def configure(root, *opts):
    return load_cfg(
        opts=[
            *("DATASETS.ROOT_DIR", str(root), "DATASETS.CHECK_COUNTS", "False", "DATASETS.CHECK_IMAGES", "False"),
            *("INPUT.SIZE_TRAIN", "[32, 32]", "INPUT.SIZE_TEST", "[32, 32]", "DATALOADER.NUM_WORKERS", "0"),
            *("DATALOADER.NUM_INSTANCE", "2", "SOLVER.IMS_PER_BATCH", "4", *opts),
        ]
    )


HALF = ("DATASETS.VALIDATION_SHARE", "0.5")


def test_loaders_of_a_configuration(root):
    data = make_dataloader(configure(root, *HALF))
    (validation,) = data.validation
    assert (data.num_classes, data.num_cameras, validation.num_cameras, validation.sides) == (4, 3, 3, Sides())
    assert data.on("test") is data
    assert data.on("validation").test_sets == (validation,)
    labels = {label for batch in data.train for label in batch["pids"].tolist()}
    assert labels <= set(range(4))
    batch = next(iter(validation.test_loader("query", Condition(), 0)))
    assert batch["pids"].tolist() == [record.pid for record in validation.splits.query]
    alone = make_dataloader(configure(root, *HALF, "TEST.SPLIT", "validation"), with_train=False)
    assert alone.validation[0].splits == validation.splits
    assert alone.splits.query == alone.splits.gallery == ()
    assert make_dataloader(configure(root, *HALF), with_train=False).validation == ()


def test_nothing_is_held_back_by_default(root):
    whole, other = read_dataset(configure(root)), read_dataset(configure(root, "DATASETS.VALIDATION_SEED", "7"))
    assert whole == other
    assert (whole.parts, whole.validation, len(pids_of(whole.train))) == ((), (), 8)
    facts = read_training_set(whole).facts
    assert (facts["identities"], facts["cameras"]) == (8, 3)
    half = read_training_set(read_dataset(configure(root, *HALF))).facts
    assert (half["identities"], half["cameras"]) == (4, 3)
    assert half["sha256"] != facts["sha256"]
    seeded = read_training_set(read_dataset(configure(root, *HALF, "DATASETS.VALIDATION_SEED", "1"))).facts
    assert seeded["sha256"] != half["sha256"]
    assert read_training_set(read_dataset(configure(root, *HALF, "SEED", "5"))).facts == half


def test_corruptions_have_labels_of_their_own(root):
    cfg = configure(root, *HALF)
    (validation,) = make_dataloader(cfg).validation
    record = validation.splits.gallery[1]
    label = seed_label(record.path, validation.splits.root)
    for condition in (Condition("random"), Condition("fog", 3)):
        found = validation.read_test_image("gallery", 1, condition, 2)
        expected, other = (
            apply_condition(
                read_image(record.path),
                condition,
                make_test_policy(cfg),
                corruption_generator(cfg.SEED, split, label, 2),
            )
            for split in ("validation gallery", "gallery")
        )
        assert np.array_equal(found, expected)
        assert not np.array_equal(found, other)


def test_a_split_that_nothing_holds_back(root):
    for with_train in (True, False):
        with pytest.raises(UserError, match="TEST.SPLIT validation: DATASETS.VALIDATION_SHARE 0 holds no identities"):
            read_dataset(configure(root, "TEST.SPLIT", "validation"), with_train=with_train)


@pytest.fixture
def checkpoint(tmp_path):
    """A function (validation sets or None, changes of meta) -> checkpoint that was trained on gate and hall."""

    def save(held_back, **changes):
        own = {} if held_back is None else make_held_back(0.25, 3, held_back).describe()
        meta = {"stage": "clean", "datasets": [{"name": "gate"}, {"name": "hall"}], **own, **changes}
        save_checkpoint(tmp_path / "clean.pth", {"model": {}}, meta, replace=True)
        return str(tmp_path / "clean.pth")

    return save


def test_a_checkpoint_tells_its_share(checkpoint, tmp_path):
    validation = hold_back(make_splits(), share=0.25, seed=3).validation
    path = checkpoint(validation)
    cfg = load_cfg(opts=["TEST.SPLIT", "validation"])
    matched = match_validation(cfg, path).DATASETS
    assert (matched.VALIDATION_SHARE, matched.VALIDATION_SEED) == (0.25, 3)
    given = load_cfg(opts=["TEST.SPLIT", "validation", "DATASETS.VALIDATION_SHARE", "0.3"])
    assert match_validation(given, path) is given
    assert match_validation(load_cfg(), "nothing.pth") == load_cfg()
    for other in (checkpoint(None), checkpoint(None, stage=None, datasets=[])):
        with pytest.raises(UserError, match="TEST.SPLIT validation: checkpoint .* held no identities back in training"):
            match_validation(cfg, other)
    save_checkpoint(tmp_path / "other.pth", {"model": {}}, {"author": "someone"})
    assert read_held_back(tmp_path / "other.pth") is None
    for entry in (3, {"share": 2.0, "seed": 0, "sha256": {}}, {"share": 0.5, "seed": 0, "sha256": {"gate": 3}}):
        with pytest.raises(UserError, match="its entry validation is .* damaged or was changed"):
            read_held_back(checkpoint(None, validation=entry))


def test_no_model_is_evaluated_on_identities_that_it_knows(checkpoint):
    validation = hold_back(make_splits(), share=0.25, seed=3).validation
    other = hold_back(make_splits(), share=0.3, seed=3).validation
    check_validation(validation, {"TEST.WEIGHT": checkpoint(validation), "CFAT.CLEAN.WEIGHT": "no/such/file.pth"})
    check_validation((), {"TEST.WEIGHT": checkpoint(None)})
    with pytest.raises(UserError, match=r"TEST.WEIGHT .*held back other identities \(VALIDATION_SHARE 0.25, VALID"):
        check_validation(other, {"TEST.WEIGHT": checkpoint(validation)})
    with pytest.raises(UserError, match=r"CFAT.CLEAN.WEIGHT .*held back no identities of gate when it was trained"):
        check_validation(validation, {"CFAT.CLEAN.WEIGHT": checkpoint(None)})
    elsewhere = [dataclasses.replace(one, name="market1501") for one in validation]
    check_validation(elsewhere, {"TEST.WEIGHT": checkpoint(validation)})
    copy = [dataclasses.replace(one, name="gate-C") for one in other]
    with pytest.raises(UserError, match="held back other identities"):
        check_validation(copy, {"TEST.WEIGHT": checkpoint(validation)})


def test_no_model_is_evaluated_on_identities_that_a_model_before_it_knows(tmp_path):
    """a is trained on gate, b from a on hall, c from b on gate; each file tells of all before it."""
    sets = {
        name: dataclasses.replace(hold_back(make_splits(), share=0.25, seed=3).validation[0], name=name)
        for name in ("gate", "hall")
    }

    def train(name, dataset, *, share=0.25, initial=()):
        validation = [sets[dataset]] if share else []
        held = make_held_back(share, 3, validation, trained_on=[dataset], earlier=read_earlier(initial))
        meta = {"stage": "clean", "datasets": [{"name": dataset}], **held.describe()}
        save_checkpoint(tmp_path / name, {"model": {}}, meta)
        return str(tmp_path / name)

    a, b = train("a.pth", "gate", share=0.0), str(tmp_path / "b.pth")
    train("b.pth", "hall", initial=(a, "timm:vit", str(tmp_path / "no.pth")))
    (before,) = read_held_back(b).earlier
    assert before == read_held_back(a) == (0.0, 0, {}, ("gate",), ())
    message = "WEIGHT .*b.pth: a model that its initial weights come from held back no identities of gate when it was"
    with pytest.raises(UserError, match=message):
        check_validation([sets["gate"]], {"CFAT.CLEAN.WEIGHT": b})
    check_validation([sets["hall"]], {"CFAT.CLEAN.WEIGHT": b})
    c = train("c.pth", "gate", initial=(b,))
    assert read_held_back(c).earlier == (read_held_back(b)._replace(earlier=()), before)
    with pytest.raises(UserError, match=r"c.pth: a model .* held back no identities of gate"):
        check_validation([sets["gate"]], {"TEST.WEIGHT": c})

    a = train("same_a.pth", "gate")
    c = train("same_c.pth", "gate", initial=(train("same_b.pth", "hall", initial=(a,)), a))
    assert [one.trained_on for one in read_held_back(c).earlier] == [("hall",)]  # a and c held back the same
    check_validation([sets["gate"], sets["hall"]], {"TEST.WEIGHT": c})
    alone = train("alone.pth", "gate", initial=(a,))
    assert (
        load_checkpoint(alone)["meta"].keys()
        == load_checkpoint(a)["meta"].keys()
        == {"stage", "datasets", "validation"}
    )


@pytest.mark.parametrize("rows", [3, [3], [{"datasets": "gate"}], [{"datasets": ["gate"], "share": 0.0, "seed": 0}]])
def test_a_damaged_record_of_earlier_trainings(checkpoint, rows):
    with pytest.raises(UserError, match="its entry earlier_trainings is .* damaged or was changed"):
        read_held_back(checkpoint(None, earlier_trainings=rows))


NAMES = ("bob", "carl", "dora", "emil", "fay", "gus", "hal", "ida", "jon", "kim")


def hold_back_named(names, share=0.3):
    """A custom data set, without images to test on, each identity seen by two cameras; three are held back."""
    images = [
        CustomImage(f"/data/train/{name}/{camera}.jpg", "train", name, camera, "", name)
        for name in names
        for camera in "12"
    ]
    splits = make_custom_splits(
        images, FileErrors(), name="gate", version="", root="/data", seed=0, train_share=0.5, numeric=()
    )
    return hold_back(splits, share=share, seed=3)


def held_names(splits):
    (validation,) = splits.validation
    return {record.path.split("/")[3] for record in (*validation.query, *validation.gallery)}


def by_place(names):
    return sorted(names, key=lambda name: derive_seed(3, "validation", "identity", name))


@pytest.mark.parametrize("names", [NAMES, ("abe", *NAMES), ("abe", *NAMES[:-1]), (*NAMES, "zoe"), (*NAMES, "1", "01")])
def test_named_identities_are_held_back_by_name(names, checkpoint):
    before, after = hold_back_named(NAMES), hold_back_named(names)
    assert held_names(before) == set(by_place(NAMES)[:3])
    assert held_names(after) == set(by_place(names)[: round(0.3 * len(names))])
    path = checkpoint(before.validation)
    if held_names(after) == held_names(before):
        check_validation(after.validation, {"TEST.WEIGHT": path})
    else:
        with pytest.raises(UserError, match="held back other identities"):
            check_validation(after.validation, {"TEST.WEIGHT": path})


def test_an_added_identity_that_is_held_back_refuses_checkpoints_of_before(checkpoint):
    first = next(name for name in map("abe{}".format, range(10_000)) if by_place((*NAMES, name))[0] == name)
    before, after = hold_back_named(NAMES), hold_back_named((first, *NAMES))
    assert held_names(after) == {first, *by_place(NAMES)[:2]}
    with pytest.raises(UserError, match="held back other identities"):
        check_validation(after.validation, {"TEST.WEIGHT": checkpoint(before.validation)})


def test_digests_of_identities():
    def digest(names):
        return identities_digest(DatasetSplits((), (), tuple(images), pid_names=dict(enumerate(names))))

    images = [ImageRecord(f"{pid}.jpg", pid, 0) for pid in (1, 0)]
    assert digest(()) == hashlib.sha256(b"0 1").hexdigest()  # as in checkpoints of before
    assert digest(("b", "a")) == digest(("a", "b")) == hashlib.sha256(b'["a", "b"]').hexdigest()
    assert digest(("a", "c")) != digest(("a", "b"))
    numbered = hold_back_named([str(pid) for pid in range(10, 20)])
    assert numbered.pid_names == {}
    assert held_names(numbered) == set(by_place([str(pid) for pid in range(10, 20)])[:3])
