import pytest
import torch

from config import load_cfg, stage_cfg, stages_to_run
from model import check_start_files, load_model, load_start, make_model
from model.loading import load_pretrained, resize_position_embedding, start_files
from model.vit import TransReIDViT, ViTSize
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

SMALL = [
    "MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_128_TransReID", "INPUT.SIZE_TRAIN", "[32, 32]", "INPUT.SIZE_TEST",
    "[32, 32]", "MODEL.PRETRAIN_PATH", "", "MODEL.DROP_PATH", "0.5",
]  # fmt: skip
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


def save(tmp_path, name, model):
    save_checkpoint(tmp_path / "checkpoints" / f"{name}.pth", model.export_state(), {})


@pytest.mark.parametrize(("init", "start"), [("corrupted", "corrupted"), ("teacher", "clean")])
def test_stage_starts(tmp_path, init, start):
    cfg = load_cfg(
        opts=[*SMALL, "OUTPUT_DIR", str(tmp_path), "CFAT.STUDENT_INIT", init, "CFAT.CORRUPTED.INIT", "clean"]
    )
    models = {}
    for seed, stage in enumerate(("clean", "corrupted", "bridge", "align")):
        torch.manual_seed(seed)
        models[stage] = make_model(stage_cfg(cfg, stage), **COUNTS)
        load_start(stage_cfg(cfg, stage), models[stage])
        for parameter in models[stage].parameters():  # as if training had moved it
            if parameter.requires_grad:
                parameter.data.add_(0.01)
        save(tmp_path, stage, models[stage])
    fresh = make_model(stage_cfg(cfg, "align"), **COUNTS)
    load_start(stage_cfg(cfg, "align"), fresh)
    for part, origin in (
        (fresh.teacher, models["clean"]),
        (fresh.student, models[start]),
        (fresh.bridge, models["bridge"].bridge),
    ):
        for name, value in origin.state_dict().items():
            assert torch.equal(part.state_dict()[name], value), name
    corrupted = make_model(stage_cfg(cfg, "corrupted"), **COUNTS)
    load_start(stage_cfg(cfg, "corrupted"), corrupted)
    assert torch.equal(corrupted.classifier.weight, models["clean"].classifier.weight)


def test_a_missing_stage_is_named(tmp_path):
    cfg = stage_cfg(load_cfg(opts=[*SMALL, "OUTPUT_DIR", str(tmp_path)]), "bridge")
    with pytest.raises(UserError, match=r"clean\.pth: no such file.*train first"):
        load_start(cfg, make_model(cfg, **COUNTS))


def test_missing_starts_come_to_light_before_training(tmp_path):
    opts = [*SMALL, "OUTPUT_DIR", str(tmp_path), "CFAT.STAGES", "['clean', 'align']", "MODEL.PRETRAIN_PATH", "none.pth"]
    cfg = load_cfg(opts=opts)
    with pytest.raises(UserError) as caught:
        check_start_files([stage_cfg(cfg, stage) for stage in stages_to_run(cfg)])
    text = str(caught.value)
    assert "stage clean starts from MODEL.PRETRAIN_PATH none.pth: no such file" in text
    assert f"stage align starts from CFAT.CORRUPTED.WEIGHT {tmp_path}/checkpoints/corrupted.pth: no such file" in text
    assert f"stage align starts from CFAT.BRIDGE.WEIGHT {tmp_path}/checkpoints/bridge.pth: no such file" in text
    assert "CFAT.CLEAN.WEIGHT" not in text  # stage clean makes it
    coarse_only = [key for name in ("IDENTITY", "KL", "RECONSTRUCTION") for key in (f"CFAT.FINE.{name}_WEIGHT", "0")]
    assert "CFAT.BRIDGE.WEIGHT" not in start_files(stage_cfg(load_cfg(opts=[*opts, *coarse_only]), "align"))
    whole = load_cfg(opts=[*SMALL, "OUTPUT_DIR", str(tmp_path)])
    check_start_files([stage_cfg(whole, stage) for stage in stages_to_run(whole)])


class TestLoadModel:
    def test_round_trip_reads_the_counts_from_the_file(self, tmp_path):
        model = make("clean")
        save(tmp_path, "clean", model)
        path = str(tmp_path / "checkpoints" / "clean.pth")
        loaded = load_model(load_cfg(opts=SMALL), path, num_cameras=3, num_views=1)
        batch = make_batch()
        with torch.no_grad():
            expected = model.eval().extract(batch["images"], batch["camids"])
            assert torch.equal(loaded.extract(batch["images"], batch["camids"]), expected)

    def test_every_mismatch_with_both_shapes(self, tmp_path):
        state = make("clean").state_dict()
        state["base.pos_embed"] = torch.zeros(1, 9, 192)
        del state["base.norm.bias"]
        state["base.extra"] = torch.zeros(2)
        torch.save(state, tmp_path / "other.pth")
        with pytest.raises(UserError) as caught:
            load_model(load_cfg(opts=SMALL), str(tmp_path / "other.pth"), num_cameras=3, num_views=1)
        for line in ("base.pos_embed: (1, 9, 192) in the file, (1, 5, 192) in the model",
                     "base.norm.bias: (192,) in the model, missing in the file",
                     "base.extra: (2,) in the file, not in the model"):  # fmt: skip
            assert line in str(caught.value)

    def test_another_camera_table(self, tmp_path):
        torch.save(make("clean").state_dict(), tmp_path / "a.pth")
        with pytest.raises(UserError, match="side information for 3 .* but the data set has 6"):
            load_model(load_cfg(opts=SMALL), str(tmp_path / "a.pth"), num_cameras=6, num_views=1)
        with pytest.raises(UserError, match=r"3 rows, but MODEL.SIE_CAMERA"):
            load_model(
                load_cfg(opts=[*SMALL, "MODEL.SIE_CAMERA", "False"]),
                str(tmp_path / "a.pth"),
                num_cameras=6,
                num_views=1,
            )

    def test_file_without_normalize_keeps_the_configured_mean(self, tmp_path, caplog):
        state = {name: value for name, value in make("clean").state_dict().items() if not name.startswith("normalize.")}
        torch.save(state, tmp_path / "transreid.pth")
        cfg = load_cfg(opts=[*SMALL, "INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]"])
        model = load_model(cfg, str(tmp_path / "transreid.pth"), num_cameras=3, num_views=1)
        assert model.normalize.mean.tolist() == [0.5, 0.5, 0.5]
        assert "holds no pixel mean" in caplog.text

    @pytest.mark.parametrize(("key", "value"), [("MODEL.SIE_COE", "1.0"), ("INPUT.SIZE_TRAIN", "[16, 64]")])
    def test_settings_that_change_features_but_no_shape(self, tmp_path, key, value):
        config = load_cfg(opts=SMALL).dump()
        save_checkpoint(tmp_path / "a.pth", make("clean").export_state(), {"config": config})
        changed = [*SMALL, key, value, *(["INPUT.SIZE_TEST", value] if "SIZE" in key else [])]
        with pytest.raises(UserError, match=f"trained with {key} .*, now "):
            load_model(load_cfg(opts=changed), str(tmp_path / "a.pth"), num_cameras=3, num_views=1)

    def test_another_seed_is_told(self, tmp_path, caplog):
        save_checkpoint(tmp_path / "a.pth", make("clean").export_state(), {"config": load_cfg(opts=SMALL).dump()})
        load_model(load_cfg(opts=[*SMALL, "SEED", "7"]), str(tmp_path / "a.pth"), num_cameras=3, num_views=1)
        assert "trained with SEED 1234, now 7: the test draws other corruptions" in caplog.text

    def test_no_weight_given(self):
        with pytest.raises(UserError, match="TEST.WEIGHT is empty"):
            load_model(load_cfg(), "", num_cameras=6, num_views=1)


class TestPretrained:
    def test_imagenet_names_and_square_grid(self, tmp_path):
        source = TransReIDViT((64, 64), ViTSize(192, 6, 6))
        state = {**source.state_dict(), "head.weight": torch.zeros(10, 192), "head.bias": torch.zeros(10)}
        torch.save(state, tmp_path / "vit.pth")
        base = make("clean").base  # 32 x 32 pixels: a 2 x 2 grid, cameras
        load_pretrained(base, str(tmp_path / "vit.pth"))
        assert torch.equal(base.blocks[3].attn.qkv.weight, source.blocks[3].attn.qkv.weight)
        grid = source.pos_embed[:, 1:].reshape(4, 4, 192)
        # halving a side bilinearly, with pixel centres, averages pairs
        by_hand = (grid[0::2, 0::2] + grid[1::2, 0::2] + grid[0::2, 1::2] + grid[1::2, 1::2]) / 4
        torch.testing.assert_close(base.pos_embed[0, 1:], by_hand.reshape(4, 192))
        assert torch.equal(base.pos_embed[:, :1], source.pos_embed[:, :1])

    def test_distillation_token_is_dropped(self):
        embedding = torch.arange(6.0).reshape(1, 6, 1)  # class, distillation, 2 x 2
        assert resize_position_embedding(embedding, (2, 2), num_prefix=2).flatten().tolist() == [0, 2, 3, 4, 5]

    def test_missing_and_unfitting_files(self, tmp_path):
        base = make("clean").base
        with pytest.raises(UserError, match=r"none\.pth: no such file"):
            load_pretrained(base, str(tmp_path / "none.pth"))
        torch.save(TransReIDViT((32, 32), ViTSize(24, 2, 3)).state_dict(), tmp_path / "small.pth")
        with pytest.raises(UserError, match=r"cls_token: \(1, 1, 24\) in the file, \(1, 1, 192\) in the model"):
            load_pretrained(base, str(tmp_path / "small.pth"))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.NAME", "resnet50"], "MODEL.NAME resnet50: not built"),
        (["MODEL.JPM", "True"], "MODEL.JPM True"),
        (["MODEL.TRANSFORMER_TYPE", "vit_small_patch16_224_TransReID"], "vit_small_patch16_224_TransReID: not built"),
        (["INPUT.SIZE_TEST", "[64, 32]"], "SIZE_TRAIN .* differ"),
    ],
)
def test_what_is_not_built_is_refused_by_name(opts, message):
    with pytest.raises(UserError, match=message):
        make_model(load_cfg(opts=[*SMALL, *opts]), **COUNTS)
