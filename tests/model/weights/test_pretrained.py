"""Pretrained weights: files of TransReID, timm and torchvision, and what does not fit."""

import logging

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from config import load_cfg, stage_cfg
from model import load_initial_weights, make_model
from model.resnet import ResNetTrunk
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize
from model.weights.position_embeddings import find_grid, resize_position_embedding
from model.weights.pretrained import load_pretrained
from tests.model.test_cfat import COUNTS, SMALL
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

SIZE = ViTSize(24, 2, 3)


def make_base(img_size=(32, 32), **options):
    torch.manual_seed(0)
    return TransReIDViT(img_size, SIZE, **options)


def with_heads(state):
    return {**state, "head.weight": torch.zeros(10, 24), "head.bias": torch.zeros(10)}


def test_imagenet_names_and_square_grid(tmp_path, caplog):
    source = make_base((64, 64))
    torch.save(with_heads(source.state_dict()), tmp_path / "vit.pth")
    torch.manual_seed(1)
    base = TransReIDViT((32, 32), SIZE, num_cameras=3)
    with caplog.at_level(logging.INFO):
        load_pretrained(base, str(tmp_path / "vit.pth"))
    assert torch.equal(base.blocks[1].attn.qkv.weight, source.blocks[1].attn.qkv.weight)
    grid = source.pos_embed[:, 1:].reshape(4, 4, 24)
    # halving a side bilinearly, with pixel centres, averages pairs
    by_hand = (grid[0::2, 0::2] + grid[1::2, 0::2] + grid[0::2, 1::2] + grid[1::2, 1::2]) / 4
    torch.testing.assert_close(base.pos_embed[0, 1:], by_hand.reshape(4, 24))
    assert torch.equal(base.pos_embed[:, :1], source.pos_embed[:, :1])
    (line,) = [record.message for record in caplog.records if "parameters and buffers loaded" in record.message]
    assert "left at their initial values: sie_embed" in line
    assert "in the file and not used: head.weight, head.bias" in line


def test_distillation_token_is_dropped(tmp_path):
    embedding = torch.arange(6.0).reshape(1, 6, 1)  # class, distillation, 2 x 2
    resized = resize_position_embedding(embedding, (2, 2), from_grid=(2, 2), num_prefix=2)
    assert resized.flatten().tolist() == [0, 2, 3, 4, 5]
    # as DeiT's released files: wrapped, with two heads
    source = make_base()
    state = {
        **with_heads(source.state_dict()),
        "dist_token": torch.ones(1, 1, 24),
        "head_dist.weight": torch.zeros(10, 24),
    }
    class_token, patches = source.pos_embed[:, :1], source.pos_embed[:, 1:]
    state["pos_embed"] = torch.cat([class_token, torch.full((1, 1, 24), 9.0), patches], dim=1)
    torch.save({"model": state}, tmp_path / "deit_small_distilled.pth")
    base = TransReIDViT((32, 32), SIZE)
    load_pretrained(base, str(tmp_path / "deit_small_distilled.pth"))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in base.state_dict().items())


def grid_of_file(count, *, own=(16, 8), stored=None, size=(0, 0), square=None):
    return find_grid(
        count,
        patch_size=16,
        own=own,
        own_stride=(16, 16),
        stored=stored or {},
        given_size=size,
        square=square,
        source="file",
    )


@pytest.mark.parametrize(
    ("count", "grid"),
    [(196, (14, 14)), (576, (24, 24)), (128, (16, 8)), (192, (24, 8)), (210, (21, 10)), (310, (31, 10)), (32, (8, 4))],
)
def test_grids_of_published_sizes(count, grid):
    assert grid_of_file(count) == grid


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize(
    ("size", "stride", "grid"),
    [
        ([128, 32], 16, (8, 2)),
        ([288, 128], 16, (18, 8)),
        ([192, 192], 16, (12, 12)),
        ([128, 64], 16, (8, 4)),
        ([160, 64], 16, (10, 4)),
        ([256, 128], 12, (21, 10)),
        ([224, 96], 11, (19, 8)),
        ([512, 64], 16, (32, 4)),
    ],
)
def test_grids_of_the_stored_configuration_or_the_key(size, stride, grid, key):
    count = grid[0] * grid[1]
    stored = {"INPUT.SIZE_TEST": size, "MODEL.STRIDE_SIZE": [stride, stride]}
    given = {"size": tuple(size)} if key else {"stored": stored}
    for square in (True, False, None):
        assert grid_of_file(count, square=square, **given) == grid
    with pytest.raises(UserError, match=f"positions of {count + 1} patches, but .* which makes another number"):
        grid_of_file(count + 1, **given)


@pytest.mark.parametrize(
    ("count", "own", "square", "readings"),
    [
        (144, (16, 8), None, "18 x 8 or 12 x 12"),
        (144, (18, 8), False, "18 x 8 or 12 x 12"),
        (16, (8, 2), None, "8 x 2 or 4 x 4"),
        (16, (16, 8), False, "4 x 4"),  # of a re-identification model: hardly 64 x 64 pixels
        (128, (32, 4), False, "16 x 8 or 32 x 4"),
        (196, (28, 7), None, "14 x 14 or 28 x 7"),
        (130, (16, 8), None, "neither those of a square"),
    ],
)
def test_ambiguous_grids_ask_for_the_key(count, own, square, readings):
    with pytest.raises(UserError, match=f"positions of {count} patches, (perhaps )?{readings}.*MODEL.PRETRAIN_SIZE"):
        grid_of_file(count, own=own, square=square)


@pytest.mark.parametrize("count", [0, -1])  # -1: the class token alone, beside a distillation token
@pytest.mark.parametrize("stored", [{}, {"INPUT.SIZE_TEST": [128, 64]}])
@pytest.mark.parametrize("square", [None, True, False])
def test_a_table_without_patches(count, stored, square):
    with pytest.raises(UserError, match="its positions hold no patches; the file is broken"):
        grid_of_file(count, stored=stored, square=square)


def test_key_and_configuration_that_disagree():
    with pytest.raises(UserError, match=r"MODEL.PRETRAIN_SIZE is \[64, 64\], but its configuration says \[128, 32\]"):
        grid_of_file(16, stored={"INPUT.SIZE_TEST": [128, 32]}, size=(64, 64))


def test_positions_of_a_re_identification_checkpoint_by_its_own_configuration(tmp_path):
    """128 x 32 pixels are 8 x 2 patches, as many as 4 x 4."""
    sizes = [*SMALL, "INPUT.SIZE_TRAIN", "[128, 32]", "INPUT.SIZE_TEST", "[128, 32]", "CFAT.STAGE", "clean"]
    source = make_model(load_cfg(opts=sizes), **COUNTS)
    save_checkpoint(tmp_path / "ours.pth", source.export_state(), {"config": load_cfg(opts=sizes).dump()})
    torch.save(source.state_dict(), tmp_path / "bare.pth")
    expected = resize_position_embedding(source.base.pos_embed, (4, 4), from_grid=(8, 2), num_prefix=1)
    for name, key in (("ours", "[0, 0]"), ("bare", "[128, 32]")):
        opts = ["MODEL.PRETRAIN_PATH", str(tmp_path / f"{name}.pth"), "MODEL.PRETRAIN_SIZE", key]
        wide = ["INPUT.SIZE_TRAIN", "[64, 64]", "INPUT.SIZE_TEST", "[64, 64]"]
        cfg = stage_cfg(load_cfg(opts=[*SMALL, *wide, *opts]), "clean")
        model = make_model(cfg, **COUNTS)
        load_initial_weights(cfg, model)
        assert torch.equal(model.base.pos_embed, expected)


def test_positions_of_a_grid_that_is_not_square():
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(8.0), indexing="ij")
    embedding = torch.stack([rows, columns], dim=2).reshape(1, 128, 2)
    resized = resize_position_embedding(
        torch.cat([torch.zeros(1, 1, 2), embedding], dim=1), (8, 4), from_grid=(16, 8), num_prefix=1
    )
    found = resized[0, 1:].reshape(8, 4, 2)
    torch.testing.assert_close(found[:, 0, 0], torch.arange(8) * 2 + 0.5)  # means of two neighbours
    torch.testing.assert_close(found[0, :, 1], torch.arange(4) * 2 + 0.5)


def test_backbone_of_a_re_identification_checkpoint(tmp_path, caplog):
    cfg = load_cfg(opts=[*SMALL, "CFAT.STAGE", "clean"])
    source = make_model(cfg, num_classes=9, num_cameras=7, num_views=1)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "market.pth")
    staged = stage_cfg(load_cfg(opts=[*SMALL, "MODEL.PRETRAIN_PATH", str(tmp_path / "market.pth")]), "clean")
    model = make_model(staged, **COUNTS)
    with caplog.at_level(logging.INFO):
        load_initial_weights(staged, model)
    assert torch.equal(model.base.cls_token, source.base.cls_token)
    assert model.base.sie_embed.shape == (3, 1, 192)
    assert "side information of another data set (7 vectors) is left out" in caplog.text
    (line,) = [record.message for record in caplog.records if "in the file and not used" in record.message]
    assert "not used: base.sie_embed, bottleneck.bias" in line
    assert "classifier.weight, normalize.mean, normalize.std" in line


def test_the_global_branch_of_a_jigsaw_model_is_the_last_block(tmp_path):
    opts = [*SMALL, "MODEL.JPM", "True", "CFAT.STAGE", "clean"]
    source = make_model(load_cfg(opts=opts), **COUNTS)
    for parameter in source.b1.parameters():  # as training leaves it: away from the block that nothing uses
        parameter.data.add_(1)
    torch.save(source.state_dict(), tmp_path / "jpm.pth")
    for target in (SMALL, opts):
        cfg = stage_cfg(load_cfg(opts=[*target, "MODEL.PRETRAIN_PATH", str(tmp_path / "jpm.pth")]), "clean")
        model = make_model(cfg, **COUNTS)
        load_initial_weights(cfg, model)
        last = model.b2[0] if target is opts else model.base.blocks[-1]
        assert torch.equal(last.attn.qkv.weight, source.b1[0].attn.qkv.weight)


def test_a_square_grid_is_resized_though_another_has_as_many_patches(tmp_path):
    source = make_base((64, 64))
    torch.save({**source.state_dict(), "head.weight": torch.zeros(1000, 24)}, tmp_path / "vit.pth")  # ImageNet's
    base = TransReIDViT((128, 32), SIZE)  # 8 x 2, as many as 4 x 4
    load_pretrained(base, str(tmp_path / "vit.pth"))
    expected = resize_position_embedding(source.pos_embed, (8, 2), from_grid=(4, 4), num_prefix=1)
    assert torch.equal(base.pos_embed, expected)
    assert not torch.equal(base.pos_embed, source.pos_embed)


def test_jigsaw_branches_are_initialised_from_the_file(tmp_path):
    source = TransReIDViT((32, 32), ViTSize(192, 6, 6))
    torch.save(source.state_dict(), tmp_path / "vit.pth")
    opts = [*SMALL, "MODEL.JPM", "True", "MODEL.PRETRAIN_PATH", str(tmp_path / "vit.pth")]
    cfg = stage_cfg(load_cfg(opts=opts), "clean")
    model = make_model(cfg, **COUNTS)
    load_initial_weights(cfg, model)
    for branch in (model.b1, model.b2):
        assert torch.equal(branch[0].attn.qkv.weight, source.blocks[-1].attn.qkv.weight)


def test_older_files_project_patches_by_a_linear_layer(tmp_path):
    source = make_base()
    state = source.state_dict()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"].reshape(24, -1)
    torch.save(state, tmp_path / "old.pth")
    base = TransReIDViT((32, 32), SIZE)
    load_pretrained(base, str(tmp_path / "old.pth"))
    assert torch.equal(base.patch_embed.proj.weight, source.patch_embed.proj.weight)


def test_resnet_file_of_torchvision(tmp_path, caplog):
    theirs = torchvision.models.resnet50()
    # resnet50-19c8e357.pth is older than BatchNorm's counter
    state = {name: value for name, value in theirs.state_dict().items() if "num_batches_tracked" not in name}
    torch.save(state, tmp_path / "resnet50-19c8e357.pth")
    trunk = ResNetTrunk(last_stride=2, stem_relu=True).eval()
    with caplog.at_level(logging.INFO):
        load_pretrained(trunk, str(tmp_path / "resnet50-19c8e357.pth"))
    assert "in the file and not used: fc.weight, fc.bias" in caplog.text
    images = torch.rand(1, 3, 64, 32)
    theirs.avgpool, theirs.fc = torch.nn.Identity(), torch.nn.Identity()
    with torch.no_grad():
        expected = theirs.eval()(images).reshape(1, 2048, 2, 1)  # theirs flattens the map at its end
        assert torch.equal(trunk(images), expected)
        assert ResNetTrunk()(images).shape == (1, 2048, 4, 2)  # last stride 1


def test_safetensors_as_timm_publishes_them(tmp_path):
    source = make_base()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    base = TransReIDViT((32, 32), SIZE)
    load_pretrained(base, str(tmp_path / "model.safetensors"))
    assert torch.equal(base.norm.weight, source.norm.weight)
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match=r"half\.safetensors: cannot be read"):
        load_pretrained(base, str(tmp_path / "half.safetensors"))


def test_missing_and_unfitting_files(tmp_path):
    base = make_base()
    with pytest.raises(UserError, match=r"none\.pth: no such file"):
        load_pretrained(base, str(tmp_path / "none.pth"))
    torch.save(TransReIDViT((32, 32), ViTSize(12, 2, 3)).state_dict(), tmp_path / "small.pth")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    with pytest.raises(UserError, match=r"cls_token: \(1, 1, 12\) in the file, \(1, 1, 24\) in the model"):
        load_pretrained(base, str(tmp_path / "small.pth"))
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    torch.save({**base.state_dict(), "pos_embed": torch.zeros(1, 131, 24)}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match="positions of 130 patches, neither those of a square grid"):
        load_pretrained(base, str(tmp_path / "odd.pth"))
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(UserError, match="weights of a ResNet, and the model is a vision transformer"):
        load_pretrained(base, str(tmp_path / "resnet.pth"))
    with pytest.raises(UserError, match="weights of a vision transformer, and the model is a ResNet"):
        load_pretrained(ResNetTrunk(), str(tmp_path / "small.pth"))
    with pytest.raises(UserError, match="and [0-9]+ more\n"):
        load_pretrained(ResNetTrunk(), str(tmp_path / "resnet.pth"))
    torch.save({**base.state_dict(), "decoder.weight": torch.zeros(2)}, tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"decoder\.weight: \(2,\) in the file, not in the model"):
        load_pretrained(base, str(tmp_path / "more.pth"))
