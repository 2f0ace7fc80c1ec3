"""Names suggested in error messages."""

import pytest

from utils.errors import did_you_mean

BACKBONES = ("vit_base_patch16_224_TransReID", "deit_small_patch16_224_TransReID", "vit_tiny_patch16_128_TransReID")


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("corupted", ("clean", "corrupted"), "; did you mean corrupted?"),
        ("Cosin", ("cosine", "multistep"), "; did you mean cosine?"),
        ("v1", ("auto", "V1", "V2"), "; did you mean V1?"),
        ("vit_tiny", BACKBONES, "; did you mean vit_tiny_patch16_128_TransReID?"),
        ("fp8", ("auto", "bf16", "off"), ""),
        ("clean", (), ""),
        (3, ("clean",), ""),
        ("x" * 100_000, ("x" * 80,), f"; did you mean {'x' * 80}?"),
    ],
)
def test_did_you_mean(name, known, hint):
    assert did_you_mean(name, known) == hint


def test_several_near_names():
    assert did_you_mean("vit", BACKBONES, count=3) == f"; did you mean {BACKBONES[0]} or {BACKBONES[2]}?"
    assert did_you_mean("adamm", ("adam", "adamw", "sgd"), count=2) == "; did you mean adam or adamw?"
    assert did_you_mean("adamm", ("adam", "adamw", "sgd"), count=2, cutoff=0.85) == "; did you mean adam?"
