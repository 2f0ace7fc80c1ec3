"""Which rows of a checkpoint's side table are those of a test set."""

import pytest
import torch

from config import load_cfg
from model import load_tested_model
from tests.model.test_cfat import SMALL, make, make_batch
from utils.checkpoints import save_checkpoint
from utils.errors import UserError
from utils.side_numbers import find_sides
from utils.structures import SetNumbers, Sides

# The model of `make` has a table of three rows.
SETS = [{"name": "cuhk03", "num_cameras": 2, "num_views": 1}, {"name": "folder:gate", "num_cameras": 1, "num_views": 1}]
CUHK03, GATE = SetNumbers("cuhk03", 2, 1), SetNumbers("folder:gate", 1, 1)
OTHER = SetNumbers("msmt17", 15, 1, is_training=False)


def save(tmp_path, **meta):
    config = load_cfg(opts=SMALL).dump()
    save_checkpoint(tmp_path / "a.pth", make("clean").export_state(), {"stage": "clean", "config": config, **meta})
    return str(tmp_path / "a.pth")


def load(path, *sets, opts=()):
    return load_tested_model(load_cfg(opts=[*SMALL, *opts]), path, sets)


def test_sets_of_a_joint_checkpoint_have_their_own_rows(tmp_path, caplog):
    tested = load(save(tmp_path, datasets=SETS), GATE, CUHK03, SetNumbers("cuhk03-C", 2, 1))
    assert tested.sides == (Sides(2, 1), Sides(0, 0), Sides(0, 0))
    assert tested.model.base.num_cameras == 3
    assert "mean of the file's" not in caplog.text


def test_a_test_set_that_the_checkpoint_does_not_know_gets_the_mean(tmp_path, caplog):
    path = save(tmp_path, datasets=SETS)
    tested = load(path, OTHER, GATE)
    assert tested.sides == (None, Sides(2, 1))
    (warning,) = [record.message for record in caplog.records if "mean" in record.message]
    assert warning == (
        f"checkpoint {path}: not trained on msmt17, whose images all get the mean of the file's 3 side vectors"
    )
    model, mean = tested.model, load(path, OTHER, opts=["MODEL.SIE_CAMERA", "False"]).model
    batch = make_batch()
    with torch.no_grad():
        features = model.extract(batch["images"])
        assert torch.equal(features, mean.extract(batch["images"], batch["camids"], batch["viewids"]))
        assert not torch.equal(features, model.extract(batch["images"], batch["camids"], batch["viewids"]))


def test_a_claimed_training_set_that_the_checkpoint_does_not_know(tmp_path):
    path = save(tmp_path, datasets=SETS)
    with pytest.raises(
        UserError, match="trained on cuhk03, folder:gate, not on msmt17, whose cameras it does not know"
    ):
        load(path, OTHER._replace(is_training=True))
    with pytest.raises(UserError, match="trained on cuhk03 with 2 cameras and 1 viewpoints, found 3 and 1 in cuhk03"):
        load(path, CUHK03._replace(num_cameras=3))


# What a file says of its only training set: today, in earlier versions, and in other projects.
ONE = [{"datasets": [{**SETS[0], "num_cameras": 3}]}, {"dataset": "cuhk03", "num_cameras": 3, "num_views": 1}, {}]


@pytest.mark.parametrize("meta", ONE)
def test_a_checkpoint_of_one_set_knows_it_by_its_cameras(tmp_path, meta):
    path = save(tmp_path, **meta)
    assert load(path, CUHK03._replace(num_cameras=3)).sides == (Sides(),)
    assert load(path, SetNumbers("csv", 3, 1), OTHER).sides == (Sides(), None)
    with pytest.raises(UserError, match="side information for 3 camera/viewpoint combinations, but the data set has 2"):
        load(path, CUHK03)
    tested = load(path, OTHER, OTHER._replace(name="market1501"))
    assert tested.sides == (None, None)
    assert len(tested.model.base.sie_embed) == 3


@pytest.mark.parametrize(
    "datasets",
    ["cuhk03", [], [{}], [{**SETS[0], "num_cameras": 0}], [{**SETS[0], "num_views": "1"}], [{**SETS[0], "name": 3}]],
)
def test_an_entry_that_no_version_writes(tmp_path, datasets):
    path = save(tmp_path, datasets=datasets)
    with pytest.raises(UserError, match=r"its entry datasets is .*, expected the name and the numbers of cameras"):
        load(path, GATE)


@pytest.mark.parametrize("meta", ONE)
def test_another_set_with_as_many_cameras_as_the_one_of_the_checkpoint(tmp_path, caplog, meta):
    path, three = save(tmp_path, **meta), CUHK03._replace(num_cameras=3)
    for name in ("cuhk03", "cuhk03:elsewhere", "cuhk03-C", "CUHK03:b"):
        assert load(path, three._replace(name=name)).sides == (Sides(),)
        assert load(path, three._replace(name=name, is_training=False)).sides == ((Sides(),) if meta else (None,))
    assert "not on" not in caplog.text
    assert load(path, three._replace(name="dukemtmc")).sides == (Sides(),)
    warnings = [record.message for record in caplog.records if "not on dukemtmc" in record.message]
    assert len(warnings) == bool(meta)
    assert all("trained on cuhk03, not on dukemtmc, whose images get the side vectors of cuhk03" in w for w in warnings)


def test_names_of_sets_and_of_their_copies():
    sets = [SetNumbers("market1501", 6, 1), SetNumbers("folder:a-b", 4, 3), SetNumbers("cuhk03:x", 2, 1)]
    assert find_sides("folder:a-b", sets).sides == Sides(6, 1)
    assert find_sides("cuhk03-C", [*sets, SetNumbers("cuhk03:y", 2, 1)]) is None  # of which of the two?
    assert find_sides("cuhk03:y", [*sets, SetNumbers("cuhk03:y", 2, 1)]).sides == Sides(12, 5)
    for name in ("cuhk03", "CUHK03:y", "cuhk03-C:y"):
        assert find_sides(name, sets).sides == Sides(10, 4)
    for name in ("folder:a", "folder", "folder:c", "csv:x", "csv", "msmt17", "dukemtmc-C"):
        assert find_sides(name, [*sets, SetNumbers("csv:y", 1, 1)]) is None


MARKET = ["market1501", "market1501_500k", "market1501:a-b", "market1501-C", "market1501_500k-C:c", "Market1501:d"]


@pytest.mark.parametrize("trained", MARKET)
@pytest.mark.parametrize("tested", MARKET)
def test_names_with_the_same_cameras(trained, tested):
    assert find_sides(tested, [SetNumbers("msmt17", 15, 1), SetNumbers(trained, 6, 1)]).sides == Sides(15, 1)
