"""Backbones of timm: their features against timm's own, side information, strides, and what cannot be asked of them."""

import copy

import pytest
import timm
import torch

import tests.tiny_timm  # noqa: F401
from config import load_cfg
from model import check, make_model
from model.check import check_architecture
from model.drop_path import DropPath
from model.export import export_model
from model.make_reid import make_reid
from model.timm_backbone import make_timm_backbone
from model.timm_structure import timm_structure
from solver import check as check_solver
from solver import make_optimizer
from utils import sharding
from utils.errors import UserError

# name -> image size, rows and columns, width of the feature and of the local features
MODELS = {
    "tiny_dinov2": ((56, 28), (4, 2), 24, 24),
    "tiny_dinov2_reg": ((56, 28), (4, 2), 24, 24),
    "tiny_swin": ((64, 32), (8, 4), 24, 24),
    "test_convnext": ((64, 64), (2, 2), 64, 64),
    "test_resnet": ((64, 32), (2, 1), 96, 96),
    "mobilenetv3_small_050": ((64, 32), (2, 1), 1024, 288),  # a layer before its classifier
}
COUNTS = {"num_classes": 5, "num_cameras": 3, "num_views": 1}


def make_base(name, img_size=None, stride=(16, 16), **options):
    img_size = img_size or MODELS[name][0]
    structure = timm_structure(name, img_size, stride)
    torch.manual_seed(0)
    options = {"side_width": structure.side_width, **options}
    return make_timm_backbone(name, img_size, structure.layout, stride=stride, **options)


def make_cfg(name, *opts, size=None):
    size = str(list(size or MODELS[name][0]))
    settings = ["MODEL.NAME", "timm", "MODEL.TRANSFORMER_TYPE", name, "INPUT.SIZE_TRAIN", size, "INPUT.SIZE_TEST", size]
    return load_cfg(opts=[*settings, "MODEL.PRETRAIN_PATH", "", "CFAT.STAGE", "clean", *opts])


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_features_are_those_that_timm_pools_and_its_cells_row_by_row(name):
    img_size, (rows, columns), width, local_width = MODELS[name]
    base, images = make_base(name).eval(), rand(2, 3, *img_size)
    options = {"img_size": img_size} if "swin" in name or "dinov2" in name else {}
    plain = timm.create_model(name, num_classes=0, **options).eval()
    plain.load_state_dict(base.state_dict())  # under timm's names
    embedding, local = base(images)
    assert embedding.shape == (2, width)
    assert local.shape == (2, rows * columns, local_width)
    assert torch.equal(embedding, plain(images))
    features = plain.forward_features(images)
    if "swin" in name:
        features = features.permute(0, 3, 1, 2)
    for row in range(rows):
        for column in range(columns):
            place = row * columns + column
            expected = features[:, -rows * columns + place] if "dinov2" in name else features[:, :, row, column]
            assert torch.equal(local[:, place], expected)


@pytest.mark.parametrize("name", ["tiny_dinov2", "tiny_dinov2_reg"])
@torch.no_grad()
def test_side_information_is_added_to_every_token(name):
    base = make_base(name, num_cameras=3, num_views=2, sie_coefficient=2.0).eval()
    images, seen = rand(2, 3, 56, 28), []
    base.blocks[0].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0]))
    camids, viewids = torch.tensor([2, 0]), torch.tensor([1, 1])
    base(images, camids, viewids)
    table = base.sie_embed.clone()
    assert table.shape == (6, 1, 24)
    base.sie_embed.zero_()
    base(images, camids, viewids)
    torch.testing.assert_close(seen[0] - seen[1], (2 * table[[5, 1]]).expand_as(seen[0]), atol=1e-6, rtol=0)
    copy.deepcopy(base)  # no activation stays in the model
    with pytest.raises(ValueError, match="camids, or viewids, of the images are missing"):
        base(images, camids)


def test_overlapping_patches():
    base = make_base("tiny_dinov2", stride=(7, 7))
    assert base.patch_embed.grid_size == (7, 3)
    assert base.pos_embed.shape == (1, 1 + 21, 24)
    assert base(rand(1, 3, 56, 28))[1].shape == (1, 21, 24)
    assert base.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)
    assert timm_structure("test_vit", (64, 32)).layout.grid == (4, 2)  # the default is the model's own stride
    assert timm_structure("tiny_dinov2", (56, 28)).layout.grid == (4, 2)


REFUSED = {
    "size": ("tiny_dinov2", (64, 32), [], r"patches of 14 x 14 .*to \[56, 28\] or \[70, 42\], multiples of 14"),
    "small": ("test_convnext", (56, 28), [], r"this size \(it leaves no local .*to .*\[64, 32\], multiples of"),
    "unknown": ("tiny_dinov3", (56, 28), [], "timm has no model of this name; did you mean tiny_dinov2"),
    "no single map": ("crossvit_9_240", (240, 240), [], "no global and local features .*neither tokens nor one map"),
    "stride": ("tiny_swin", (64, 32), ["MODEL.STRIDE_SIZE", "[2, 2]"], r"patches of tiny_swin .*set it to \[16, 16\]"),
    "large stride": ("tiny_dinov2", (56, 28), ["MODEL.STRIDE_SIZE", "[20, 7]"], "more than a patch of tiny_dinov2"),
    "jigsaw": ("tiny_dinov2", (56, 28), ["MODEL.JPM", "True"], "set MODEL.JPM to False .*for MODEL.NAME transformer"),
    "cameras": ("tiny_swin", (64, 32), ["MODEL.SIE_CAMERA", "True"], "set MODEL.SIE_CAMERA to False .*tokens"),
    "maps": ("tiny_swin", (64, 32), ["TEST.ATTENTION_QUERIES", "2"], "set TEST.ATTENTION_QUERIES to 0 .*class token"),
    "two": (
        "test_resnet",
        (64, 32),
        ["MODEL.SIE_VIEW", "True", "MODEL.ATT_DROP_RATE", "0.1"],
        "set MODEL.SIE_VIEW to False .*; MODEL.ATT_DROP_RATE to 0.0",
    ),
    "two sizes": ("tiny_swin", (64, 32), ["INPUT.SIZE_TRAIN", "[32, 32]"], "differ; tiny_swin is made for images of"),
    "checkpoint": ("test_resnet", (64, 32), ["SOLVER.GRAD_CHECKPOINT", "True"], "BatchNorm layers of test_resnet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_one_error_for_what_a_model_cannot_do(case):
    name, size, opts, message = REFUSED[case]
    cfg = make_cfg(name, "MODEL.SIE_CAMERA", str(name.startswith("tiny_dinov")), *opts, size=size)
    with pytest.raises(UserError, match=message) as caught:
        check(cfg)
    assert "\n" not in str(caught.value)


def test_maps_take_images_of_any_size():
    cfg = make_cfg("test_convnext", "MODEL.SIE_CAMERA", "False", "INPUT.SIZE_TRAIN", "[96, 64]")
    check(cfg)
    model = make_model(cfg, **COUNTS).eval()
    for size, cells in (((64, 64), 4), ((96, 64), 6)):
        assert model.encode(rand(1, 3, *size)).patch_tokens.shape == (1, cells, 64)


def test_test_features():
    found = {}
    for feature in ("class_token", "neck", "patch_mean"):
        opts = ["MODEL.SIE_CAMERA", "False", "TEST.FEATURE", feature, "TEST.FEAT_NORM", "False"]
        torch.manual_seed(0)
        model = make_model(make_cfg("tiny_dinov2_reg", *opts), **COUNTS).eval()
        found[feature] = model.extract(rand(2, 3, 56, 28))
    tokens = model.base.forward_features(model.normalize(rand(2, 3, 56, 28)))  # class token, 4 registers, 8 patches
    torch.testing.assert_close(found["class_token"], tokens[:, 0])
    torch.testing.assert_close(found["neck"], model.bottleneck(tokens[:, 0]))
    torch.testing.assert_close(found["patch_mean"], tokens[:, 5:].mean(dim=1))


def step(name, *opts):
    """Gradients of one step from seed 0, on two views of each of two images."""
    cfg = make_cfg(name, "MODEL.SIE_CAMERA", "False", "MODEL.DROP_PATH", "0.5", *opts)
    torch.manual_seed(0)
    model = make_model(cfg, **COUNTS).train()
    with sharding.views(2):
        output = model.encode(rand(4, 3, *MODELS[name][0]))
    (output.logits.square().mean() + output.patch_tokens.square().mean()).backward()
    return model, {name: value.grad for name, value in model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("name", ["tiny_dinov2_reg", "tiny_swin"])
def test_gradient_checkpointing_gives_the_same_gradients(name, monkeypatch):
    """With two processes' masks, which need the number of views again in backward."""
    monkeypatch.setattr("utils.sharding.world_size", lambda: 2)
    monkeypatch.setattr("utils.sharding.rank", lambda: 1)
    model, expected = step(name)
    _, found = step(name, "SOLVER.GRAD_CHECKPOINT", "True")
    assert any(isinstance(module, DropPath) for module in model.base.modules())
    assert all(torch.equal(found[key], gradient) for key, gradient in expected.items())
    assert all(gradient is not None for gradient in expected.values())


def test_drop_rates_reach_the_model():
    cfg = make_cfg("tiny_dinov2", "MODEL.DROP_OUT", "0.2", "MODEL.ATT_DROP_RATE", "0.3", "MODEL.DROP_PATH", "0.4")
    base = make_model(cfg, **COUNTS).base
    block = base.blocks[1]
    assert (base.pos_drop.p, block.mlp.drop1.p, block.attn.attn_drop.p) == (0.2, 0.2, 0.3)
    assert block.drop_path1.drop_prob == pytest.approx(0.4)
    assert base.head_drop.p == 0
    resnet = make_model(make_cfg("test_resnet", "MODEL.SIE_CAMERA", "False", "MODEL.DROP_OUT", "0.2"), **COUNTS).base
    assert resnet.drop_rate == 0.2  # the one dropout that it has


def test_layer_decay():
    cfg = make_cfg("tiny_dinov2", "SOLVER.LAYER_DECAY", "0.5", "SOLVER.BASE_LR", "0.01", "MODEL.DEVICE", "cpu")
    check_solver(cfg)
    model = make_model(cfg, **COUNTS)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(cfg, model, torch.nn.Module())
    scales = {names[id(p)]: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    steps = {
        **dict.fromkeys(["base.cls_token", "base.pos_embed", "base.sie_embed", "base.patch_embed."], 3),
        **{"base.blocks.0.": 2, "base.blocks.1.": 1, "base.norm.": 1, "bottleneck": 0, "classifier": 0},
    }  # timm counts the norm to the last block
    for name, scale in scales.items():
        (expected,) = [number for prefix, number in steps.items() if name.startswith(prefix)]
        assert scale == 0.5**expected, name


@torch.no_grad()
def test_attention_rollout_with_registers():
    cfg = make_cfg("tiny_dinov2_reg", "TEST.ATTENTION_QUERIES", "2")
    check_architecture(cfg)
    torch.manual_seed(0)
    model = make_model(cfg, **COUNTS).eval()
    for block in model.base.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.6)  # random weights attend almost evenly
    images, camids, inputs = rand(2, 3, 56, 28), torch.tensor([0, 2]), []
    for block in model.base.blocks:
        block.attn.register_forward_pre_hook(lambda attn, args: inputs.append(args[0]))
    found = model.attend(images, camids)
    assert found.shape == (2, 4, 2)
    for image in range(2):
        rollout = torch.eye(13)
        for block, tokens in zip(model.base.blocks, inputs, strict=True):
            query, key, _ = block.attn.qkv(tokens[image]).chunk(3, dim=1)
            heads = [
                torch.softmax(query[:, part] @ key[:, part].T / 8**0.5, dim=1)
                for part in (slice(0, 8), slice(8, 16), slice(16, 24))
            ]
            rollout = (sum(heads) / 3 + torch.eye(13)) / 2 @ rollout
        expected = rollout[0, 5:] / rollout[0, 5:].sum()
        torch.testing.assert_close(found[image].flatten(), expected)


@pytest.mark.filterwarnings("ignore")  # of torch.export
@pytest.mark.parametrize("name", ["tiny_dinov2_reg", "tiny_swin"])
def test_export(name, tmp_path):
    cameras = name == "tiny_dinov2_reg"
    cfg = make_cfg(name, "MODEL.SIE_CAMERA", str(cameras))
    torch.manual_seed(0)
    model = make_reid(cfg, num_classes=0, num_cameras=3, num_views=1).eval()
    assert export_model(model, tmp_path / "model.pt2", img_size=MODELS[name][0]) < 1e-5
    module = torch.export.load(tmp_path / "model.pt2").module()
    images, camids = rand(5, 3, *MODELS[name][0]), torch.arange(5) % 3
    found = module(images, camids=camids) if cameras else module(images)
    torch.testing.assert_close(found, model.extract(images, camids), atol=1e-5, rtol=0)
