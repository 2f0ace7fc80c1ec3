import pytest
import torch

from config import load_cfg, stage_cfg, stages_to_run
from loss import make_loss
from model import check_stages, load_initial_weights, make_model
from model.weights.load import initial_weight_files
from utils.checkpoints import save_checkpoint
from utils.errors import UserError
from utils.structures import BridgeOutput

SMALL = [
    *("MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_128_TransReID", "INPUT.SIZE_TRAIN", "[32, 32]"),
    *("INPUT.SIZE_TEST", "[32, 32]", "MODEL.PRETRAIN_PATH", "", "MODEL.DROP_PATH", "0.5"),
]
COUNTS = {"num_classes": 5, "num_cameras": 3, "num_views": 1}


def make(stage, *opts):
    torch.manual_seed(0)
    return make_model(load_cfg(opts=[*SMALL, "CFAT.STAGE", stage, *opts]), **COUNTS)


def make_batch(rows=4):
    torch.manual_seed(1)
    images, corrupted = torch.rand(2, rows, 3, 32, 32)
    camids = torch.arange(rows) % 3
    return {"images": images, "corrupted": corrupted, "camids": camids, "viewids": torch.zeros_like(camids)}


def test_stages_read_their_view():
    batch = make_batch()
    for stage, view in (("clean", "images"), ("corrupted", "corrupted")):
        model = make(stage).eval()
        assert torch.equal(model(batch).embedding, model.encode(batch[view], batch["camids"]).embedding)


def test_teacher_is_frozen_and_never_in_training_mode():
    model = make("align")
    model.train()
    assert model.student.training
    assert not model.teacher.training
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    batch = make_batch()
    first, again = (model(batch).clean_embedding for _ in range(2))
    assert torch.equal(first, again)  # no drop path, unlike the student
    output = model(batch)
    output.logits.sum().backward()
    assert all(parameter.grad is None for parameter in model.teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.teacher.state_dict().items())


def test_a_following_teacher_is_the_moving_average_of_the_student():
    model, batch = make("align", "CFAT.TEACHER_DECAY", "0.4").train(), make_batch()
    for decay in (1, 1 - 2 ** (-2 / 3), 0.4, 0.4):  # nothing is trained before the first step; then it warms up
        teacher = {name: value.clone() for name, value in model.teacher.state_dict().items()}
        student = {name: value.clone() for name, value in model.student.state_dict().items()}
        output = model(batch)
        moved = model.teacher.state_dict()
        for name, value in student.items():
            if value.is_floating_point():  # before the forward pass changed the student's BatchNorm statistics
                torch.testing.assert_close(moved[name], decay * teacher[name] + (1 - decay) * value)
    assert not model.teacher.training
    assert torch.equal(output.clean_embedding, model.teacher.encode(batch["images"], batch["camids"]).embedding)
    model.eval()(batch)
    assert all(torch.equal(value, model.teacher.state_dict()[name]) for name, value in moved.items())


def test_logits_of_both_views():
    model, batch = make("align", "CFAT.STUDENT_VIEWS", "both").train(), make_batch()
    output = model(batch)
    assert torch.equal(output.corrupted_logits, output.logits[:4])
    assert torch.equal(output.clean_logits, model.teacher.encode(batch["images"], batch["camids"]).logits)


def test_student_views():
    batch = make_batch()
    output = make("align", "CFAT.STUDENT_VIEWS", "both")(batch)
    assert output.embedding.shape == (8, 192)
    assert output.logits.shape == (8, 5)
    assert output.corrupted_embedding.shape == output.clean_embedding.shape == (4, 192)
    assert torch.equal(output.corrupted_embedding, output.embedding[:4])
    assert output.bridge.reconstruction_logits.shape == (4, 5)
    torch.testing.assert_close(output.bridge.clean.norm(dim=1), torch.ones(4))


def test_bridge_stage_trains_the_bridge_alone():
    model = make("bridge").train()
    learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"bridge"}
    batch, before = make_batch(), {name: value.clone() for name, value in model.student.state_dict().items()}
    output = model(batch)
    assert not output.embedding.requires_grad
    output.bridge.corrupted_reconstruction.sum().backward()
    assert model.bridge.encoder.linear.weight.grad is not None
    assert all(torch.equal(before[name], value) for name, value in model.student.state_dict().items())


def test_reconstructions_leave_the_necks_running_statistics_alone():
    student = make("clean").train()
    before = student.bottleneck.running_mean.clone()
    neck = student.neck_of_foreign(torch.randn(6, 192) * 0.05 + 3)
    assert torch.equal(before, student.bottleneck.running_mean)
    torch.testing.assert_close(neck.mean(dim=0), student.bottleneck.bias.detach(), atol=1e-4, rtol=0)


def test_gradient_of_the_fine_terms_reaches_the_student():
    model = make("align").train()
    output = model(make_batch())
    output.bridge.reconstruction_logits.square().sum().backward()
    assert model.student.base.patch_embed.proj.weight.grad.abs().sum() > 0


def test_align_on_the_neck():
    model, batch = make("align", "CFAT.ALIGN_ON", "neck", "CFAT.STUDENT_VIEWS", "both").train(), make_batch()
    output = model(batch)
    assert torch.equal(output.corrupted_embedding, output.features[:4])
    expected = model.teacher.encode(batch["images"], batch["camids"]).features
    assert torch.equal(output.clean_embedding, expected)
    torch.testing.assert_close(output.bridge.clean, torch.nn.functional.normalize(expected, dim=1))
    output.bridge.reconstruction_logits.square().sum().backward()
    assert model.student.base.patch_embed.proj.weight.grad.abs().sum() > 0


def test_a_perfect_reconstruction_of_the_neck_has_the_students_logits():
    model, batch = make("align", "CFAT.ALIGN_ON", "neck").train(), make_batch()
    model.bridge.forward = lambda clean, corrupted: BridgeOutput(clean, clean, corrupted, None, None, None)
    output = model(batch)
    torch.testing.assert_close(output.bridge.reconstruction_logits, output.logits)


def save(tmp_path, name, model):
    save_checkpoint(tmp_path / "checkpoints" / f"{name}.pth", model.export_state(), {})


@pytest.mark.parametrize(("init", "start"), [("corrupted", "corrupted"), ("teacher", "clean")])
def test_initial_weights_of_stages(tmp_path, init, start):
    cfg = load_cfg(
        opts=[*SMALL, "OUTPUT_DIR", str(tmp_path), "CFAT.STUDENT_INIT", init, "CFAT.CORRUPTED.INIT", "clean"]
    )
    models = {}
    for seed, stage in enumerate(("clean", "corrupted", "bridge", "align")):
        torch.manual_seed(seed)
        models[stage] = make_model(stage_cfg(cfg, stage), **COUNTS)
        load_initial_weights(stage_cfg(cfg, stage), models[stage])
        for parameter in models[stage].parameters():  # as if training had moved it
            if parameter.requires_grad:
                parameter.data.add_(0.01)
        save(tmp_path, stage, models[stage])
    fresh = make_model(stage_cfg(cfg, "align"), **COUNTS)
    load_initial_weights(stage_cfg(cfg, "align"), fresh)
    for part, origin in (
        (fresh.teacher, models["clean"]),
        (fresh.student, models[start]),
        (fresh.bridge, models["bridge"].bridge),
    ):
        for name, value in origin.state_dict().items():
            assert torch.equal(part.state_dict()[name], value), name
    corrupted = make_model(stage_cfg(cfg, "corrupted"), **COUNTS)
    load_initial_weights(stage_cfg(cfg, "corrupted"), corrupted)
    assert torch.equal(corrupted.classifier.weight, models["clean"].classifier.weight)


def test_a_missing_stage_is_named(tmp_path):
    cfg = stage_cfg(load_cfg(opts=[*SMALL, "OUTPUT_DIR", str(tmp_path)]), "bridge")
    with pytest.raises(UserError, match=r"clean\.pth: no such file.*train first"):
        load_initial_weights(cfg, make_model(cfg, **COUNTS))


@pytest.mark.parametrize(("key", "value"), [("MODEL.SIE_COE", "1.0"), ("INPUT.SIZE_TEST", "[16, 64]")])
def test_other_settings_of_initial_weights_are_found_before_training(tmp_path, key, value):
    config = load_cfg(opts=SMALL).dump()
    save_checkpoint(tmp_path / "clean.pth", make("clean").export_state(), {"config": config})
    changed = [key, value, *(["INPUT.SIZE_TRAIN", value] if "SIZE" in key else [])]
    opts = [*SMALL, "CFAT.STAGES", "['bridge']", "CFAT.STUDENT_INIT", "teacher"]
    weight = ["CFAT.CLEAN.WEIGHT", str(tmp_path / "clean.pth")]
    check_stages([stage_cfg(load_cfg(opts=[*opts, *weight]), "bridge")])
    cfg = stage_cfg(load_cfg(opts=[*opts, *weight, *changed]), "bridge")
    with pytest.raises(UserError, match=rf"clean\.pth: trained with {key} .*, now .*with the file's settings"):
        check_stages([cfg])
    with pytest.raises(UserError, match="trained with"):
        load_initial_weights(cfg, make_model(cfg, **COUNTS))
    (tmp_path / "text.pth").write_text("no checkpoint")
    broken = load_cfg(opts=[*opts, "CFAT.CLEAN.WEIGHT", str(tmp_path / "text.pth")])
    with pytest.raises(UserError, match=r"text\.pth: "):
        check_stages([stage_cfg(broken, "bridge")])


def test_missing_initial_weights_are_found_before_training(tmp_path):
    opts = [*SMALL, "OUTPUT_DIR", str(tmp_path), "CFAT.STAGES", "['clean', 'align']", "MODEL.PRETRAIN_PATH", "none.pth"]
    cfg = load_cfg(opts=opts)
    with pytest.raises(UserError) as caught:
        check_stages([stage_cfg(cfg, stage) for stage in stages_to_run(cfg)])
    text = str(caught.value)
    assert "stage clean starts from MODEL.PRETRAIN_PATH none.pth: no such file" in text
    assert f"stage align starts from CFAT.CORRUPTED.WEIGHT {tmp_path}/checkpoints/corrupted.pth: no such file" in text
    assert f"stage align starts from CFAT.BRIDGE.WEIGHT {tmp_path}/checkpoints/bridge.pth: no such file" in text
    assert "CFAT.CLEAN.WEIGHT" not in text  # stage clean makes it
    coarse_only = [key for name in ("IDENTITY", "KL", "RECONSTRUCTION") for key in (f"CFAT.FINE.{name}_WEIGHT", "0")]
    assert "CFAT.BRIDGE.WEIGHT" not in initial_weight_files(stage_cfg(load_cfg(opts=[*opts, *coarse_only]), "align"))
    whole = load_cfg(opts=[*SMALL, "OUTPUT_DIR", str(tmp_path)])
    check_stages([stage_cfg(whole, stage) for stage in stages_to_run(whole)])


@pytest.mark.parametrize(
    "opts",
    [
        ["MODEL.JPM", "True", "CFAT.STUDENT_VIEWS", "both"],
        ["MODEL.NAME", "resnet50", "CFAT.COSINE.PATCH_WEIGHT", "1"],
        ["MODEL.ID_LOSS_TYPE", "circle", "MODEL.IF_WITH_CENTER", "True", "CFAT.FINE.RELEASED", "True"],
    ],
    ids=["jigsaw", "resnet50", "circle"],
)
@pytest.mark.parametrize("stage", ["bridge", "align"])
def test_every_model_and_head_can_be_aligned(opts, stage):
    cfg = load_cfg(opts=[*SMALL, "CFAT.STAGE", stage, *opts])
    torch.manual_seed(0)
    model = make_model(cfg, **COUNTS).train()
    loss_fn = make_loss(cfg, num_classes=COUNTS["num_classes"], feat_dim=model.embed_dim)
    batch = {**make_batch(), "pids": torch.tensor([0, 0, 1, 1])}
    losses = loss_fn(model(batch), batch)
    losses["loss"].backward()
    learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if stage == "align":
        assert all(parameter.grad is not None for parameter in learning.values())
    assert all(torch.isfinite(p.grad).all() for p in learning.values() if p.grad is not None)
    assert torch.isfinite(losses["loss"])
