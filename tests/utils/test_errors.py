"""Messages of UserError, and suggestions for unknown names."""

import pytest

from utils.errors import UserError, did_you_mean


def test_user_error_of_a_worker_shows_its_last_message():
    text = (
        "Caught UserError in DataLoader worker process 0.\nTraceback ...\nutils.errors.UserError: image a.jpg: cannot"
    )
    assert str(UserError(text)) == "image a.jpg: cannot"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Market1051", "; did you mean market1501?"),
        ("MSMT", "; did you mean msmt17?"),
        ("cuhk3", "; did you mean CUHK03?"),
        ("", ""),
        ("x" * 10_000, ""),
        (None, ""),
        (3, ""),
    ],
)
def test_suggestions(name, expected):
    assert did_you_mean(name, ["market1501", "msmt17", "CUHK03"]) == expected


def test_several_suggestions():
    assert did_you_mean("adamv", ["adamw", "adam", "sgd"], count=2) == "; did you mean adam or adamw?"
