"""What corruptions a checkpoint says that it was trained on."""

import pytest

from model.weights.model_file import stored_corruptions


@pytest.mark.parametrize(
    ("stage", "section", "expected"),
    [
        ("corrupted", "{TRAIN: [noise, fog], CLEAN_PROB: 0.5}", ("noise", "fog")),
        ("align", "{TRAIN: [all]}", ("all",)),
        ("clean", "{TRAIN: [all], CLEAN_PROB: 0.05}", ()),
        ("corrupted", "{TRAIN: [all], CLEAN_PROB: 1.0}", ()),
        ("corrupted", "{}", None),
        ("corrupted", "{TRAIN: 3}", None),
        ("of another project", "{TRAIN: [all]}", None),
        (3, "{TRAIN: [all]}", None),
    ],
)
def test_what_a_checkpoint_says(stage, section, expected):
    meta = {"stage": stage, "config": f"CORRUPTION: {section}\n"}
    assert stored_corruptions({"meta": meta}, "a.pth") == expected


def test_files_that_say_nothing():
    for content in ({}, {"meta": 3}, {"meta": {"stage": "align"}}, {"meta": {"config": "CORRUPTION: {TRAIN: [all]}"}}):
        assert stored_corruptions(content, "a.pth") is None
