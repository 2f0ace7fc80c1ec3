"""The structure of a vision transformer in a file: what names and shapes decide, and what does not fit."""

import logging

import pytest
import torch

from config import load_cfg
from model import load_initial_weights, load_model, make_model, match_pretrained
from model.vit_sizes import NAMESAKES, VIT_SIZES, ViTSize
from model.weights.position_embeddings import find_grid
from tests.model.test_vit_structures import COUNTS, PARTS, STEM, make, tiny
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

FILE = "model.pth"


@pytest.fixture(autouse=True)
def sizes(monkeypatch, tmp_path):
    monkeypatch.setitem(VIT_SIZES, "tiny_test", ViTSize(24, 2, 3))
    monkeypatch.setitem(VIT_SIZES, "other_test", ViTSize(32, 1, 2))
    monkeypatch.chdir(tmp_path)


def load(*opts):
    return load_model(tiny("MODEL.SIE_CAMERA", "False", *opts), FILE, **COUNTS)


def fails(*opts):
    with pytest.raises(UserError) as caught:
        load(*opts)
    return str(caught.value)


def save(*opts, drop=(), **others):
    state = make("MODEL.SIE_CAMERA", "False", *opts).state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith(drop)} | others, FILE)
    return state


class TestFileToTest:
    @pytest.mark.parametrize("fusion", ["cat", "mean"])
    @pytest.mark.parametrize("multi_neck", ["True", "False"])
    def test_fusion_by_width(self, multi_neck, fusion):
        wrong = {"cat": "mean", "mean": "cat"}[fusion]
        opts = (*PARTS, "MODEL.MULTI_NECK", multi_neck, "MODEL.FEAT_FUSION", fusion)
        save(*opts)
        model = load("MODEL.FEAT_FUSION", wrong)
        assert (model.fusion, model.multi_neck) == (fusion, multi_neck == "True")
        save(*opts, drop=("classifier",))
        expected = wrong if multi_neck == "True" else fusion  # a neck for each token has the tokens' width
        assert load("MODEL.FEAT_FUSION", wrong).fusion == expected

    def test_necks_of_parts_are_no_jigsaw(self, caplog):
        caplog.set_level(logging.INFO)
        save(*PARTS)
        assert not hasattr(load(), "b1")
        assert "holds tiny_test, stride 16 x 16, part tokens (cat, a neck each), 3 classes" in caplog.text
        assert "MODEL.PART_TOKENS True (configured False)" in caplog.text

    def test_a_stem_has_one_stride(self, caplog):
        caplog.set_level(logging.INFO)
        save(*STEM, "MODEL.REDUCE_FEAT_DIM", "True", "MODEL.FEAT_DIM", "7")
        model = load("MODEL.STRIDE_SIZE", "[12, 12]")
        assert model.fcneck.weight.shape == (7, 24)
        assert "stride 16 x 16, stem of convolutions, features reduced to 7, 3 classes" in caplog.text
        large = ("INPUT.SIZE_TRAIN", "[128, 64]", "INPUT.SIZE_TEST", "[128, 64]")
        assert "positions for 8 patches, which no usual stride makes of INPUT.SIZE_TEST [128, 64]" in fails(*large)

    def test_pooling_is_the_stored_or_the_configured_one(self, caplog):
        save()
        assert load("MODEL.POOLING", "max").pooling == "max"
        state = {"model": make().state_dict()}
        save_checkpoint(FILE, state, {"config": tiny("MODEL.POOLING", "avg").dump(), "stage": "clean"})
        assert load("MODEL.POOLING", "max").pooling == "avg"
        assert "MODEL.POOLING avg (configured max)" in caplog.text
        text = "\n".join(line for line in tiny().dump().splitlines() if "POOLING" not in line)
        save_checkpoint(FILE, state, {"config": text, "stage": "clean"})  # of a version before the key
        assert load("MODEL.POOLING", "max").pooling == "class_token"
        save(*PARTS)
        assert load("MODEL.POOLING", "max").pooling == "class_token"

    @pytest.mark.parametrize(
        ("opts", "extra", "message"),
        [
            (PARTS, {"b1.1.weight": torch.zeros(24)}, "part tokens (PASS) and a jigsaw patch module (JPM)"),
            (PARTS, {"base.sie_embed": torch.zeros(4, 1, 24)}, "part tokens (PASS) and side information"),
            (PARTS, {"fcneck.weight": torch.zeros(8, 24)}, "part tokens (PASS) and a reduction of features (fcneck)"),
            (
                ("MODEL.JPM", "True"),
                {"fcneck.weight": torch.zeros(8, 24)},
                "a jigsaw patch module (JPM) and a reduction of features (fcneck)",
            ),
        ],
    )
    def test_parts_that_no_model_has_together(self, opts, extra, message):
        save(*opts, **extra)
        assert fails() == f"checkpoint {FILE}: a model with {message}, which is not built here"

    @pytest.mark.parametrize(
        ("opts", "name"),
        [(PARTS, "base.part2_pos"), (PARTS, "bottleneck_2.weight"), (STEM, "base.patch_embed.conv.4.IN.weight")],
    )
    def test_what_is_missing_is_named(self, opts, name):
        save(*opts, drop=(name,))
        assert f"{name}: (" in fails()
        assert "missing in the file" in fails()


def pretrained_cfg(*opts):
    return tiny("MODEL.SIE_CAMERA", "False", "MODEL.PRETRAIN_PATH", FILE, *opts)


def pretrain(*opts):
    cfg = pretrained_cfg(*opts)
    model = make_model(cfg, num_classes=3, **COUNTS)
    load_initial_weights(cfg, model)
    return model


class TestPretrained:
    @pytest.mark.parametrize("opts", [STEM, PARTS, (*STEM, "MODEL.POOLING", "gem", "MODEL.REDUCE_FEAT_DIM", "True")])
    def test_backbone_of_a_fine_tuned_model(self, opts, caplog):
        caplog.set_level(logging.INFO)
        state = save(*opts)
        model = pretrain(*opts)
        assert all(torch.equal(value, state[f"base.{name}"]) for name, value in model.base.state_dict().items())
        assert "bottleneck.weight" in caplog.text.split("in the file and not used: ")[1]

    @pytest.mark.parametrize(
        ("structure", "key", "title"),
        [
            (STEM, "STEM_CONV", "a stem of convolutions (ICS)"),
            (PARTS, "PART_TOKENS", "part tokens (PASS)"),
        ],
    )
    def test_another_structure(self, structure, key, title):
        save(*structure)
        with pytest.raises(UserError) as caught:
            pretrain()
        found = f"its backbone has {title}, and the model has none; set MODEL.{key} to True"
        assert str(caught.value) == f"MODEL.PRETRAIN_PATH {FILE}: {found}, or give other weights"
        save()
        with pytest.raises(UserError) as caught:
            pretrain(*structure)
        assert f"its backbone has no {title.removeprefix('a ')}; set MODEL.{key} to False" in str(caught.value)

    def test_another_size(self):
        save("MODEL.TRANSFORMER_TYPE", "other_test")
        with pytest.raises(UserError, match=r"of width 32, depth 1, .* has width 24, .*TRANSFORMER_TYPE to other_test"):
            pretrain()

    def test_positions_of_part_tokens_are_kept(self):
        state = save(*PARTS)
        large = ("INPUT.SIZE_TRAIN", "[128, 32]", "INPUT.SIZE_TEST", "[128, 32]")
        base = pretrain(*PARTS, *large, "MODEL.PRETRAIN_HW_RATIO", "2").base
        assert torch.equal(base.part2_pos, state["base.part2_pos"])
        assert base.pos_embed.shape == (1, 16, 24)
        grid = state["base.pos_embed"].reshape(4, 2, 24)  # twice as many rows: bilinear, with pixel centres
        found = base.pos_embed.reshape(8, 2, 24)
        torch.testing.assert_close(found[1], 0.75 * grid[0] + 0.25 * grid[1])
        torch.testing.assert_close(found[2], 0.25 * grid[0] + 0.75 * grid[1])

    def test_settings_of_a_stage_to_start_from(self):
        path = "clean.pth"
        cfg = tiny("MODEL.POOLING", "avg")
        save_checkpoint(path, {"model": make().state_dict()}, {"config": cfg.dump(), "stage": "clean"})
        cfg = tiny("CFAT.CLEAN.WEIGHT", path, "CFAT.CORRUPTED.INIT", "clean", stage="corrupted")
        with pytest.raises(UserError, match="trained with MODEL.POOLING avg, now class_token"):
            load_initial_weights(cfg, make_model(cfg, num_classes=3, **COUNTS))


class TestMatchPretrained:
    @pytest.mark.parametrize(("structure", "key"), [(STEM, "STEM_CONV"), (PARTS, "PART_TOKENS")])
    def test_the_file_decides_its_structure(self, structure, key, caplog):
        save(*structure)
        cfg = pretrained_cfg()
        matched = match_pretrained(cfg, [cfg])
        assert matched.MODEL[key] is True
        assert matched.is_frozen()
        assert not cfg.MODEL[key]
        assert f"MODEL.PRETRAIN_PATH {FILE} decides: MODEL.{key} True (configured False)" in caplog.text
        assert match_pretrained(matched, [matched]) is matched

    def test_a_name_of_two_sizes(self, monkeypatch, caplog):
        monkeypatch.setitem(NAMESAKES, "tiny_test", "other_test")
        cfg = pretrained_cfg()
        save("MODEL.TRANSFORMER_TYPE", "other_test")
        assert match_pretrained(cfg, [cfg]).MODEL.TRANSFORMER_TYPE == "other_test"
        assert "MODEL.TRANSFORMER_TYPE other_test (configured tiny_test)" in caplog.text
        save()
        assert match_pretrained(cfg, [cfg]) is cfg

    def test_the_name_of_two_sizes(self):
        ours, theirs = "vit_small_patch16_224_TransReID", NAMESAKES["vit_small_patch16_224_TransReID"]
        assert (VIT_SIZES[ours].embed_dim, VIT_SIZES[ours].depth) == (768, 8)
        assert theirs == "vit_small_patch16_224"

    @pytest.mark.parametrize(
        "opts",
        [("MODEL.PRETRAIN_PATH", ""), ("MODEL.PRETRAIN_PATH", "none.pth"), ("MODEL.PRETRAIN_PATH", "timm:test_vit")],
    )
    def test_no_file(self, opts):
        cfg = tiny(*opts)
        assert match_pretrained(cfg, [cfg]) is cfg

    def test_a_file_that_nothing_starts_from(self):
        save(*PARTS)
        cfg = pretrained_cfg("CFAT.CLEAN.WEIGHT", "clean.pth", "CFAT.STAGE", "align")
        assert match_pretrained(cfg, [cfg]) is cfg

    def test_a_backbone_of_another_kind(self):
        save(*PARTS)
        cfg = load_cfg(opts=["MODEL.NAME", "resnet50", "MODEL.PRETRAIN_PATH", FILE, "CFAT.STAGE", "clean"])
        assert match_pretrained(cfg, [cfg]) is cfg


class TestRatio:
    def grid(self, count, hw_ratio, **given):
        options = {"stored": {}, "given_size": (0, 0), "square": None, **given}
        return find_grid(
            count, patch_size=16, own=(16, 8), own_stride=(16, 16), source="file", hw_ratio=hw_ratio, **options
        )

    @pytest.mark.parametrize(
        ("count", "hw_ratio", "grid"),
        [
            (128, 2, (16, 8)),
            (18, 2, (6, 3)),
            (196, 1, (14, 14)),
            (144, 1, (12, 12)),
            (16, 1, (4, 4)),
            (128, 0, (16, 8)),
        ],
    )
    def test_grid(self, count, hw_ratio, grid):
        assert self.grid(count, hw_ratio) == grid

    @pytest.mark.parametrize(("count", "hw_ratio"), [(128, 1), (196, 2), (144, 2), (210, 2)])
    def test_no_such_grid(self, count, hw_ratio):
        message = f"positions of {count} patches, which no grid of MODEL.PRETRAIN_HW_RATIO {hw_ratio} has; set it to 0"
        with pytest.raises(UserError, match=message):
            self.grid(count, hw_ratio)

    @pytest.mark.parametrize(
        "given", [{"given_size": (192, 192)}, {"stored": {"INPUT.SIZE_TEST": [192, 192]}, "square": False}]
    )
    def test_it_may_not_contradict_the_size(self, given):
        assert self.grid(144, 1, **given) == (12, 12)
        with pytest.raises(
            UserError, match=r"RATIO is 2, but .*\[192, 192\].* makes 12 x 12 patches; leave the key out"
        ):
            self.grid(144, 2, **given)

    def test_a_grid_of_overlapping_patches_has_the_ratio_of_its_image(self):
        stored = {"INPUT.SIZE_TEST": [256, 128], "MODEL.STRIDE_SIZE": [12, 12]}
        assert self.grid(210, 2, stored=stored) == (21, 10)
