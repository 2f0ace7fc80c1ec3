from collections import Counter

import numpy as np
import pytest

from config import load_cfg
from corruption import (
    CORRUPTIONS,
    FAMILIES,
    PROTOCOLS,
    SURVEILLANCE,
    UNSEEN,
    CorruptionPolicy,
    apply_condition,
    check,
    corrupt,
    make_corruption_set,
    make_matrix,
    make_protocols,
    make_test_policy,
    make_train_policy,
)
from corruption import test_generator as make_generator
from corruption.protocols import resolve_names
from utils.errors import UserError
from utils.structures import Condition

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)


def test_resolve_names():
    assert resolve_names(["all"]) == CORRUPTIONS
    assert resolve_names(["rain", "noise", "gaussian_noise"]) == (*FAMILIES["noise"][:3], "speckle_noise", "rain")
    assert resolve_names(["bar"]) == UNSEEN
    assert resolve_names(["low_light", "sparkles", "all"]) == (*CORRUPTIONS, "sparkles", "low_light")
    assert resolve_names(["surveillance"]) == SURVEILLANCE == ("low_light", "low_resolution")
    with pytest.raises(UserError, match=r"unknown corruption or family 'concentric_sine_waves'; .*mean cocentric_sine"):
        resolve_names(["concentric_sine_waves"])
    with pytest.raises(UserError, match=r"unknown corruption or family 'wether'; .*did you mean weather"):
        resolve_names(["wether"])


def test_the_protocols():
    sides = {name: (p.query.is_clean, p.gallery.is_clean) for name, p in PROTOCOLS.items()}
    assert sides == {
        "clean": (True, True),
        "corrupted": (False, False),
        "corrupted_query": (False, True),
        "corrupted_gallery": (True, False),
        "unseen": (False, False),
    }
    assert [protocol.name for protocol in make_protocols(load_cfg())] == list(sides)[:4]
    protocols = make_protocols(load_cfg(opts=["TEST.PROTOCOLS", "['corrupted', 'clean']"]))
    assert [protocol.name for protocol in protocols] == ["corrupted", "clean"]


def test_frequencies_of_a_policy():
    policy = CorruptionPolicy(names=("fog", "rain"), severities=(2, 4, 5), clean_prob=0.25)
    rng = np.random.default_rng(1)
    counts = Counter(policy.sample(rng) for _ in range(6000))
    assert counts.pop(None) / 6000 == pytest.approx(0.25, abs=0.025)
    assert set(counts) == {(name, severity) for name in ("fog", "rain") for severity in (2, 4, 5)}
    assert all(count / 6000 == pytest.approx(0.125, abs=0.02) for count in counts.values())


def test_clean_probability_of_0_and_1():
    rng = np.random.default_rng(1)
    assert CorruptionPolicy(clean_prob=1.0).apply(IMAGE, rng) is IMAGE
    assert all(CorruptionPolicy(clean_prob=0.0).sample(rng) for _ in range(200))


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
    with pytest.raises(UserError, match=r"CORRUPTION.TEST: unknown corruption or family 'fgo'; .*did you mean fog"):
        make_test_policy(load_cfg(opts=["CORRUPTION.TEST", "fgo"]))


def test_seen_and_unseen_corruptions():
    def names(train, test):
        return make_test_policy(load_cfg(opts=["CORRUPTION.TRAIN", train, "CORRUPTION.TEST", test])).names

    trained = {*FAMILIES["noise"], "fog"}
    assert set(names("['noise', 'fog']", "['seen']")) == trained
    assert set(names("['noise', 'fog']", "['unseen']")) == set(CORRUPTIONS) - trained
    assert set(names("['noise', 'fog']", "['unseen', 'fog']")) == set(CORRUPTIONS) - set(FAMILIES["noise"])
    assert names("['noise', 'fog']", "['seen', 'unseen']") == CORRUPTIONS
    with pytest.raises(UserError, match=r"CORRUPTION.TEST: 'unseen' selects nothing: CORRUPTION.TRAIN selects all 20"):
        names("all", "unseen")
    with pytest.raises(UserError, match=r"CORRUPTION.TRAIN: 'seen' .*is for CORRUPTION.TEST only"):
        make_train_policy(load_cfg(opts=["CORRUPTION.TRAIN", "seen"]))
    cfg = load_cfg(opts=["CORRUPTION.TRAIN", "['noise']", "CORRUPTION.TEST", "['noise', 'fog']"])
    found = make_corruption_set(cfg, make_test_policy(cfg))
    assert (found.seen, found.unseen) == (tuple(n for n in CORRUPTIONS if n in FAMILIES["noise"]), ("fog",))
    assert found.families == {"noise": found.seen, "weather": ("fog",)}


def test_corruptions_beyond_the_20():
    """They are selected by name or family alone; "unseen" remains the rest of the 20."""
    cfg = load_cfg(opts=["CORRUPTION.TEST", "['bar', 'low_light']", "TEST.MATRIX", "corrupted_query"])
    policy = make_test_policy(cfg)
    assert policy.names == (*UNSEEN, "low_light")
    assert make_train_policy(cfg).names == CORRUPTIONS
    found = make_corruption_set(cfg, policy)
    assert found.families == {"bar": UNSEEN, "surveillance": ("low_light",)}
    assert (found.seen, found.unseen) == ((), policy.names)
    assert [cell.name for cell in make_matrix(cfg)][-6:] == [
        "corrupted_query/sparkles/5",
        *(f"corrupted_query/low_light/{severity}" for severity in range(1, 6)),
    ]
    cfg = load_cfg(opts=["CORRUPTION.TRAIN", "['noise', 'bar']", "CORRUPTION.TEST", "['seen', 'unseen']"])
    assert make_train_policy(cfg).names == (*(name for name in CORRUPTIONS if name in FAMILIES["noise"]), *UNSEEN)
    assert make_test_policy(cfg).names == (*CORRUPTIONS, *UNSEEN)


def test_protocol_unseen_samples_imagenet_c_bar_at_the_configured_severities():
    policy, seen = CorruptionPolicy(names=("fog",), severities=(2, 5)), set()
    for seed in range(300):
        found = apply_condition(IMAGE, Condition("unseen"), policy, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        name, severity = UNSEEN[int(rng.random() * 10)], (2, 5)[int(rng.random() * 2)]
        assert (found == corrupt(IMAGE, name, severity, rng)).all()
        seen.add((name, severity))
    assert len(seen) == 20
    cfg = load_cfg(opts=["TEST.PROTOCOLS", "['clean', 'unseen']"])
    assert make_protocols(cfg)[1].query == make_protocols(cfg)[1].gallery == Condition("unseen")
    assert make_corruption_set(cfg, make_test_policy(cfg)).protocol_unseen == UNSEEN
    assert make_corruption_set(load_cfg(), make_test_policy(load_cfg())).protocol_unseen == ()


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


def test_a_cell_is_the_protocol_reduced_to_one_corruption_and_severity():
    full, reduced = CorruptionPolicy(), CorruptionPolicy(("frost",), (4,))
    for repeat in range(3):
        cell, protocol = (
            apply_condition(IMAGE, condition, policy, make_generator(1, "query", "query/a.jpg", repeat))
            for condition, policy in ((Condition("frost", 4), full), (Condition("random"), reduced))
        )
        assert (cell == protocol).all()


def test_conditions():
    policy = CorruptionPolicy(names=("contrast", "brightness"))

    def apply(condition):
        return apply_condition(IMAGE, condition, policy, np.random.default_rng(5))

    assert apply(Condition()) is IMAGE
    rng = np.random.default_rng(5)
    name, severity = policy.sample_corruption(rng)
    assert (apply(Condition("random")) == corrupt(IMAGE, name, severity, rng)).all()
    rng = np.random.default_rng(5)
    name, severity = CorruptionPolicy(names=UNSEEN).sample_corruption(rng)
    assert (apply(Condition("unseen")) == corrupt(IMAGE, name, severity, rng)).all()
    fixed = apply(Condition("pixelate", 4))
    assert (fixed == corrupt(IMAGE, "pixelate", 4, np.random.default_rng(0))).all()  # pixelate is deterministic


@pytest.mark.parametrize(
    "options",
    [
        {"names": ()},
        {"names": ("mist",)},
        {"severities": ()},
        {"severities": (6,)},
        {"clean_prob": 1.5},
        {"backend": "fst"},
    ],
)
def test_a_policy_checks_its_arguments(options):
    with pytest.raises(UserError):
        CorruptionPolicy(**options)


def set_values(opts):
    """The defaults with other values, past the rules of config: `check` must not depend on them."""
    cfg = load_cfg()
    cfg.defrost()
    for key, value in opts.items():
        section, name = key.split(".")
        cfg[section][name] = value
    return cfg


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            {"CORRUPTION.TRAIN": ["fgo"]},
            r"CORRUPTION.TRAIN: unknown corruption or family 'fgo'; .*did you mean fog",
        ),
        ({"CORRUPTION.TRAIN": []}, "CORRUPTION: no corruption is selected"),
        ({"CORRUPTION.TEST": ["unseen"]}, "CORRUPTION.TEST: 'unseen' selects nothing"),
        ({"CORRUPTION.TEST": "fog"}, r"CORRUPTION.TEST: .*'fog'; expected a list, e.g. \['fog'\]"),
        ({"CORRUPTION.SEVERITIES": [1, 6]}, "CORRUPTION: severity is 6; expected an integer from 1 to 5"),
        ({"CORRUPTION.SEVERITIES": []}, "CORRUPTION: no severity is selected"),
        ({"CORRUPTION.CLEAN_PROB": 1.5}, "CORRUPTION: the probability of a clean image is 1.5"),
        ({"CORRUPTION.BACKEND": "fst"}, r"CORRUPTION: unknown backend 'fst'; .*did you mean fast"),
        ({"TEST.PROTOCOLS": []}, r"TEST.PROTOCOLS is \[\]; expected a list"),
        ({"TEST.PROTOCOLS": ["clear"]}, r"TEST.PROTOCOLS: unknown protocol 'clear'; .*did you mean clean"),
        (
            {"TEST.PROTOCOLS": ["unseen"], "CORRUPTION.TRAIN": ["sparkles", "fog"]},
            "TEST.PROTOCOLS: protocol 'unseen' tests on corruptions of CORRUPTION.TRAIN: sparkles; leave",
        ),
        ({"TEST.MATRIX": "unseen"}, "TEST.MATRIX: unknown protocol 'unseen'; .*known: corrupted,"),
        ({"TEST.MATRIX": "clean"}, "TEST.MATRIX: unknown protocol 'clean'; .*known: corrupted,"),
    ],
)
def test_check_names_the_key(opts, message):
    with pytest.raises(UserError, match=message):
        check(set_values(opts))


def test_check_accepts_what_can_be_run():
    check(load_cfg())
    check(set_values({"CORRUPTION.TRAIN": ["noise"], "CORRUPTION.TEST": ["unseen"], "TEST.MATRIX": "corrupted"}))
