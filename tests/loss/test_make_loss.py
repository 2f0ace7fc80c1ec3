from functools import partial

import pytest
import torch

from config import load_cfg
from loss import check, make_loss
from loss.alignment import gaussian_kl
from loss.center import CenterLoss
from loss.consistency import ConsistencyLoss
from loss.identity import IdentityLoss
from loss.make_loss import CombinedLoss
from loss.margins import MARGINS
from loss.terms import term_weights
from loss.triplet import BatchHardTripletLoss, WeightedTripletLoss
from utils.errors import UserError
from utils.structures import BridgeOutput, Gaussian, ModelOutput

CLASSES, DIMENSIONS, LATENT = 4, 6, 3


def build(*opts, feat_dim=DIMENSIONS):
    return make_loss(load_cfg(opts=list(opts)), num_classes=CLASSES, feat_dim=feat_dim)


def make_output(views=1, rows=4, parts=0, augmented=0):
    """Random outputs; logits are in [-1, 1], so that they may stand for cosines."""
    torch.manual_seed(0)

    def sample(*shape):
        return torch.randn(*shape, requires_grad=True)

    def draw_cosines(*shape):
        return (2 * torch.rand(*shape) - 1).requires_grad_()

    bridge = BridgeOutput(
        *(sample(rows, DIMENSIONS) for _ in range(3)),
        *(Gaussian(sample(rows, LATENT), sample(rows, LATENT)) for _ in range(3)),
        draw_cosines(rows, CLASSES),
    )
    return ModelOutput(
        embedding=sample(views * rows, DIMENSIONS),
        features=sample(views * rows, DIMENSIONS),
        logits=draw_cosines(views * rows, CLASSES),
        clean_embedding=sample(rows, DIMENSIONS),
        clean_patch_tokens=sample(rows, 5, DIMENSIONS),
        clean_logits=draw_cosines(rows, CLASSES),
        corrupted_logits=draw_cosines(rows, CLASSES),
        corrupted_embedding=sample(rows, DIMENSIONS),
        corrupted_patch_tokens=sample(rows, 5, DIMENSIONS),
        bridge=bridge,
        local_embeddings=tuple(sample(views * rows, DIMENSIONS) for _ in range(parts)),
        local_features=tuple(sample(views * rows, DIMENSIONS) for _ in range(parts)),
        local_logits=tuple(draw_cosines(views * rows, CLASSES) for _ in range(parts)),
        augmented_logits=draw_cosines(augmented, rows, CLASSES) if augmented else None,
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
    values = build("CFAT.STAGE", stage)(make_output(), BATCH)
    assert set(values) == {"loss"} | {f"{name}_loss" for name in TERMS[stage]}
    values["loss"].backward()
    if stage == "align":  # released weights are all 1
        assert values["loss"].item() == pytest.approx(sum(v.item() for k, v in values.items() if k != "loss"))


def test_weights_reach_the_total():
    opts = [
        *("CFAT.COARSE.WEIGHT", "2", "CFAT.FINE.KL_WEIGHT", "0.5", "CFAT.FINE.IDENTITY_WEIGHT", "0"),
        *("CFAT.FINE.RECONSTRUCTION_WEIGHT", "3", "CFAT.COSINE.CLASS_WEIGHT", "5"),
        *("CFAT.COSINE.PATCH_WEIGHT", "7", "MODEL.TRIPLET_LOSS_WEIGHT", "0.25"),
        *("CFAT.LOGITS.WEIGHT", "11", "CFAT.TOKENS.WEIGHT", "13"),
    ]
    v = build(*opts)(make_output(), BATCH)
    assert "fine_id_loss" not in v
    expected = (
        v["id_loss"]
        + 0.25 * v["triplet_loss"]
        + 2 * v["coarse_loss"]
        + 0.5 * v["bridge_kl_loss"]
        + 3 * v["reconstruction_loss"]
        + 5 * v["cosine_class_loss"]
        + 7 * v["cosine_patch_loss"]
        + 11 * v["logits_loss"]
        + 13 * v["tokens_loss"]
    )
    assert v["loss"].item() == pytest.approx(expected.item())


def test_bridge_term_is_from_the_corrupted_to_the_bridge_point():
    output = make_output()
    values = build()(output, BATCH)
    expected = gaussian_kl(output.bridge.corrupted_latent, output.bridge.bridge_latent)
    assert values["bridge_kl_loss"].item() == pytest.approx(expected.item())


def test_both_views_repeat_the_labels():
    output = make_output(views=2)
    values = build()(output, BATCH)
    expected = torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]))
    assert values["id_loss"].item() == pytest.approx(expected.item())


def test_combined_loss_leaves_out_zero_weights():
    def never(output, batch):
        raise AssertionError("a term of weight 0 was computed")

    values = CombinedLoss({"a": (2.0, lambda o, b: torch.tensor(3.0)), "b": (0.0, never)})(None, None)
    assert {name: value.item() for name, value in values.items()} == {"loss": 6.0, "a_loss": 3.0}


ALL_TERMS = ["MODEL.IF_WITH_CENTER", "True", "INPUT.SELF_ID", "True"]


@pytest.mark.parametrize(
    ("stage", "added"),
    [
        ("clean", {"center", "consistency"}),
        ("corrupted", {"center", "consistency"}),
        ("bridge", set()),
        ("align", {"center"}),
    ],
)
def test_center_and_consistency_join_where_they_belong(stage, added):
    loss_fn = build("CFAT.STAGE", stage, *ALL_TERMS)
    values = loss_fn(make_output(augmented=2), BATCH)
    assert set(values) == {"loss"} | {f"{name}_loss" for name in TERMS[stage] | added}
    assert [p.shape for p in loss_fn.parameters()] == ([(CLASSES, DIMENSIONS)] if "center" in added else [])


def test_weights_of_center_and_consistency_reach_the_total():
    opts = ["SOLVER.CENTER_LOSS_WEIGHT", "0.3", "MODEL.CONSISTENCY_LOSS_WEIGHT", "2"]
    v = build("CFAT.STAGE", "clean", *ALL_TERMS, *opts)(make_output(augmented=2), BATCH)
    expected = v["id_loss"] + v["triplet_loss"] + 0.3 * v["center_loss"] + 2 * v["consistency_loss"]
    assert v["loss"].item() == pytest.approx(expected.item())


def test_center_term_is_that_of_the_embedding_and_moves_with_the_loss():
    loss_fn, output = build("MODEL.IF_WITH_CENTER", "True"), make_output(views=2, parts=3)
    ((_, centers),) = loss_fn.named_parameters()
    values = loss_fn(output, BATCH)
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    by_hand = CenterLoss(num_classes=CLASSES, feat_dim=DIMENSIONS)
    by_hand.load_state_dict({"centers": centers.detach()})
    assert values["center_loss"].item() == pytest.approx(by_hand(output.embedding, labels).item())
    values["loss"].backward()
    assert centers.grad[:2].ne(0).all()
    assert centers.grad[2:].eq(0).all()
    assert loss_fn.double().learned["center"].centers.dtype == torch.float64


@pytest.mark.parametrize("stage", TERMS)
def test_check_names_the_terms_that_are_built(stage):
    cfg = load_cfg(opts=["CFAT.STAGE", stage, *ALL_TERMS])
    check(cfg)
    terms = make_loss(cfg, num_classes=0, feat_dim=0).terms
    assert {name: weight for name, weight in term_weights(cfg).items() if weight} == {
        name: weight for name, (weight, _) in terms.items()
    }


@pytest.mark.parametrize(("id_type", "scale"), [("softmax", 1.0), ("arcface", 20.0), ("circle", 20.0)])
def test_consistency_reads_the_clean_rows_on_the_scale_of_the_identity_loss(id_type, scale):
    output = make_output(views=2, augmented=2)  # of 8 rows the first 4 are the images
    opts = ["CFAT.STAGE", "clean", "INPUT.SELF_ID", "True", "MODEL.ID_LOSS_TYPE", id_type, "SOLVER.COSINE_SCALE", "20"]
    values = build(*opts)(output, BATCH)
    expected = ConsistencyLoss(scale=scale)(output.logits[:4], output.augmented_logits)
    assert values["consistency_loss"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("id_type", MARGINS)
@pytest.mark.parametrize("smooth", [False, True])
def test_id_loss_type_decides_both_identity_terms(id_type, smooth):
    output = make_output()
    opts = ["SOLVER.COSINE_MARGIN", "0.2", "SOLVER.COSINE_SCALE", "12", "MODEL.IF_LABELSMOOTH", str(smooth)]
    values = build("MODEL.ID_LOSS_TYPE", id_type, *opts)(output, BATCH)
    margin = partial(MARGINS[id_type], margin=0.2)
    by_hand = IdentityLoss(label_smoothing=0.1 if smooth else 0.0, margin=margin, scale=12.0)
    assert values["id_loss"].item() == pytest.approx(by_hand(output.logits, BATCH["pids"]).item())
    reconstruction = output.bridge.reconstruction_logits
    assert values["fine_id_loss"].item() == pytest.approx(by_hand(reconstruction, BATCH["pids"]).item())


@pytest.mark.parametrize(
    ("opts", "by_hand"),
    [
        (["MODEL.METRIC_LOSS_TYPE", "wrtriplet"], WeightedTripletLoss()),
        (["SOLVER.HARD_FACTOR", "0.3"], BatchHardTripletLoss(hard_factor=0.3)),
        (["MODEL.NO_MARGIN", "False", "SOLVER.MARGIN", "0.7"], BatchHardTripletLoss(margin=0.7)),
    ],
)
def test_metric_loss_type_decides_both_triplet_terms(opts, by_hand):
    output = make_output()
    values = build(*opts)(output, BATCH)
    assert values["triplet_loss"].item() == pytest.approx(by_hand(output.embedding, BATCH["pids"]).item())
    fine = by_hand(output.bridge.corrupted_reconstruction, BATCH["pids"]).item()
    assert values["fine_triplet_loss"].item() == pytest.approx(fine)


@pytest.mark.parametrize("parts", [0, 4])
def test_triplets_of_neck_outputs_are_between_unit_vectors(parts):
    output = make_output(parts=parts)

    def by_hand(features):
        return BatchHardTripletLoss()(features / features.norm(dim=1, keepdim=True), BATCH["pids"]).item()

    expected = by_hand(output.features)
    if parts:
        expected = 0.5 * expected + 0.5 * sum(map(by_hand, output.local_features)) / parts
    for scale in (1, 1e-3):  # features that shrink together do not change it
        scaled = output._replace(features=scale * output.features)
        values = build("MODEL.TRIPLET_ON", "neck")(scaled, BATCH)
        assert values["triplet_loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("views", [1, 2])
def test_parts_take_half_of_a_term(views):
    output = make_output(views=views, parts=4)
    values = build("CFAT.STAGE", "clean")(output, BATCH)
    labels = BATCH["pids"].repeat(views)
    identity = [torch.nn.functional.cross_entropy(x, labels).item() for x in (output.logits, *output.local_logits)]
    triplet = [BatchHardTripletLoss()(x, labels).item() for x in (output.embedding, *output.local_embeddings)]
    assert values["id_loss"].item() == pytest.approx(0.5 * identity[0] + 0.125 * sum(identity[1:]))
    assert values["triplet_loss"].item() == pytest.approx(0.5 * triplet[0] + 0.125 * sum(triplet[1:]))


def test_no_term_left():
    opts = ["CFAT.STAGE", "clean", "MODEL.ID_LOSS_WEIGHT", "0", "MODEL.TRIPLET_LOSS_WEIGHT", "0"]
    with pytest.raises(UserError, match="stage clean: every loss weight is 0"):
        make_loss(load_cfg(opts=opts), num_classes=CLASSES, feat_dim=DIMENSIONS)
    with pytest.raises(UserError, match="stage clean: every loss weight is 0"):
        check(load_cfg(opts=opts))
