"""CLIP-ReID's image encoder: reference outputs, published names, camera vectors, training."""

import logging

import pytest
import torch

from config import load_cfg
from model import check, load_initial_weights, load_model, make_model
from model.export import export_model
from model.vit_sizes import CLIP_SIZES, ClipSize, ViTSize
from solver.groups import layer_scales
from tests.model import relatives
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

CASES, ARRAYS = relatives.load_cases("clip_reid")
FULL_SIZE = relatives.load_full_size(("clip_reid", "openai"))
COUNTS = {"num_cameras": 4, "num_views": 1}
TINY = "ViT-T-16"


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch):
    monkeypatch.setitem(CLIP_SIZES, TINY, ClipSize(ViTSize(24, 3, 3), 16))


def configure(monkeypatch, settings, *opts):
    vit = ViTSize(settings["embed_dim"], settings["depth"], settings["heads"])
    monkeypatch.setitem(CLIP_SIZES, "clip_of_case", ClipSize(vit, settings["proj_dim"]))
    given, rows_columns = settings["settings"], settings["settings"]["STRIDE_SIZE"]
    return load_cfg(
        opts=relatives.options_of(
            settings,
            *("MODEL.TRANSFORMER_TYPE", "clip_of_case", "MODEL.STRIDE_SIZE", str(rows_columns)),
            *("MODEL.SIE_COE", str(given["SIE_COE"]), *opts),
        )
    )


@torch.no_grad()
def features_of(model, case, images="input"):
    cameras, views = (relatives.case_tensor(CASES, ARRAYS, case, name) for name in ("cam", "view"))
    return model.eval().extract(relatives.case_tensor(CASES, ARRAYS, case, images), cameras, views)


class TestReferenceModels:
    @pytest.mark.parametrize("case", CASES)
    def test_output(self, case, monkeypatch, tmp_path):
        torch.save(relatives.case_state(CASES, ARRAYS, case), tmp_path / "a.pth")
        settings = CASES[case]
        counts = {"num_cameras": settings["camera_num"], "num_views": settings["view_num"]}
        model = load_model(configure(monkeypatch, settings), str(tmp_path / "a.pth"), **counts)
        assert (features_of(model, case) - relatives.tensor(ARRAYS, case, "output")).abs().max() < 1e-5

    @pytest.mark.parametrize("case", [case for case in CASES if "pretrain" in CASES[case]])
    def test_pretrained(self, case, monkeypatch, tmp_path):
        settings = CASES[case]
        torch.save(relatives.state_below(ARRAYS, f"{case}/pretrain/"), tmp_path / "clip.pt")
        settings = {**settings, "size": settings["pretrain"]["model_size"]}
        cfg = configure(monkeypatch, settings, "MODEL.PRETRAIN_PATH", str(tmp_path / "clip.pt"))
        model = make_model(cfg, num_classes=3, **COUNTS)
        load_initial_weights(cfg, model)
        found = features_of(model, case, "pretrain_input")
        assert (found - relatives.tensor(ARRAYS, case, "pretrain_output")).abs().max() < 1e-5


def test_the_cases_are_there():
    assert {"clip_reid", "clip_reid_sie", "clip_reid_sie_stride12_after"} <= set(CASES)
    assert len(FULL_SIZE) == 4


@pytest.mark.parametrize("file", FULL_SIZE)
def test_files_at_full_size(file, tmp_path, caplog):
    """Names and shapes of CLIP-ReID's files, which are tested, and of OpenAI's, which begins a training."""
    caplog.set_level(logging.INFO)
    path, state = tmp_path / "a.pth", relatives.expanded(FULL_SIZE[file])
    if file.startswith("openai"):
        state |= {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77)}
        torch.save({name: value.half() if value.is_floating_point() else value for name, value in state.items()}, path)
        options = ("MODEL.TRANSFORMER_TYPE", "ViT-B-16", "MODEL.PRETRAIN_PATH", str(path))
        cfg = load_cfg(opts=["MODEL.SIE_CAMERA", "False", "CFAT.STAGE", "clean", *options])
        model = make_model(cfg, num_classes=3, **COUNTS)
        load_initial_weights(cfg, model)
        assert "positions resized from 14 x 14 to 16 x 8 patches" in caplog.text
        assert torch.equal(model.base.proj, state["visual.proj"].half().float())
        return
    torch.save(state, path)
    cameras = 6 if "cv_embed" in state else 4
    model = load_model(load_cfg(opts=[]), str(path), num_cameras=cameras, num_views=1)
    stride = 12 if "olp" in file else 16
    assert f"holds ViT-B-16, stride {stride} x {stride}" in caplog.text
    assert ("text_encoder." in caplog.text) == (file != "clip_reid_baseline_vit")  # what is left out is listed
    assert model.base.blocks[0].attn.num_heads == 12
    bias = state["image_encoder.transformer.resblocks.3.attn.in_proj_bias"]
    assert torch.equal(model.base.blocks[3].attn.qkv.bias, bias)
    assert torch.equal(model.bottleneck_proj.running_mean, state["bottleneck_proj.running_mean"])
    if cameras == 6:
        assert torch.equal(model.base.sie_embed[:, 0], state["cv_embed"])


def tiny(*opts, stage="clean"):
    return load_cfg(
        opts=[
            *("MODEL.TRANSFORMER_TYPE", TINY, "MODEL.PRETRAIN_PATH", "", "MODEL.SIE_COE", "1.0"),
            *("INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", "CFAT.STAGE", stage, *opts),
        ]
    )


class TestSideInformation:
    @torch.no_grad()
    def test_the_class_token_alone_gets_it(self):
        base = make_model(tiny(), num_classes=3, **COUNTS).base.eval()
        patches, side = torch.rand(2, 8, 24), torch.rand(2, 1, 24)
        plain, sided = base._pos_embed(patches), base._pos_embed(patches, side)
        assert torch.equal(plain[:, 1:], sided[:, 1:])
        torch.testing.assert_close(sided[:, :1], base.norm_pre(base.cls_token + side + base.pos_embed[:, :1]))

    @torch.no_grad()
    def test_the_mean_without_cameras(self, tmp_path, caplog):
        """With SIE_CAMERA False, every image gets the mean of the file's vectors."""
        model = make_model(tiny(), num_classes=3, **COUNTS).eval()
        torch.nn.init.normal_(model.base.sie_embed)
        torch.save(published(model), tmp_path / "a.pth")
        cfg = tiny("MODEL.SIE_CAMERA", "False", "TEST.FEATURE", "class_token")
        loaded = load_model(cfg, str(tmp_path / "a.pth"), **COUNTS)
        assert "every image gets the mean of the file's 4 side vectors" in caplog.text
        torch.testing.assert_close(loaded.base.sie_embed, model.base.sie_embed.mean(dim=0, keepdim=True))
        with pytest.raises(UserError, match="side information for 4 .* but the data set has 9"):
            load_model(tiny(), str(tmp_path / "a.pth"), num_cameras=9, num_views=1)


def published(model) -> dict[str, torch.Tensor]:
    """A model's state dict under CLIP-ReID's names."""
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace("base.blocks.", "image_encoder.transformer.resblocks.").replace("base.", "image_encoder.")
        for ours, theirs in NAMES:
            name = name.replace(ours, theirs)
        state[name] = value
    state["cv_embed"] = state.pop("image_encoder.sie_embed")[:, 0]
    state["image_encoder.class_embedding"] = state.pop("image_encoder.cls_token")[0, 0]
    state["image_encoder.positional_embedding"] = state.pop("image_encoder.pos_embed")[0]
    return {name: value for name, value in state.items() if not name.startswith("normalize.")}


NAMES = (
    ("patch_embed.proj", "conv1"),
    ("encoder.norm_pre", "encoder.ln_pre"),
    ("encoder.norm.", "encoder.ln_post."),
    (".norm1.", ".ln_1."),
    (".norm2.", ".ln_2."),
    ("attn.qkv.", "attn.in_proj_"),
    ("attn.proj", "attn.out_proj"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)


class TestTraining:
    @pytest.mark.parametrize("stage", ["clean", "corrupted", "bridge", "align"])
    def test_every_stage_trains(self, stage):
        cfg = tiny("CFAT.COSINE.PATCH_WEIGHT", "0.5", "CFAT.COSINE.CLASS_WEIGHT", "0.5", stage=stage)
        assert relatives.train_step(cfg) == []

    def test_recomputed_blocks_give_the_same_gradients(self):
        for plain, recomputed in relatives.gradients_with_and_without_checkpoint(tiny("MODEL.DROP_PATH", "0.3")):
            assert torch.equal(plain, recomputed)

    @torch.no_grad()
    def test_features(self):
        cfg = tiny("TEST.FEATURE", "neck", "TEST.FEAT_NORM", "False")
        model = make_model(cfg, num_classes=3, **COUNTS).eval()
        images, cameras = torch.rand(2, 3, 64, 32), torch.tensor([0, 3])
        output = model.encode(images, cameras)
        assert output.patch_tokens.shape == (2, 8, 24)
        projected = output.embedding @ model.base.proj
        torch.testing.assert_close(output.local_embeddings[0], projected)
        expected = torch.cat([model.bottleneck(output.embedding), model.bottleneck_proj(projected)], dim=1)
        torch.testing.assert_close(model.extract(images, cameras), expected)
        model.test_feature = "patch_mean"
        torch.testing.assert_close(model.extract(images, cameras), output.patch_tokens.mean(dim=1))

    @torch.no_grad()
    def test_attention_rollout(self):
        model = make_model(tiny(), num_classes=3, **COUNTS).eval()
        maps = model.attend(torch.rand(2, 3, 64, 32), torch.tensor([0, 3]))
        assert maps.shape == (2, 4, 2)
        torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(2))

    def test_layer_wise_decay(self):
        scales = layer_scales(make_model(tiny(), num_classes=3, **COUNTS), 0.5)
        embeddings = {name: scale for name, scale in scales.items() if "blocks" not in name}
        assert set(embeddings) == {
            *("base.cls_token", "base.pos_embed", "base.sie_embed", "base.patch_embed.proj.weight"),
            *("base.norm_pre.weight", "base.norm_pre.bias"),
        }
        assert set(embeddings.values()) == {0.5**4}
        assert scales["base.blocks.2.attn.qkv.weight"] == 0.5

    def test_round_trip(self, tmp_path):
        model = make_model(tiny(), num_classes=3, **COUNTS).eval()
        save_checkpoint(tmp_path / "clean.pth", model.export_state(), {"config": tiny().dump(), "stage": "clean"})
        loaded = load_model(tiny(), str(tmp_path / "clean.pth"), **COUNTS)
        images, cameras = torch.rand(2, 3, 64, 32), torch.tensor([0, 3])
        with torch.no_grad():
            assert torch.equal(loaded.extract(images, cameras), model.extract(images, cameras))

    def test_export(self, tmp_path):
        model = make_model(tiny("TEST.FEATURE", "class_token"), num_classes=0, **COUNTS).eval()
        assert export_model(model, tmp_path / "clip.pt2", img_size=(64, 32)) < 1e-4


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.JPM", "True"], f"MODEL.JPM True: for other vision transformers, not for {TINY}"),
        (["MODEL.REDUCE_FEAT_DIM", "True"], "MODEL.REDUCE_FEAT_DIM True: for other"),
        (["MODEL.STRIDE_SIZE", "[17, 16]"], "expected at most 16, the patch size"),
        (["INPUT.SIZE_TEST", "[96, 32]"], "differ; a vision transformer has one table of position embeddings"),
    ],
)
def test_what_does_not_go_with_it(opts, message):
    with pytest.raises(UserError, match=message):
        check(tiny(*opts))


def test_another_size_is_named(tmp_path):
    state = published(make_model(tiny(), num_classes=3, **COUNTS))
    state["image_encoder.proj"] = torch.rand(24, 5)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match="an image encoder of CLIP of another size than ViT-B-16"):
        load_model(tiny(), str(tmp_path / "a.pth"), **COUNTS)


def test_backbone_of_a_fine_tuned_file(tmp_path, caplog):
    """Of CLIP-ReID, for MODEL.PRETRAIN_PATH: side information of another data set is left out."""
    caplog.set_level(logging.INFO)
    source = make_model(tiny(), num_classes=3, **COUNTS)
    torch.save(published(source), tmp_path / "a.pth")
    cfg = tiny("MODEL.PRETRAIN_PATH", str(tmp_path / "a.pth"))
    model = make_model(cfg, num_classes=5, num_cameras=7, num_views=1)
    load_initial_weights(cfg, model)
    assert "side information of another data set (4 vectors) is left out" in caplog.text
    assert relatives.differing(model, source.state_dict() | model.state_dict(), "base.") == []
    assert torch.equal(model.base.proj, source.base.proj)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_encoder.positional_embedding", torch.rand(9), "of another size than ViT-B-16, .*, or a broken file"),
        ("image_encoder.class_embedding", torch.rand(2, 24), r"base.cls_token: \(2, 24\) in the file, \(1, 1, 24\)"),
        ("cv_embed", torch.rand(4, 1, 24, 1), r"base.sie_embed: \(4, 1, 24, 1\) in the file"),
        ("logit_scale", torch.tensor(1.0), r"logit_scale: \(\) in the file, not in the model"),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(name, value, message, tmp_path):
    state = published(make_model(tiny(), num_classes=3, **COUNTS)) | {name: value}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=message):
        load_model(tiny(), str(tmp_path / "a.pth"), **COUNTS)
