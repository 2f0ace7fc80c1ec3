"""SOLIDER's Swin: reference outputs, published names, training."""

import logging
import math
import re

import pytest
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer

from config import load_cfg
from model import check, load_initial_weights, load_model, make_model
from model.export import export_model
from model.swin import MASKED, PatchMerging, shift_mask
from model.swin_sizes import SWIN_SIZES, SwinSize
from solver.groups import layer_scales
from tests.model import relatives
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

CASES, ARRAYS = relatives.load_cases("solider")
FULL_SIZE = relatives.load_full_size("solider")
COUNTS = {"num_cameras": 4, "num_views": 1}
TINY = "swin_tiny_test"


@pytest.fixture(autouse=True)
def tiny_size(monkeypatch):
    monkeypatch.setitem(SWIN_SIZES, TINY, SwinSize(8, (2, 1, 1, 2), (1, 2, 4, 8)))
    monkeypatch.setitem(SWIN_SIZES, "swin_shallow_test", SwinSize(8, (2, 1, 1, 1), (1, 2, 4, 8)))


def register(monkeypatch, settings) -> None:
    size = SwinSize(settings["embed_dim"], tuple(settings["depths"]), tuple(settings["heads"]))
    monkeypatch.setitem(SWIN_SIZES, "swin_of_case", size)


def configure(settings, *opts):
    options = ("MODEL.TRANSFORMER_TYPE", "swin_of_case", "MODEL.SEMANTIC_WEIGHT")
    return load_cfg(opts=relatives.options_of(settings, *options, str(settings["settings"]["SEMANTIC_WEIGHT"]), *opts))


@torch.no_grad()
def difference(model, case, suffix="", output=""):
    images = relatives.case_tensor(CASES, ARRAYS, case, f"input{suffix}")
    return (model.eval().extract(images) - relatives.tensor(ARRAYS, case, output or f"output{suffix}")).abs().max()


class TestReferenceModels:
    @pytest.mark.parametrize("case", CASES)
    def test_every_output(self, case, monkeypatch, tmp_path, caplog):
        settings, path = CASES[case], tmp_path / "swin.pth"
        register(monkeypatch, settings)
        torch.save(relatives.case_state(CASES, ARRAYS, case), path)
        assert difference(load_model(configure(settings), str(path), **COUNTS), case) < 1e-5
        outputs = [name.split("/")[1] for name in ARRAYS if name.startswith(f"{case}/output_")]
        for name in outputs:
            opts, suffix = (), ""
            if weight := re.fullmatch(r"output_semantic_weight_(-?[\d.]+)", name):
                if float(weight[1]) < 0:
                    continue  # see test_without_semantic_control
                opts = ("MODEL.SEMANTIC_WEIGHT", weight[1])
            elif name == "output_after":
                opts = ("TEST.FEATURE", "neck")
            else:
                suffix = name.removeprefix("output")  # another image size
            model = load_model(configure(settings, *opts), str(path), **COUNTS)
            assert difference(model, case, suffix, name) < 1e-5, name

    @pytest.mark.parametrize("case", [case for case in CASES if "pretrain" in CASES[case]])
    def test_pretrained(self, case, monkeypatch, tmp_path, caplog):
        settings, path = CASES[case], tmp_path / "checkpoint.pth"
        register(monkeypatch, settings)
        own = relatives.case_state(CASES, ARRAYS, case)
        teacher = {
            name: own.get(name.replace("backbone.", "base."), torch.zeros(shape))
            for name, shape in settings["pretrain"]["names"]
        }
        torch.save({settings["pretrain"]["wrapping"]: teacher, "epoch": 100}, path)
        cfg = configure(settings, "MODEL.PRETRAIN_PATH", str(path))
        model = make_model(cfg, num_classes=3, **COUNTS)
        load_initial_weights(cfg, model)
        assert difference(model, case) < 1e-5


def test_the_cases_are_there():
    assert "solider" in CASES
    assert len(FULL_SIZE) == 6


@pytest.mark.skipif("solider/output_semantic_weight_-1.0" not in ARRAYS, reason="no such output in this directory")
def test_without_semantic_control(monkeypatch, tmp_path, caplog):
    settings = CASES["solider"]
    register(monkeypatch, settings)
    state = relatives.case_state(CASES, ARRAYS, "solider")
    torch.save({name: value for name, value in state.items() if "semantic" not in name}, tmp_path / "a.pth")
    model = load_model(configure(settings), str(tmp_path / "a.pth"), **COUNTS)
    assert difference(model, "solider", output="output_semantic_weight_-1.0") < 1e-5
    assert "MODEL.SEMANTIC_WEIGHT -1.0 (configured 0.2)" in caplog.text
    torch.save(
        {"teacher": {f"backbone.{name[5:]}": state[name] for name in state if name[:5] == "base."}}, tmp_path / "b"
    )
    cfg = configure(settings, "MODEL.PRETRAIN_PATH", str(tmp_path / "b"), "MODEL.SEMANTIC_WEIGHT", "-1")
    model = make_model(cfg, num_classes=3, **COUNTS)
    load_initial_weights(cfg, model)
    assert difference(model, "solider", output="output_semantic_weight_-1.0") < 1e-5


@pytest.mark.parametrize("file", FULL_SIZE)
def test_files_at_full_size(file, tmp_path, caplog):
    """Names and shapes of SOLIDER's files; fine-tuned ones are tested, pretrained ones begin a training."""
    caplog.set_level(logging.INFO)
    path, pretrained = tmp_path / "a.pth", "pretrain" in file
    state = relatives.expanded(FULL_SIZE[file])
    torch.save({"teacher": state} if pretrained else {f"module.{name}": value for name, value in state.items()}, path)
    name = f"swin_{re.search('tiny|small|base', file)[0]}_patch4_window7_224"
    if pretrained:
        options = ("MODEL.TRANSFORMER_TYPE", name, "MODEL.PRETRAIN_PATH", str(path))
        cfg = load_cfg(opts=["MODEL.SIE_CAMERA", "False", "CFAT.STAGE", "clean", *options])
        model = make_model(cfg, num_classes=3, **COUNTS)
        load_initial_weights(cfg, model)
    else:
        model = load_model(load_cfg(opts=[]), str(path), **COUNTS)
        assert f"holds {name}, semantic weight 0.2, 751 classes" in caplog.text
        assert "MODEL.SEMANTIC_WEIGHT 0.2 of the configuration is used" in caplog.text
    assert relatives.differing(model, state, "backbone." if pretrained else "base.") == []
    used = {name for name in state if not relatives.UNUSED.search(name)}
    assert len(used) == len(list(model.base.state_dict())) + (0 if pretrained else 5)
    assert "semantic_embed_w.N.weight" in caplog.text  # what is left out is listed


class TestMicrosoftFiles:
    """Names and order of https://github.com/microsoft/Swin-Transformer, which timm's Swin has too."""

    @pytest.fixture
    def timm_model(self):
        torch.manual_seed(0)
        # Maps of 112, 56, 28 and 14 cells: larger than a window, so that timm shifts in the same blocks.
        sizes = {"embed_dim": 8, "depths": (2, 1, 1, 2), "num_heads": (1, 2, 4, 8)}
        model = SwinTransformer(img_size=448, num_classes=1000, **sizes).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return model

    @pytest.mark.parametrize("names", ["timm", "microsoft"])
    def test_computes_what_timm_does(self, timm_model, names, tmp_path):
        state = timm_model.state_dict()
        if names == "microsoft":  # a merging belongs to the stage before it; the head and tables have other names
            state = {
                re.sub(
                    r"^layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name
                ).replace("head.fc.", "head."): value
                for name, value in state.items()
            }
            state["layers.0.blocks.1.attn_mask"] = torch.zeros(256, 49, 49)
            state["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49).long()
        torch.save({"model": state}, tmp_path / "swin.pth")
        cfg = tiny("MODEL.PRETRAIN_PATH", str(tmp_path / "swin.pth"), "MODEL.SEMANTIC_WEIGHT", "-1")
        model = make_model(cfg, num_classes=3, **COUNTS).eval()
        load_initial_weights(cfg, model)
        images = torch.rand(1, 3, 448, 448)
        with torch.no_grad():
            expected = timm_model.forward_features(images).mean(dim=(1, 2))
            assert (model.base(images).mean(dim=(1, 2)) - expected).abs().max() < 1e-5

    def test_tables_of_another_window_are_resized(self, timm_model, tmp_path):
        state, name = timm_model.state_dict(), "layers.0.blocks.0.attn.relative_position_bias_table"
        state[name] = torch.rand(23 * 23, 1)  # windows of 12 x 12
        torch.save(state, tmp_path / "swin.pth")
        cfg = tiny("MODEL.PRETRAIN_PATH", str(tmp_path / "swin.pth"), "MODEL.SEMANTIC_WEIGHT", "-1")
        model = make_model(cfg, num_classes=3, **COUNTS)
        load_initial_weights(cfg, model)
        square = state[name].T.reshape(1, 1, 23, 23)
        expected = F.interpolate(square, size=(13, 13), mode="bicubic").flatten()
        found = model.base.stages[0].blocks[0].attn.w_msa.relative_position_bias_table[:, 0]
        torch.testing.assert_close(found, expected)

    def test_needs_no_semantic_control(self, timm_model, tmp_path):
        torch.save(timm_model.state_dict(), tmp_path / "swin.pth")
        cfg = tiny("MODEL.PRETRAIN_PATH", str(tmp_path / "swin.pth"))
        with pytest.raises(UserError, match=r"without SOLIDER's semantic control.*set MODEL.SEMANTIC_WEIGHT to -1"):
            load_initial_weights(cfg, make_model(cfg, num_classes=3, **COUNTS))


def tiny(*opts, stage="clean"):
    return load_cfg(
        opts=[
            *("MODEL.TRANSFORMER_TYPE", TINY, "MODEL.SIE_CAMERA", "False", "MODEL.PRETRAIN_PATH", ""),
            *("INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", "CFAT.STAGE", stage, *opts),
        ]
    )


class TestLayers:
    @pytest.mark.parametrize(("rows", "columns"), [(7, 7), (14, 7), (21, 14)])
    def test_mask_by_a_plain_loop(self, rows, columns):
        """After the shift a window holds cells of up to four regions that are no neighbours."""
        region = torch.zeros(rows, columns)
        for number, (start, end) in enumerate([(0, rows - 7), (rows - 7, rows - 3), (rows - 3, rows)]):
            region[start:end] += 3 * number
        for number, (start, end) in enumerate([(0, columns - 7), (columns - 7, columns - 3), (columns - 3, columns)]):
            region[:, start:end] += number
        windows = [
            region[row : row + 7, column : column + 7].flatten()
            for row in range(0, rows, 7)
            for column in range(0, columns, 7)
        ]
        expected = torch.stack([MASKED * (cells[:, None] != cells[None]) for cells in windows])
        assert torch.equal(shift_mask(rows, columns, torch.device("cpu")), expected)

    @torch.no_grad()
    def test_merging_has_the_order_of_unfold(self):
        torch.manual_seed(0)
        merging, maps = PatchMerging(3), torch.rand(2, 5, 3, 3)  # odd sides
        padded = F.pad(maps.permute(0, 3, 1, 2), (0, 1, 0, 1))
        cells = F.unfold(padded, 2, stride=2).transpose(1, 2).unflatten(1, (3, 2))
        torch.testing.assert_close(merging(maps), merging.reduction(merging.norm(cells)))

    def test_layer_wise_decay(self):
        """2 + 1 + 1 + 2 blocks; a merging has the lr of the block before it."""
        model = make_model(tiny(), num_classes=3, **COUNTS)
        scales, above = layer_scales(model, 0.5), {}
        for name, scale in scales.items():
            layer = re.match(r"base\.([a-z_]+(\.\d\.[a-z]+(\.\d)?)?)", name)[1]
            above.setdefault(int(math.log2(1 / scale)), set()).add(layer)
        assert above == {
            7: {"patch_embed"},
            6: {"stages.0.blocks.0"},
            5: {"stages.0.blocks.1", "stages.0.downsample"},
            4: {"stages.1.blocks.0", "stages.1.downsample"},
            3: {"stages.2.blocks.0", "stages.2.downsample"},
            2: {"stages.3.blocks.0"},
            1: {"stages.3.blocks.1"},
        }


class TestTraining:
    @pytest.mark.parametrize("stage", ["clean", "corrupted", "bridge", "align"])
    def test_every_stage_trains(self, stage):
        cfg = tiny("CFAT.COSINE.PATCH_WEIGHT", "0.5", "CFAT.COSINE.CLASS_WEIGHT", "0.5", stage=stage)
        assert relatives.train_step(cfg) == []

    def test_recomputed_blocks_give_the_same_gradients(self):
        gradients = relatives.gradients_with_and_without_checkpoint(tiny("MODEL.DROP_PATH", "0.3"))
        for plain, recomputed in gradients:
            assert torch.equal(plain, recomputed)

    @torch.no_grad()
    def test_features(self):
        cfg = tiny("TEST.FEATURE", "patch_mean", "TEST.FEAT_NORM", "False")
        model = make_model(cfg, num_classes=3, **COUNTS).eval()
        images = torch.rand(2, 3, 64, 32)
        output = model.encode(images)
        assert output.patch_tokens.shape == (2, 2 * 1, 64)  # 64 / 32 x 32 / 32 cells
        torch.testing.assert_close(model.extract(images), output.embedding)  # the mean over the cells
        assert model.extract(torch.rand(1, 3, 90, 41)).shape == (1, 64)  # any size

    def test_round_trip(self, tmp_path):
        model = make_model(tiny(), num_classes=3, **COUNTS)
        cfg = tiny("MODEL.SEMANTIC_WEIGHT", "0.7")
        save_checkpoint(tmp_path / "clean.pth", model.export_state(), {"config": cfg.dump(), "stage": "clean"})
        loaded = load_model(tiny(), str(tmp_path / "clean.pth"), **COUNTS)
        assert loaded.base.semantic_input.tolist() == pytest.approx([0.7, 0.3])

    def test_export(self, tmp_path):
        cfg = tiny("MODEL.TRANSFORMER_TYPE", "swin_shallow_test")
        model = make_model(cfg, num_classes=0, **COUNTS).eval()
        assert export_model(model, tmp_path / "swin.pt2", img_size=(64, 32)) < 1e-4


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.SIE_CAMERA", "True"], "has no side information of cameras and viewpoints; set both to False"),
        (["MODEL.JPM", "True"], "MODEL.JPM True: for other vision transformers, not for swin_tiny_test"),
        (["MODEL.POOLING", "gem", "MODEL.STEM_CONV", "True"], "MODEL.STEM_CONV True, MODEL.POOLING gem: for other"),
        (["TEST.ATTENTION_QUERIES", "3"], "attention maps are those of a class token, and swin_tiny_test has none"),
    ],
)
def test_what_a_swin_has_not(opts, message):
    with pytest.raises(UserError, match=message):
        check(tiny(*opts))


def test_semantic_weight_is_a_share_or_off():
    assert tiny("MODEL.SEMANTIC_WEIGHT", "-1").MODEL.SEMANTIC_WEIGHT == -1
    for wrong in ("-0.5", "1.5"):
        with pytest.raises(UserError, match="MODEL.SEMANTIC_WEIGHT.*a number from 0 to 1, or -1"):
            tiny("MODEL.SEMANTIC_WEIGHT", wrong)


class TestReducedFeatures:
    """MODEL.REDUCE_FEAT_DIM, a linear layer before the neck, as SOLIDER-REID has it."""

    def test_file_decides(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        cfg = tiny("MODEL.REDUCE_FEAT_DIM", "True", "MODEL.FEAT_DIM", "12", "TEST.FEATURE", "class_token")
        model = make_model(cfg, num_classes=3, **COUNTS).eval()
        torch.save(model.state_dict(), tmp_path / "a.pth")
        loaded = load_model(tiny("TEST.FEATURE", "class_token"), str(tmp_path / "a.pth"), **COUNTS)
        assert "semantic weight 0.2, features reduced to 12" in caplog.text
        images = torch.rand(2, 3, 64, 32)
        with torch.no_grad():
            assert torch.equal(loaded.extract(images), model.extract(images))
            assert loaded.extract(images).shape == (2, 12)

    def test_backbone_of_a_fine_tuned_file(self, tmp_path):
        cfg = tiny("MODEL.REDUCE_FEAT_DIM", "True", "MODEL.FEAT_DIM", "12")
        source = make_model(cfg, num_classes=3, **COUNTS)
        torch.save(source.state_dict(), tmp_path / "a.pth")
        model = make_model(tiny(), num_classes=5, **COUNTS)
        load_initial_weights(tiny("MODEL.PRETRAIN_PATH", str(tmp_path / "a.pth")), model)
        assert relatives.differing(model, source.state_dict(), "base.") == []


def test_files_of_other_backbones_are_named(tmp_path):
    """A Swin's file for a vision transformer, and the other way round."""
    swin = make_model(tiny(), num_classes=3, **COUNTS)
    torch.save(swin.base.state_dict(), tmp_path / "swin.pth")
    sizes = ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]", "CFAT.STAGE", "clean"]
    small = [*sizes, "MODEL.TRANSFORMER_TYPE", "vit_tiny_patch16_128_TransReID"]
    cfg = load_cfg(opts=[*small, "MODEL.PRETRAIN_PATH", str(tmp_path / "swin.pth")])
    vit = make_model(cfg, num_classes=3, **COUNTS)
    with pytest.raises(UserError, match="weights of a Swin transformer, and the model is a vision transformer"):
        load_initial_weights(cfg, vit)
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    with pytest.raises(UserError, match="weights of a vision transformer, and the model is a Swin transformer"):
        load_initial_weights(tiny("MODEL.PRETRAIN_PATH", str(tmp_path / "vit.pth")), swin)
    loaded = load_model(tiny(), str(tmp_path / "vit.pth"), **COUNTS)  # a file to test decides
    assert type(loaded.base).__name__ == "TransReIDViT"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base.patch_embed.projection.weight", torch.tensor(1.0)),
        ("base.stages.0.blocks.0.attn.w_msa.relative_position_bias_table", torch.rand(169)),
        ("base.stages.3.blocks.1.attn.w_msa.relative_position_bias_table", torch.rand(0, 8)),
        ("base.semantic_embed_w.0.weight", torch.eye(16).to_sparse()),
    ],
)
def test_a_broken_file_is_an_error_of_one_line(name, value, tmp_path):
    state = make_model(tiny(), num_classes=3, **COUNTS).state_dict() | {name: value}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"another size|does not fit"):
        load_model(tiny(), str(tmp_path / "a.pth"), **COUNTS)
