import pytest
import torch

from config import load_cfg
from loss import make_loss
from loss.alignment import gaussian_kl
from loss.make_loss import CombinedLoss
from utils.errors import UserError
from utils.structures import BridgeOutput, Gaussian, ModelOutput

CLASSES, DIMENSIONS, LATENT = 4, 6, 3


def make_output(views=1, rows=4):
    torch.manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, requires_grad=True)

    bridge = BridgeOutput(
        *(draw(rows, DIMENSIONS) for _ in range(3)),
        *(Gaussian(draw(rows, LATENT), draw(rows, LATENT)) for _ in range(3)),
        draw(rows, CLASSES),
    )
    return ModelOutput(
        embedding=draw(views * rows, DIMENSIONS),
        features=draw(views * rows, DIMENSIONS),
        logits=draw(views * rows, CLASSES),
        clean_embedding=draw(rows, DIMENSIONS),
        clean_patch_tokens=draw(rows, 5, DIMENSIONS),
        corrupted_embedding=draw(rows, DIMENSIONS),
        corrupted_patch_tokens=draw(rows, 5, DIMENSIONS),
        bridge=bridge,
    )


BATCH = {"pids": torch.tensor([0, 0, 1, 1])}
TERMS = {
    "clean": {"id", "triplet"},
    "corrupted": {"id", "triplet"},
    "bridge": {"reconstruction", "bridge_kl", "prior_kl"},
    "align": {"id", "triplet", "fine_id", "fine_triplet", "reconstruction", "bridge_kl", "coarse"},
}


@pytest.mark.parametrize("stage", TERMS)
def test_terms_of_a_stage(stage):
    loss_fn = make_loss(load_cfg(opts=["CFAT.STAGE", stage]), num_classes=CLASSES, feat_dim=DIMENSIONS)
    values = loss_fn(make_output(), BATCH)
    assert set(values) == {"loss"} | {f"{name}_loss" for name in TERMS[stage]}
    values["loss"].backward()
    if stage == "align":  # released weights are all 1
        assert values["loss"].item() == pytest.approx(sum(v.item() for k, v in values.items() if k != "loss"))


def test_weights_reach_the_total():
    opts = ["CFAT.COARSE.WEIGHT", "2", "CFAT.FINE.KL_WEIGHT", "0.5", "CFAT.FINE.IDENTITY_WEIGHT", "0",
            "CFAT.FINE.RECONSTRUCTION_WEIGHT", "3", "CFAT.COSINE.CLASS_WEIGHT", "5", "CFAT.COSINE.PATCH_WEIGHT", "7",
            "MODEL.TRIPLET_LOSS_WEIGHT", "0.25"]  # fmt: skip
    v = make_loss(load_cfg(opts=opts), num_classes=CLASSES, feat_dim=DIMENSIONS)(make_output(), BATCH)
    assert "fine_id_loss" not in v
    expected = (v["id_loss"] + 0.25 * v["triplet_loss"] + 2 * v["coarse_loss"] + 0.5 * v["bridge_kl_loss"]
                + 3 * v["reconstruction_loss"] + 5 * v["cosine_class_loss"] + 7 * v["cosine_patch_loss"])  # fmt: skip
    assert v["loss"].item() == pytest.approx(expected.item())


def test_bridge_term_is_from_the_corrupted_to_the_bridge_point():
    output = make_output()
    values = make_loss(load_cfg(), num_classes=CLASSES, feat_dim=DIMENSIONS)(output, BATCH)
    expected = gaussian_kl(output.bridge.corrupted_latent, output.bridge.bridge_latent)
    assert values["bridge_kl_loss"].item() == pytest.approx(expected.item())


def test_both_views_repeat_the_labels():
    output = make_output(views=2)
    values = make_loss(load_cfg(), num_classes=CLASSES, feat_dim=DIMENSIONS)(output, BATCH)
    expected = torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]))
    assert values["id_loss"].item() == pytest.approx(expected.item())


def test_combined_loss_leaves_out_zero_weights():
    def never(output, batch):
        raise AssertionError("a term of weight 0 was computed")

    values = CombinedLoss({"a": (2.0, lambda o, b: torch.tensor(3.0)), "b": (0.0, never)})(None, None)
    assert {name: value.item() for name, value in values.items()} == {"loss": 6.0, "a_loss": 3.0}


@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.ID_LOSS_TYPE", "arcface"), ("MODEL.METRIC_LOSS_TYPE", "wrtriplet"), ("MODEL.IF_WITH_CENTER", "True")],
)
def test_what_is_not_built_is_refused_by_name(key, value):
    with pytest.raises(UserError, match=f"{key} {value}: .*not built"):
        make_loss(load_cfg(opts=[key, value]), num_classes=CLASSES, feat_dim=DIMENSIONS)


def test_no_term_left():
    opts = ["CFAT.STAGE", "clean", "MODEL.ID_LOSS_WEIGHT", "0", "MODEL.TRIPLET_LOSS_WEIGHT", "0"]
    with pytest.raises(UserError, match="stage clean: every loss weight is 0"):
        make_loss(load_cfg(opts=opts), num_classes=CLASSES, feat_dim=DIMENSIONS)
