"""Parts of the vision transformers of TransReID-SSL, PASS and PersonViT by plain formulas, and their training."""

import re

import pytest
import torch

from config import load_cfg
from model import check, load_model, make_model
from model.export import export_model
from model.ibn import IBN
from model.pooling import POOLINGS
from model.vit_sizes import VIT_SIZES, ViTSize
from solver.groups import layer_scales
from tests.model import relatives
from tests.model.test_attention_rollout import attention_by_hand
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

SIZE = ViTSize(24, 2, 3)
COUNTS = {"num_cameras": 4, "num_views": 1}
STEM, PARTS = ("MODEL.STEM_CONV", "True"), ("MODEL.PART_TOKENS", "True", "MODEL.SIE_CAMERA", "False")
STRUCTURES = {
    "stem": STEM,
    "stem_gem_reduced": (*STEM, "MODEL.POOLING", "gem", "MODEL.REDUCE_FEAT_DIM", "True", "MODEL.FEAT_DIM", "16"),
    "stem_jpm": (*STEM, "MODEL.JPM", "True"),
    "max": ("MODEL.POOLING", "max"),
    "avg_max": ("MODEL.POOLING", "avg_max"),
    "parts": PARTS,
    "parts_mean": (*PARTS, "MODEL.FEAT_FUSION", "mean"),
    "parts_one_neck": (*PARTS, "MODEL.MULTI_NECK", "False"),
    "parts_margin": (*PARTS, "MODEL.ID_LOSS_TYPE", "cosface"),
}


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch):
    monkeypatch.setitem(VIT_SIZES, "tiny_test", SIZE)


def tiny(*opts, stage="clean"):
    return load_cfg(
        opts=[
            *("MODEL.TRANSFORMER_TYPE", "tiny_test", "MODEL.PRETRAIN_PATH", "", "CFAT.STAGE", stage),
            *("INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", *opts),
        ]
    )


def make(*opts):
    torch.manual_seed(0)
    return make_model(tiny(*opts), num_classes=3, **COUNTS)


IMAGES, CAMIDS = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2])


class TestFormulas:
    def test_poolings_by_a_plain_loop(self):
        torch.manual_seed(0)
        class_token, patches = torch.randn(2, 3), torch.randn(2, 8, 3)
        for image in range(2):
            for channel in range(3):
                values = patches[image, :, channel].tolist()
                first = class_token[image, channel].item()
                expected = {
                    "class_token": first,
                    "avg": sum(values) / 8,
                    "max": max(values),
                    "avg_max": (max(values[:4]) + max(values[4:])) / 2,
                    "gem": first + (sum(max(value, 1e-6) ** 3 for value in values) / 8) ** (1 / 3),
                }
                for name, pooling in POOLINGS.items():
                    assert pooling(class_token, patches)[image, channel].item() == pytest.approx(
                        expected[name], abs=1e-6
                    ), name

    def test_gem_of_negative_tokens_has_finite_gradients(self):
        patches = torch.full((1, 8, 3), -1.0, requires_grad=True)
        POOLINGS["gem"](torch.zeros(1, 3), patches).sum().backward()
        assert patches.grad.isfinite().all()

    def test_half_of_the_channels_are_normalised_by_image(self):
        torch.manual_seed(0)
        layer, maps = IBN(5), torch.randn(4, 5, 3, 2)
        torch.nn.init.uniform_(layer.IN.weight)
        found = layer(maps)
        first, second = maps[:, :2], maps[:, 2:]
        mean, var = first.mean(dim=(2, 3), keepdim=True), first.var(dim=(2, 3), keepdim=True, unbiased=False)
        expected = (first - mean) / (var + 1e-5).sqrt() * layer.IN.weight[:, None, None]
        torch.testing.assert_close(found[:, :2], expected)
        mean, var = (
            part[:, None, None] for part in (second.mean(dim=(0, 2, 3)), second.var(dim=(0, 2, 3), correction=0))
        )
        torch.testing.assert_close(found[:, 2:], (second - mean) / (var + 1e-5).sqrt())
        torch.testing.assert_close(layer.eval()(maps)[:, :2], expected)  # no running statistics
        assert layer.half() is layer  # the attribute names hide no method

    @pytest.mark.parametrize("fusion", ["cat", "mean"])
    def test_part_tokens_share_no_start(self, fusion):
        model = make(*PARTS, "MODEL.FEAT_FUSION", fusion)
        tokens = [getattr(model.base, f"part_token{part}") for part in (1, 2, 3)]
        assert not any(torch.equal(tokens[0], other) for other in tokens[1:])
        assert model.embed_dim == {"cat": 48, "mean": 24}[fusion]
        assert model.classifier.weight.shape == (3, model.embed_dim)

    @pytest.mark.parametrize("fusion", ["cat", "mean"])
    def test_necks_of_a_foreign_embedding(self, fusion):
        """Where the parts are equal, a fused embedding and its tokens pass the same necks."""
        model = make(*PARTS, "MODEL.FEAT_FUSION", fusion).eval()
        for neck in (model.bottleneck, model.bottleneck_1, model.bottleneck_2, model.bottleneck_3):
            torch.nn.init.uniform_(neck.weight)
            neck.running_mean.uniform_()
        token = torch.rand(4, 24)
        part = torch.rand(4, 24) if fusion == "cat" else token
        necks = [model.bottleneck(token), *(getattr(model, f"bottleneck_{number}")(part) for number in (1, 2, 3))]
        embedding = torch.cat([token, part], dim=1) if fusion == "cat" else token
        mean = sum(necks[1:]) / 3
        expected = torch.cat([necks[0], mean], dim=1) if fusion == "cat" else (necks[0] + mean) / 2
        torch.testing.assert_close(model.neck_of_foreign(embedding), expected)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.train().neck_of_foreign(embedding)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class TestTraining:
    @pytest.mark.parametrize("stage", ["clean", "corrupted", "bridge", "align"])
    @pytest.mark.parametrize("structure", ["stem_gem_reduced", "parts"])
    def test_every_stage_trains(self, structure, stage):
        weights = ("CFAT.COSINE.PATCH_WEIGHT", "0.5", "CFAT.COSINE.CLASS_WEIGHT", "0.5")
        assert relatives.train_step(tiny(*STRUCTURES[structure], *weights, stage=stage)) == []

    @pytest.mark.parametrize("structure", [name for name in STRUCTURES if name not in ("stem_gem_reduced", "parts")])
    def test_every_structure_trains(self, structure):
        assert relatives.train_step(tiny(*STRUCTURES[structure])) == []

    @pytest.mark.parametrize("structure", ["stem", "parts"])
    def test_recomputed_blocks_give_the_same_gradients(self, structure):
        cfg = tiny(*STRUCTURES[structure], "MODEL.DROP_PATH", "0.3")
        for plain, recomputed in relatives.gradients_with_and_without_checkpoint(cfg):
            assert torch.equal(plain, recomputed)

    def test_a_recomputed_model_counts_a_batch_once(self):
        model = make(*STEM)
        model.base.set_grad_checkpointing()
        batch = relatives.make_batch(tiny(*STEM), 4)
        model.train()(batch).logits.sum().backward()
        counts = {int(value) for name, value in model.state_dict().items() if name.endswith("num_batches_tracked")}
        assert counts == {1}

    def test_losses_see_the_fused_embedding(self):
        model = make(*PARTS).eval()
        output = model.encode(IMAGES, CAMIDS)
        assert output.embedding.shape == output.features.shape == (2, 48)
        assert output.local_embeddings == ()
        assert output.patch_tokens.shape == (2, 8, 24)
        tokens = model.base(model.normalize(IMAGES))
        expected = torch.cat([tokens[:, 0], tokens[:, 1:4].mean(dim=1)], dim=1)
        torch.testing.assert_close(output.embedding, expected)
        torch.testing.assert_close(output.patch_tokens, tokens[:, 4:])

    def test_layer_wise_decay(self):
        names = set()
        for structure in ("stem", "parts"):
            scales = layer_scales(make(*STRUCTURES[structure]), 0.5)
            names |= {re.sub(r"\d", "", name.removeprefix("base.")) for name in scales if scales[name] == 0.125}
        assert {name.split(".")[0] for name in names} == {
            *("cls_token", "pos_embed", "sie_embed", "patch_embed", "part_token", "cls_pos", "part_pos")
        }
        assert {"patch_embed.conv..weight", "patch_embed.conv..IN.bias", "patch_embed.proj.bias"} <= names


class TestFiles:
    @pytest.mark.parametrize("structure", STRUCTURES)
    def test_round_trip(self, structure, tmp_path):
        """The configuration says nothing of the structure: names, shapes and the stored configuration do."""
        cfg = tiny(*STRUCTURES[structure], "TEST.FEATURE", "neck")
        model = make_model(cfg, num_classes=3, **COUNTS).eval()
        save_checkpoint(tmp_path / "clean.pth", model.export_state(), {"config": cfg.dump(), "stage": "clean"})
        opts = ("TEST.FEATURE", "neck", "MODEL.SIE_CAMERA", str(cfg.MODEL.SIE_CAMERA))
        loaded = load_model(tiny(*opts), str(tmp_path / "clean.pth"), **COUNTS)
        with torch.no_grad():
            assert torch.equal(loaded.extract(IMAGES, CAMIDS), model.extract(IMAGES, CAMIDS))

    @pytest.mark.parametrize(("structure", "name"), [("stem_gem_reduced", "model.onnx"), ("parts", "model.pt2")])
    def test_export(self, structure, name, tmp_path):
        model = make(*STRUCTURES[structure], "TEST.FEATURE", "neck").eval()
        assert export_model(model, tmp_path / name, img_size=(64, 32)) < 1e-4


class TestAttention:
    @pytest.mark.parametrize(
        ("structure", "shares"),
        [
            ("stem", [1] + [0] * 8),
            ("max", [0] + [1 / 8] * 8),
            ("stem_gem_reduced", [1 / 2] + [1 / 16] * 8),
            ("parts", [1 / 2, 1 / 6, 1 / 6, 1 / 6] + [0] * 8),
        ],
    )
    @torch.no_grad()
    def test_maps_by_a_plain_loop(self, structure, shares):
        model = make(*STRUCTURES[structure]).eval()
        for name, parameter in model.named_parameters():
            if "qkv" in name:  # random weights attend almost evenly
                torch.nn.init.normal_(parameter, std=0.6)
        inputs = []
        handle = model.base.blocks[0].register_forward_pre_hook(lambda block, tokens: inputs.append(tokens[0]))
        model.extract(IMAGES, CAMIDS)
        handle.remove()
        maps = model.attend(IMAGES, CAMIDS)
        for image in range(2):
            state, rollout = inputs[0][image : image + 1], torch.eye(inputs[0].shape[1])
            for block in model.base.blocks:
                rollout = (attention_by_hand(block, SIZE, state[0]) + torch.eye(len(rollout))) / 2 @ rollout
                state = block(state)
            row = sum(share * values for share, values in zip(shares, rollout, strict=True))[-8:]
            torch.testing.assert_close(maps[image].flatten(), row / row.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        ((*PARTS, "MODEL.JPM", "True"), r"PART_TOKENS True does not go with MODEL.JPM True \(set it to False\)$"),
        (
            ("MODEL.PART_TOKENS", "True"),
            r"PART_TOKENS True does not go with MODEL.SIE_CAMERA True \(set it to False\)$",
        ),
        (
            (*PARTS, "MODEL.POOLING", "gem"),
            r"PART_TOKENS True does not go with MODEL.POOLING gem \(set it to class_token",
        ),
        ((*PARTS, "MODEL.REDUCE_FEAT_DIM", "True"), "PART_TOKENS True does not go with MODEL.REDUCE_FEAT_DIM True"),
        (("MODEL.JPM", "True", "MODEL.POOLING", "avg"), "MODEL.JPM True does not go with MODEL.POOLING avg"),
        (
            (*STEM, "MODEL.STRIDE_SIZE", "[12, 12]"),
            r"with MODEL.STEM_CONV True patches do not overlap; set it to \[16, 16",
        ),
        (
            (*STEM, "INPUT.SIZE_TRAIN", "[63, 32]", "INPUT.SIZE_TEST", "[63, 32]"),
            "not whole patches of 16 pixels, which MODEL.STEM_CONV True needs",
        ),
        (
            ("MODEL.POOLING", "avg_max", "INPUT.SIZE_TRAIN", "[48, 48]", "INPUT.SIZE_TEST", "[48, 48]"),
            r"it groups patches by 4, and an image of \[48, 48\] has 9",
        ),
    ],
)
def test_what_does_not_go_together(opts, message):
    with pytest.raises(UserError, match=message):
        check(tiny(*opts))
