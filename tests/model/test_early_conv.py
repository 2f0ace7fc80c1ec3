"""Early convolutions in place of a patch embedding: values, files and what they do not go with."""

import pytest
import torch
import torch.nn.functional as F

from config import load_cfg
from model import check, load_model, make_model
from model.patch_embed import EarlyConvPatchEmbed
from solver.groups import layer_scales
from utils.checkpoints import save_checkpoint
from utils.errors import UserError

COUNTS = {"num_cameras": 4, "num_views": 1}
IMAGES, CAMIDS = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 2])


def conv(*opts, name="vit_tiny_conv_patch16_128"):
    size = ["INPUT.SIZE_TRAIN", "[64, 32]", "INPUT.SIZE_TEST", "[64, 32]"]
    given = ["MODEL.TRANSFORMER_TYPE", name, "MODEL.PRETRAIN_PATH", "", "CFAT.STAGE", "clean"]
    return load_cfg(opts=[*given, *size, "TEST.FEATURE", "neck", *opts])


def make_embedding():
    torch.manual_seed(0)
    return EarlyConvPatchEmbed((64, 32), 16, stride=(16, 16), channels=(4, 6, 8, 10), embed_dim=12)


def test_values_equal_the_definition():
    embedding = make_embedding()
    images = torch.rand(3, 3, 64, 32)
    found = embedding(images)
    values = images
    for block in embedding.stem:
        values = F.conv2d(values, block[0].weight, stride=2, padding=1)
        mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), unbiased=False, keepdim=True)
        values = ((values - mean) / (variance + 1e-5).sqrt()).relu()
    weight = embedding.proj.weight[:, :, 0, 0]  # (12, 10)
    expected = values.flatten(2).transpose(1, 2) @ weight.T + embedding.proj.bias  # rows, then columns
    assert found.shape == (3, 8, 12)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_patch_of_another_size_is_refused():
    with pytest.raises(ValueError, match="expected 16 both, with 4 convolutions"):
        EarlyConvPatchEmbed((64, 32), 8, stride=(8, 8), channels=(4, 6, 8, 10), embed_dim=12)


def test_a_checkpoint_tells_its_size(tmp_path):
    model = make_model(conv(), num_classes=3, **COUNTS).eval()
    save_checkpoint(tmp_path / "clean.pth", model.export_state(), {"config": conv().dump(), "stage": "clean"})
    loaded = load_model(conv(name="vit_base_patch16_224_TransReID"), str(tmp_path / "clean.pth"), **COUNTS)
    with torch.no_grad():
        assert torch.equal(loaded.extract(IMAGES, CAMIDS), model.extract(IMAGES, CAMIDS))


def test_layer_wise_decay_counts_them_as_embedding():
    model = make_model(conv(), num_classes=3, **COUNTS)
    scales = layer_scales(model, 0.5)
    assert scales["base.patch_embed.stem.0.0.weight"] == scales["base.patch_embed.proj.weight"] == 0.5**7


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            ("MODEL.STRIDE_SIZE", "[12, 12]"),
            r"patch16_128 patches do not overlap; set it to \[16, 16",
        ),
        (("INPUT.SIZE_TRAIN", "[60, 32]", "INPUT.SIZE_TEST", "[60, 32]"), "not whole patches of 16 pixels"),
        (("MODEL.STEM_CONV", "True"), "has convolutions of its own; set it to False"),
    ],
)
def test_what_does_not_go_together(opts, message):
    with pytest.raises(UserError, match=message):
        check(conv(*opts))
