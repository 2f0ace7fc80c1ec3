"""load_model: the file decides the architecture; names and shapes of every released file load."""

import argparse
import json
import logging
import os

import pytest
import torch

from config import load_cfg, stage_cfg
from model import load_initial_weights, load_model, make_model
from model.jigsaw import JigsawReID
from model.resnet import GeMPool, ResNetReID
from tests.helpers import GOLDEN
from tests.model.test_cfat import COUNTS, SMALL, make, make_batch, save
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

RELEASED = json.loads((GOLDEN / "released_checkpoint_keys.json").read_text(encoding="utf-8"))
BRIDGE = "CFAT BB_120.pth"
MODELS = [name for name in RELEASED if name != BRIDGE]
MARKET = {"num_cameras": 6, "num_views": 1}


class Settings(argparse.Namespace):
    pass


def random_state(name: str, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of a released file."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in RELEASED[name].items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(5)
        elif key.endswith(("running_var", "normalize.std", "global_pool.p")):
            state[key] = torch.rand(shape, generator=generator) + 0.5
        else:
            state[key] = torch.randn(shape, generator=generator) * 0.02
    return state


def load(path, *opts, **counts):
    return load_model(load_cfg(opts=opts), str(path), **{**MARKET, **counts})


def fails(path, *opts, **counts) -> str:
    with pytest.raises(UserError) as caught:
        load(path, *opts, **counts)
    return str(caught.value)


# What the default configuration, CFAT's on Market-1501, says otherwise than each file.
HOLDS = {
    "TransReID market1501 vit_base": "MODEL.SIE_CAMERA False (configured True)",
    "TransReID market1501 vit_transreid_stride (SIE camera + JPM, stride 12)": "MODEL.STRIDE_SIZE [12, 12]",
    "TransReID market1501 deit_small": "MODEL.TRANSFORMER_TYPE deit_small_patch16_224_TransReID",
    "TransReID market1501 vit_small": "MODEL.TRANSFORMER_TYPE vit_small_patch16_224_TransReID",
    "CFAT market1501 120.pth": None,
    "CIL-ReID market1501 resnet50_120.pth": "MODEL.NAME resnet50 (configured transformer), MODEL.GEM_POOL True",
}


class TestReleasedFiles:
    @pytest.mark.parametrize("name", MODELS)
    def test_loads_and_runs_without_any_configuration(self, name, tmp_path, caplog):
        state = random_state(name)
        torch.save(state, tmp_path / "released.pth")
        with caplog.at_level(logging.INFO):
            model = load(tmp_path / "released.pth")
        images, cameras = torch.rand(2, 3, 256, 128), torch.tensor([0, 5])
        with torch.no_grad():
            features = model.extract(images, cameras, torch.zeros(2).long())
        width = state["bottleneck.weight"].shape[0]
        assert features.shape == (2, width * (5 if "JPM" in name else 1))
        torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
        for key, value in model.state_dict().items():
            if key in state:
                assert torch.equal(value, state[key]), key
        kept = {key for key in state if not key.startswith(("classifier", "base.fc."))}
        assert kept <= set(model.state_dict())
        disagreements = [record.message for record in caplog.records if "not the configured one" in record.message]
        expected = HOLDS[name]
        assert (expected in disagreements[0]) if expected else disagreements == []
        assert "751 classes" in caplog.text

    def test_the_list_is_complete(self):
        assert set(HOLDS) == set(MODELS)

    def test_released_cfat_with_its_bridge(self, tmp_path):
        torch.save(random_state("CFAT market1501 120.pth"), tmp_path / "120.pth")
        torch.save(random_state(BRIDGE), tmp_path / "BB_120.pth")
        weights = [
            "CFAT.CLEAN.WEIGHT",
            f"{tmp_path}/120.pth",
            "CFAT.CORRUPTED.WEIGHT",
            f"{tmp_path}/120.pth",
            "CFAT.BRIDGE.WEIGHT",
            f"{tmp_path}/BB_120.pth",
        ]
        cfg = stage_cfg(load_cfg(opts=[*weights, "CFAT.FINE.RELEASED", "True"]), "align")
        model = make_model(cfg, num_classes=751, **MARKET)
        load_initial_weights(cfg, model)
        for key, value in random_state(BRIDGE).items():
            assert torch.equal(model.bridge.state_dict()[key], value)
        images, corrupted = torch.rand(2, 2, 3, 256, 128)
        batch = {
            "images": images,
            "corrupted": corrupted,
            "camids": torch.tensor([0, 5]),
            "viewids": torch.zeros(2).long(),
        }
        output = model.train()(batch)
        assert output.bridge.reconstruction_logits.shape == (2, 751)
        assert all(torch.isfinite(part).all() for part in (output.bridge.bridge_latent.log_var, output.logits))
        (output.bridge.corrupted_latent.log_var.sum() + output.logits.sum()).backward()
        assert torch.isfinite(model.bridge.encoder.sigma.weight.grad).all()
        ours = stage_cfg(load_cfg(opts=weights), "align")
        with pytest.raises(UserError, match="a bridge in the released form; set CFAT.FINE.RELEASED to True"):
            load_initial_weights(ours, make_model(ours, num_classes=751, **MARKET))

    def test_a_bridge_is_no_model_to_test(self, tmp_path):
        torch.save(random_state(BRIDGE), tmp_path / "BB_120.pth")
        text = fails(tmp_path / "BB_120.pth")
        assert "holds CFAT's bridge (BFG) alone" in text
        assert "CFAT.BRIDGE.WEIGHT, with CFAT.FINE.RELEASED True" in text


class TestWrappings:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: {f"module.{name}": value for name, value in state.items()},
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {"model": {f"module.{name}": value for name, value in state.items()}, "optimizer": {}},
            lambda state: {"net": {"state_dict": {f"_orig_mod.module.{name}": state[name] for name in state}}},
            lambda state: {
                name.replace("base.", "base.module."): value.double() if value.is_floating_point() else value
                for name, value in state.items()
            },
        ],
    )
    def test_wrapped_and_prefixed(self, wrap, tmp_path):
        model = make("clean").eval()
        torch.save(wrap(model.state_dict()), tmp_path / "a.pth")
        loaded = load(tmp_path / "a.pth", *SMALL, num_cameras=3)
        batch = make_batch()
        with torch.no_grad():
            expected = model.extract(batch["images"], batch["camids"])
            assert torch.equal(loaded.extract(batch["images"], batch["camids"]), expected)

    def test_arbitrary_unpickling_is_refused(self, tmp_path):
        torch.save(make("clean"), tmp_path / "whole.pth")
        text = fails(tmp_path / "whole.pth")
        assert "more than tensors and plain values (model.reid.TransformerReID) and needs arbitrary unpickling" in text
        torch.save({"state_dict": make("clean").state_dict(), "args": Settings(lr=1)}, tmp_path / "args.pth")
        assert "Settings) and needs arbitrary unpickling" in fails(tmp_path / "args.pth")
        torch.save({"model": {}, "hook": os.system}, tmp_path / "evil.pth")
        assert "system) and needs arbitrary unpickling" in fails(tmp_path / "evil.pth")

    def test_damaged_files(self, tmp_path):
        torch.save(make("clean").state_dict(), tmp_path / "a.pth")
        (tmp_path / "half.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:5000])
        assert "damaged or incomplete" in fails(tmp_path / "half.pth")
        assert f"is a directory; give a file in it; {tmp_path} holds {tmp_path}/a.pth" in fails(tmp_path)
        torch.save([torch.zeros(1)], tmp_path / "list.pth")
        assert "holds a list, expected a dict of tensors" in fails(tmp_path / "list.pth")
        assert "no such file; " + str(tmp_path) in fails(tmp_path / "none.pth")


class TestWhatTheFileHolds:
    def test_round_trip(self, tmp_path):
        model = make("clean")
        save(tmp_path, "clean", model)
        loaded = load(tmp_path / "checkpoints" / "clean.pth", *SMALL, num_cameras=3)
        batch = make_batch()
        with torch.no_grad():
            expected = model.eval().extract(batch["images"], batch["camids"])
            assert torch.equal(loaded.extract(batch["images"], batch["camids"]), expected)

    @pytest.mark.parametrize("with_meta", [True, False])
    def test_jigsaw_and_stride_win_over_the_configuration(self, tmp_path, caplog, with_meta):
        opts = [
            *SMALL,
            "MODEL.JPM",
            "True",
            "MODEL.STRIDE_SIZE",
            "[8, 8]",
            "MODEL.DEVIDE_LENGTH",
            "3",
            "MODEL.SHIFT_NUM",
            "4",
        ]
        torch.manual_seed(0)
        model = make_model(load_cfg(opts=[*opts, "CFAT.STAGE", "clean"]), **COUNTS).eval()
        meta = {"config": load_cfg(opts=opts).dump()} if with_meta else {}
        save_checkpoint(tmp_path / "a.pth", model.export_state(), meta)
        # the shift shows in no shape: a file without its configuration needs it from ours
        loaded = load(tmp_path / "a.pth", *SMALL, *(() if with_meta else ("MODEL.SHIFT_NUM", "4")), num_cameras=3)
        assert isinstance(loaded, JigsawReID)
        assert loaded.settings == model.settings
        batch = make_batch()
        with torch.no_grad():
            found, expected = (each.extract(batch["images"], batch["camids"]) for each in (loaded, model))
        assert torch.equal(found, expected)
        assert "MODEL.JPM True (configured False)" in caplog.text
        assert "MODEL.STRIDE_SIZE [8, 8] (configured [16, 16])" in caplog.text

    @pytest.mark.parametrize("gem", [True, False])
    def test_resnet(self, tmp_path, gem):
        opts = [*SMALL, "MODEL.NAME", "resnet50", "MODEL.GEM_POOL", str(gem), "MODEL.STEM_RELU", "True"]
        model = make_model(load_cfg(opts=[*opts, "CFAT.STAGE", "clean"]), **COUNTS).eval()
        save_checkpoint(tmp_path / "a.pth", model.export_state(), {"config": load_cfg(opts=opts).dump()})
        loaded = load(tmp_path / "a.pth", *SMALL)
        assert isinstance(loaded, ResNetReID)
        assert isinstance(loaded.global_pool, GeMPool) == gem
        assert loaded.base.stem_relu
        images = torch.rand(2, 3, 64, 32)  # another size than it was trained with
        with torch.no_grad():
            assert torch.equal(loaded.extract(images), model.extract(images))

    def test_resnet_has_no_attention_to_show(self, tmp_path):
        torch.save(random_state("CIL-ReID market1501 resnet50_120.pth"), tmp_path / "a.pth")
        assert "this model is a ResNet-50; set TEST.ATTENTION_QUERIES to 0" in fails(
            tmp_path / "a.pth", "TEST.ATTENTION_QUERIES", "2"
        )

    def test_a_setting_without_shape_is_the_files(self, tmp_path, caplog):
        save_checkpoint(tmp_path / "a.pth", make("clean").export_state(), {"config": load_cfg(opts=SMALL).dump()})
        loaded = load(tmp_path / "a.pth", *SMALL, "MODEL.SIE_COE", "1.0", num_cameras=3)
        assert loaded.base.sie_coefficient == 3.0
        assert "MODEL.SIE_COE 3.0 (configured 1.0)" in caplog.text

    @pytest.mark.parametrize("meta", [3, {"config": 5}, {"config": "a: [1"}, {"config": "text"}, {"epoch": 12}])
    def test_what_others_call_meta(self, tmp_path, meta):
        torch.save({"model": make("clean").state_dict(), "meta": meta}, tmp_path / "a.pth")
        assert load(tmp_path / "a.pth", *SMALL, num_cameras=3).base.sie_embed.shape == (3, 1, 192)

    @pytest.mark.parametrize("line", ["STRIDE_SIZE: (16, 16)", "JPM: 'no'", "NAME: ResNet-50", "SIE_COE: None"])
    def test_values_of_a_configuration_of_others_are_left_out(self, tmp_path, caplog, line):
        for meta in ({}, {"stage": "clean"}):
            content = {"model": make("clean").state_dict(), "meta": {"config": f"MODEL:\n  {line}\n", **meta}}
            torch.save(content, tmp_path / "a.pth")
            if meta:  # of this project
                with pytest.raises(UserError, match=f"has MODEL.{line.split(':')[0]} .*damaged or was changed"):
                    load(tmp_path / "a.pth", *SMALL, num_cameras=3)
            else:
                assert load(tmp_path / "a.pth", *SMALL, num_cameras=3).base.sie_embed.shape == (3, 1, 192)
                assert f"has MODEL.{line.split(':')[0]} " in caplog.text

    def test_another_seed_is_logged(self, tmp_path, caplog):
        save_checkpoint(tmp_path / "a.pth", make("clean").export_state(), {"config": load_cfg(opts=SMALL).dump()})
        load(tmp_path / "a.pth", *SMALL, "SEED", "7", num_cameras=3)
        assert "trained with SEED 1234, now 7: the test samples other corruptions" in caplog.text

    def test_file_without_normalize_keeps_the_configured_mean(self, tmp_path, caplog):
        state = {name: value for name, value in make("clean").state_dict().items() if not name.startswith("normalize.")}
        torch.save(state, tmp_path / "transreid.pth")
        model = load(tmp_path / "transreid.pth", *SMALL, "INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]", num_cameras=3)
        assert model.normalize.mean.tolist() == [0.5, 0.5, 0.5]
        assert "holds no pixel mean" in caplog.text

    def test_a_backbone_that_timm_names(self, tmp_path):
        opts = [*SMALL, "MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_224"]
        model = make_model(load_cfg(opts=[*opts, "CFAT.STAGE", "clean"]), **COUNTS)
        torch.save(model.state_dict(), tmp_path / "bare.pth")
        assert len(load(tmp_path / "bare.pth", *opts, num_cameras=3).base.blocks) == 12
        text = fails(tmp_path / "bare.pth", *SMALL, num_cameras=3)
        assert "another size (width 192, depth 12, hidden width 768, with qkv bias)" in text
        assert "set MODEL.TRANSFORMER_TYPE to the name of its backbone in timm" in text
        save_checkpoint(tmp_path / "ours.pth", model.export_state(), {"config": load_cfg(opts=opts).dump()})
        assert len(load(tmp_path / "ours.pth", *SMALL, num_cameras=3).base.blocks) == 12

    def test_pixels_of_the_file_or_of_the_configuration(self, tmp_path, caplog):
        state = make("clean").state_dict()
        torch.save(state, tmp_path / "a.pth")
        model = load(tmp_path / "a.pth", *SMALL, "INPUT.PIXEL_STD", "[0.5, 0.5, 0.5]", num_cameras=3)
        assert "and deviation [0.229, 0.224, 0.225], which are used, not the configured INPUT.PIXEL_MEAN" in caplog.text
        assert torch.equal(model.normalize.std, state["normalize.std"])
        del state["normalize.std"]
        torch.save(state, tmp_path / "half.pth")
        model = load(tmp_path / "half.pth", *SMALL, "INPUT.PIXEL_MEAN", "[0.5, 0.5, 0.5]", num_cameras=3)
        assert "holds no pixel mean and deviation" in caplog.text
        assert model.normalize.mean.tolist() == [0.5, 0.5, 0.5]


class TestSideInformation:
    def test_another_camera_table(self, tmp_path):
        torch.save(make("clean").state_dict(), tmp_path / "a.pth")
        text = fails(tmp_path / "a.pth", *SMALL, num_cameras=6)
        assert "side information for 3 camera/viewpoint combinations, but the data set has 6" in text
        assert "set MODEL.SIE_CAMERA and SIE_VIEW to False: every image then gets the mean of the file's" in text
        text = fails(tmp_path / "a.pth", *SMALL, num_cameras=6, num_views=3)
        assert "the data set has 6; MODEL.SIE_VIEW True would fit, if that is how it was trained" in text

    def test_no_sides_wanted_though_they_would_fit(self, tmp_path, caplog):
        torch.save(make("clean").state_dict(), tmp_path / "a.pth")
        load(tmp_path / "a.pth", *SMALL, "MODEL.SIE_CAMERA", "False", num_cameras=3)
        assert "the mean of the file's 3 side vectors; MODEL.SIE_CAMERA True would fit" in caplog.text

    def test_without_sides_every_image_gets_the_mean_vector(self, tmp_path, caplog):
        model = make("clean").eval()
        torch.save(model.state_dict(), tmp_path / "a.pth")
        with caplog.at_level(logging.INFO):
            loaded = load(tmp_path / "a.pth", *SMALL, "MODEL.SIE_CAMERA", "False", num_cameras=15)
        assert "so every image gets the mean of the file's 3 side vectors\n" in caplog.text
        assert "not the configured one" not in caplog.text  # the user asked for it
        model.base.sie_embed.data[:] = model.base.sie_embed.data.mean(dim=0)
        batch = make_batch()
        with torch.no_grad():
            found = loaded.extract(batch["images"], batch["camids"] + 12)
            torch.testing.assert_close(found, model.extract(batch["images"], batch["camids"]))

    def test_cameras_or_viewpoints_as_the_file_was_trained(self, tmp_path):
        opts = [*SMALL, "MODEL.SIE_CAMERA", "False", "MODEL.SIE_VIEW", "True"]
        counts = {"num_classes": 5, "num_cameras": 3, "num_views": 3}
        model = make_model(load_cfg(opts=[*opts, "CFAT.STAGE", "clean"]), **counts)
        save_checkpoint(tmp_path / "a.pth", model.export_state(), {"config": load_cfg(opts=opts).dump()})
        loaded = load(tmp_path / "a.pth", *SMALL, num_cameras=3, num_views=3)
        assert (loaded.base.num_cameras, loaded.base.num_views) == (0, 3)


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("base.norm.weight", torch.ones(192, dtype=torch.int8), "torch.int8 in the file, expected a dense tensor"),
            ("base.norm.weight", torch.ones(192).to_sparse(), "torch.sparse_coo in the file"),
            ("module.base.norm.weight", torch.ones(192), "holds base.norm.weight twice"),
            ("base.sie_embed", torch.ones(0, 1, 192), "base.sie_embed has no rows"),
            ("base.pos_embed", torch.ones(()), "base.pos_embed"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:Sparse invariant checks")
    def test_tensors_that_cannot_be_weights(self, name, value, message, tmp_path):
        torch.save({**make("clean").state_dict(), name: value}, tmp_path / "a.pth")
        assert message in fails(tmp_path / "a.pth", *SMALL, num_cameras=3)

    def test_every_mismatch_with_both_shapes(self, tmp_path):
        state = make("clean").state_dict()
        state["base.norm.weight"] = torch.zeros(24)
        del state["base.norm.bias"]
        state["base.extra"] = torch.zeros(2)
        torch.save(state, tmp_path / "other.pth")
        text = fails(tmp_path / "other.pth", *SMALL, num_cameras=3)
        for line in (
            "base.norm.weight: (24,) in the file, (192,) in the model",
            "base.norm.bias: (192,) in the model, missing in the file",
            "base.extra: (2,) in the file, not in the model",
        ):
            assert line in text

    def test_another_image_size(self, tmp_path):
        torch.save(random_state(MODELS[0]), tmp_path / "a.pth")
        text = fails(tmp_path / "a.pth", "INPUT.SIZE_TRAIN", "[384, 128]", "INPUT.SIZE_TEST", "[384, 128]")
        assert "positions for 128 patches, which no usual stride makes of INPUT.SIZE_TEST [384, 128]" in text
        assert "perhaps [256, 128] with stride 16" in text
        save_checkpoint(tmp_path / "ours.pth", make("clean").export_state(), {"config": load_cfg(opts=SMALL).dump()})
        text = fails(tmp_path / "ours.pth", *SMALL, "INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]")
        assert "trained with INPUT.SIZE_TEST [32, 32], now [64, 32]" in text

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["cls_token", "pos_embed", "norm.weight"], "holds a bare backbone .*go to MODEL.PRETRAIN_PATH"),
            (["conv1.weight", "fc.weight"], "holds a bare backbone"),
            (["backbone.first.weight", "head.bias"], "its names begin with backbone, head: no known model"),
        ],
    )
    def test_other_models(self, names, message, tmp_path):
        torch.save({name: torch.zeros(1) for name in names}, tmp_path / "a.pth")
        with pytest.raises(UserError, match=message):
            load(tmp_path / "a.pth")

    def test_no_weight_given(self):
        with pytest.raises(UserError, match="TEST.WEIGHT is empty"):
            load("")
