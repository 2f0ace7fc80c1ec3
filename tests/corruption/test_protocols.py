from collections import Counter

import matplotlib.image
import numpy as np
import pytest

from config import load_cfg
from corruption import (
    CORRUPTIONS,
    FAMILIES,
    PROTOCOLS,
    CorruptionPolicy,
    apply_condition,
    corrupt,
    make_corruption_set,
    make_matrix,
    make_protocols,
    make_test_policy,
    make_train_policy,
)
from corruption import test_generator as make_generator
from corruption.__main__ import main
from corruption.protocols import resolve_names
from utils.errors import UserError
from utils.structures import Condition

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)


def test_resolve_names():
    assert resolve_names(["all"]) == CORRUPTIONS
    assert resolve_names(["rain", "noise", "gaussian_noise"]) == (*FAMILIES["noise"][:3], "speckle_noise", "rain")
    with pytest.raises(UserError, match=r"unknown corruption or family 'wether'; nearest: 'weather'"):
        resolve_names(["wether"])


def test_the_four_settings():
    sides = {name: (p.query.is_clean, p.gallery.is_clean) for name, p in PROTOCOLS.items()}
    assert sides == {
        "clean": (True, True),
        "corrupted": (False, False),
        "corrupted_query": (False, True),
        "corrupted_gallery": (True, False),
    }
    assert [p.name for p in make_protocols(load_cfg(opts=["TEST.PROTOCOLS", "['corrupted', 'clean']"]))] == [
        "corrupted",
        "clean",
    ]


def test_frequencies_of_a_policy():
    policy = CorruptionPolicy(names=("fog", "rain"), severities=(2, 4, 5), clean_prob=0.25)
    rng = np.random.default_rng(1)
    drawn = Counter(policy.draw(rng) for _ in range(6000))
    assert drawn.pop(None) / 6000 == pytest.approx(0.25, abs=0.025)
    assert set(drawn) == {(name, severity) for name in ("fog", "rain") for severity in (2, 4, 5)}
    assert all(count / 6000 == pytest.approx(0.125, abs=0.02) for count in drawn.values())


def test_clean_probability_at_its_ends():
    rng = np.random.default_rng(1)
    assert CorruptionPolicy(clean_prob=1.0).apply(IMAGE, rng) is IMAGE
    assert all(CorruptionPolicy(clean_prob=0.0).draw(rng) for _ in range(200))


def test_policies_of_a_configuration():
    opts = ["CORRUPTION.TRAIN", "['noise', 'blur']", "CORRUPTION.TEST", "weather", "CORRUPTION.SEVERITIES", "[1, 5]"]
    cfg = load_cfg(opts=opts)
    train, test = make_train_policy(cfg), make_test_policy(cfg)
    assert set(train.names) == {*FAMILIES["noise"], *FAMILIES["blur"]}
    assert train.clean_prob == pytest.approx(1 / 21)
    assert set(test.names) == set(FAMILIES["weather"])
    assert (test.clean_prob, test.severities) == (0.0, (1, 5))
    assert (train.backend, test.backend) == ("fast", "fast")
    published = load_cfg(opts=["CORRUPTION.BACKEND", "imagecorruptions"])
    assert {make_train_policy(published).backend, make_test_policy(published).backend} == {"imagecorruptions"}
    with pytest.raises(UserError, match=r"CORRUPTION.TEST: unknown corruption or family 'fgo'; nearest: 'fog'"):
        make_test_policy(load_cfg(opts=["CORRUPTION.TEST", "fgo"]))


def test_seen_and_unseen_types():
    def names(train, test):
        return make_test_policy(load_cfg(opts=["CORRUPTION.TRAIN", train, "CORRUPTION.TEST", test])).names

    trained = {*FAMILIES["noise"], "fog"}
    assert set(names("['noise', 'fog']", "['seen']")) == trained
    assert set(names("['noise', 'fog']", "['unseen']")) == set(CORRUPTIONS) - trained
    assert set(names("['noise', 'fog']", "['unseen', 'fog']")) == set(CORRUPTIONS) - set(FAMILIES["noise"])
    assert names("['noise', 'fog']", "['seen', 'unseen']") == CORRUPTIONS
    with pytest.raises(
        UserError, match=r"CORRUPTION.TEST: 'unseen' selects nothing: CORRUPTION.TRAIN stands for all 20"
    ):
        names("all", "unseen")
    with pytest.raises(UserError, match=r"CORRUPTION.TRAIN: 'seen' .*stands in CORRUPTION.TEST only"):
        make_train_policy(load_cfg(opts=["CORRUPTION.TRAIN", "seen"]))
    cfg = load_cfg(opts=["CORRUPTION.TRAIN", "['noise']", "CORRUPTION.TEST", "['noise', 'fog']"])
    found = make_corruption_set(cfg, make_test_policy(cfg))
    assert (found.seen, found.unseen) == (tuple(n for n in CORRUPTIONS if n in FAMILIES["noise"]), ("fog",))
    assert found.families == {"noise": found.seen, "weather": ("fog",)}


def test_the_matrix():
    cells = make_matrix(load_cfg(opts=["TEST.MATRIX", "corrupted"]))
    assert len({cell.name for cell in cells}) == len(cells) == 100
    assert all(cell.query == cell.gallery for cell in cells)
    assert make_matrix(load_cfg()) == ()
    opts = ["TEST.MATRIX", "corrupted_query", "CORRUPTION.TEST", "['rain', 'fog']", "CORRUPTION.SEVERITIES", "[5, 2]"]
    cells = make_matrix(load_cfg(opts=opts))
    assert [cell.name for cell in cells] == [f"corrupted_query/{name}/{k}" for name in ("fog", "rain") for k in (2, 5)]
    assert (cells[1].query, cells[1].gallery) == (Condition("fog", 5), Condition())
    assert (cells[1].setting, cells[1].condition) == ("corrupted_query", Condition("fog", 5))


def test_a_cell_is_the_setting_narrowed_down_to_it():
    whole, narrow = CorruptionPolicy(), CorruptionPolicy(("frost",), (4,))
    for repeat in range(3):
        cell, setting = (
            apply_condition(IMAGE, condition, policy, make_generator(1, "query", "query/a.jpg", repeat))
            for condition, policy in ((Condition("frost", 4), whole), (Condition("random"), narrow))
        )
        assert (cell == setting).all()


def test_conditions():
    policy = CorruptionPolicy(names=("contrast", "brightness"))

    def apply(condition):
        return apply_condition(IMAGE, condition, policy, np.random.default_rng(5))

    assert apply(Condition()) is IMAGE
    rng = np.random.default_rng(5)
    name, severity = policy.draw_type(rng)
    assert (apply(Condition("random")) == corrupt(IMAGE, name, severity, rng)).all()
    fixed = apply(Condition("pixelate", 4))
    assert (fixed == corrupt(IMAGE, "pixelate", 4, np.random.default_rng(0))).all()  # pixelate draws nothing


@pytest.mark.parametrize(
    "fault",
    [
        {"names": ()},
        {"names": ("mist",)},
        {"severities": ()},
        {"severities": (6,)},
        {"clean_prob": 1.5},
        {"backend": "fst"},
    ],
)
def test_a_policy_checks_itself(fault):
    with pytest.raises(UserError):
        CorruptionPolicy(**fault)


class TestCommand:
    def test_list(self, capsys):
        assert main(["list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == list(CORRUPTIONS)
        assert lines[-1].split()[1] == "weather"

    def test_grid(self, tmp_path):
        assert main(["grid", "--out", str(tmp_path / "grid.png")]) == 0
        picture = matplotlib.image.imread(tmp_path / "grid.png")
        assert picture.shape[1] == pytest.approx(2090, abs=100)
        assert main(["grid", "--type", "rain", "--out", str(tmp_path / "new" / "rain.png")]) == 0
        assert matplotlib.image.imread(tmp_path / "new" / "rain.png").shape[0] < picture.shape[0]

    def test_errors(self, tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            main(["grid", "--image", str(tmp_path / "none.jpg"), "--out", str(tmp_path / "grid.png")])
        (tmp_path / "text.jpg").write_text("no picture")
        with pytest.raises(UserError, match="cannot be read"):
            main(["grid", "--image", str(tmp_path / "text.jpg"), "--out", str(tmp_path / "grid.png")])
        with pytest.raises(UserError, match="unknown corruption"):
            main(["grid", "--type", "rian", "--out", str(tmp_path / "grid.png")])
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="output directory .*file: cannot be written"):
            main(["grid", "--out", str(tmp_path / "file" / "grid.png")])
