"""The corruptions that a checkpoint was trained on, from the selection in its configuration."""

from corruption import CORRUPTIONS, FAMILIES, trained_types


def test_selections_that_a_checkpoint_may_hold():
    assert trained_types(None) is None
    assert trained_types(()) == ()
    assert trained_types(("all",)) == CORRUPTIONS
    assert trained_types(("noise", "rain")) == (*(name for name in CORRUPTIONS if name in FAMILIES["noise"]), "rain")
    assert trained_types(("fog", "of another version")) is None
