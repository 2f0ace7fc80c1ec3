"""TransReID's backbones and jigsaw patch module against reference models, and by plain loops."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.jigsaw import JigsawReID, JigsawSettings, rearrange_patches
from model.reid import TransformerReID
from model.vit import TransReIDViT
from model.vit_sizes import VIT_SIZES, ViTSize, vit_size
from tests.helpers import GOLDEN as FOLDER
from tests.helpers import golden_state, load_golden
from utils.errors import UserError

GOLDEN = load_golden("transreid_tiny.npz")
CASES = json.loads((FOLDER / "transreid_tiny.json").read_text(encoding="utf-8"))
FEATURES = {"before": "class_token", "after": "neck"}


def make_case(name):
    case = CASES[name]
    settings = case["settings"]
    base = TransReIDViT(
        tuple(case["size"]),
        ViTSize(case["embed_dim"], case["depth"], case["heads"]),
        stride=tuple(settings["STRIDE_SIZE"]),
        num_cameras=case["camera_num"] if settings["SIE_CAMERA"] else 0,
        num_views=case["view_num"] if settings["SIE_VIEW"] else 0,
        sie_coefficient=settings["SIE_COE"],
    )
    options = {
        "num_classes": case["num_classes"],
        "mean": (0, 0, 0),
        "std": (1, 1, 1),
        "feat_norm": False,
        "test_feature": FEATURES[case["neck_feat"]],
    }
    if not settings["JPM"]:
        model = TransformerReID(base, **options)
    else:
        jigsaw = JigsawSettings(
            settings["RE_ARRANGE"], settings["SHIFT_NUM"], settings["SHUFFLE_GROUP"], settings["DEVIDE_LENGTH"]
        )
        model = JigsawReID(base, jigsaw, **options)
    result = model.load_state_dict(golden_state(GOLDEN, f"{name}/state/"), strict=False)
    assert set(result.missing_keys) == {"normalize.mean", "normalize.std"}
    assert set(result.unexpected_keys) <= {"base.fc.weight", "base.fc.bias"}  # an unused head
    return model.eval()


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_golden_outputs(name):
    images, cameras, views = (torch.tensor(GOLDEN[f"{name}/{part}"]) for part in ("input", "cam", "view"))
    found = make_case(name).extract(images, cameras, views)
    np.testing.assert_allclose(found, GOLDEN[f"{name}/output"], atol=1e-5, rtol=0)


def test_the_case_list_is_complete():
    assert len(CASES) == 9
    assert {name.split("/")[0] for name in GOLDEN} == set(CASES)


@pytest.mark.parametrize(("count", "shift", "groups"), [(32, 5, 2), (50, 8, 2), (33, 5, 2), (31, 3, 4)])
def test_rearranging_by_a_plain_loop(count, shift, groups):
    # token 0 is the class token, as in the released code's counting
    shifted = [*range(shift, count + 1), *range(1, shift)]
    while len(shifted) % groups:
        shifted.append(shifted[len(shifted) - 2] if len(shifted) == count else shifted[-1])
    length = len(shifted) // groups
    expected = [shifted[group * length + place] for place in range(length) for group in range(groups)]
    patches = torch.arange(1, count + 1)[None, :, None].float()
    found = rearrange_patches(patches, shift=shift, groups=groups).flatten().tolist()
    assert found == expected


class TestJigsaw:
    @torch.no_grad()
    def test_local_features_by_hand(self):
        model = make_case("jpm")
        images, cameras = torch.tensor(GOLDEN["jpm/input"]), torch.tensor(GOLDEN["jpm/cam"])
        output = model.encode(images, cameras)
        tokens = model.base.forward_trunk(model.normalize(images), cameras)
        for part in range(4):
            chosen = torch.cat([tokens[:, :1], tokens[:, 1 + 8 * part : 9 + 8 * part]], dim=1)  # 32 patches in 4 parts
            torch.testing.assert_close(output.local_embeddings[part], model.b2(chosen)[:, 0])
            neck = getattr(model, f"bottleneck_{part + 1}")(output.local_embeddings[part])
            torch.testing.assert_close(output.local_features[part], neck)
            torch.testing.assert_close(output.local_logits[part], getattr(model, f"classifier_{part + 1}")(neck))
        feature = model.extract(images, cameras)
        expected = torch.cat([output.embedding, *(part / 4 for part in output.local_embeddings)], dim=1)
        torch.testing.assert_close(feature, expected)

    def test_training_reaches_the_branches_and_not_the_unused_block(self):
        model = make_case("jpm_rearrange").train()
        batch = {"images": torch.rand(4, 3, 128, 64), "camids": torch.arange(4), "viewids": torch.zeros(4).long()}
        output = model(batch)
        sum(logits.square().sum() for logits in (output.logits, *output.local_logits)).backward()
        assert model.b1[0].mlp.fc1.weight.grad.abs().sum() > 0
        assert model.b2[0].mlp.fc1.weight.grad.abs().sum() > 0
        learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
        assert not any(name.startswith(("base.blocks.1.", "base.norm.")) for name in learning)

    def test_branches_are_initialised_from_the_last_block(self):
        base = TransReIDViT((64, 64), ViTSize(24, 2, 3))
        model = JigsawReID(base, JigsawSettings(), num_classes=3)
        torch.nn.init.constant_(base.blocks[-1].mlp.fc1.weight, 0.5)
        assert not torch.equal(model.b2[0].mlp.fc1.weight, base.blocks[-1].mlp.fc1.weight)
        model.init_branches()
        for branch in (model.b1, model.b2):
            assert torch.equal(branch[0].mlp.fc1.weight, base.blocks[-1].mlp.fc1.weight)
            assert branch[0].mlp.fc1.weight is not base.blocks[-1].mlp.fc1.weight

    def test_too_few_patches(self):
        with pytest.raises(ValueError, match="1 patches cannot be divided into 4"):
            JigsawReID(TransReIDViT((16, 16), ViTSize(24, 1, 3)), JigsawSettings(), num_classes=0)


class TestSizes:
    def test_small_vit_scales_its_attention_by_the_whole_width(self):
        size = VIT_SIZES["vit_small_patch16_224_TransReID"]
        attention = TransReIDViT((32, 32), size).blocks[0].attn.eval()
        assert attention.fused_attn
        assert attention.qkv.bias is None
        tokens = torch.randn(2, 5, 768)
        with torch.no_grad():
            query, key, value = attention.qkv(tokens).reshape(2, 5, 3, 8, 96).permute(2, 0, 3, 1, 4)
            weights = (query @ key.transpose(-2, -1) * 768**-0.5).softmax(dim=-1)
            by_hand = attention.proj((weights @ value).transpose(1, 2).reshape(2, 5, 768))
            torch.testing.assert_close(attention(tokens), by_hand, atol=1e-5, rtol=1e-5)

    def test_a_model_of_timm_computes_the_same(self):
        import timm

        torch.manual_seed(0)
        theirs = timm.create_model("vit_tiny_patch16_224", img_size=(64, 32), num_classes=0).eval()
        ours = TransReIDViT((64, 32), vit_size("vit_tiny_patch16_224")).eval()
        ours.load_state_dict(theirs.state_dict())
        images = torch.randn(2, 3, 64, 32)
        with torch.no_grad():
            torch.testing.assert_close(ours(images), theirs.forward_features(images), atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("vit_tinny", "did you mean vit_tiny"),
            ("deit_small", "did you mean deit_small_patch16_224_TransReID"),
            ("vit_base_patch16_clip_224", "another structure.*norm_pre"),
            ("vit_base_patch14_dinov2", "another structure"),
            ("flexivit_small", "no position for the class token"),
            ("resnet50", "a ResNet of another structure"),
            ("convnext_tiny", "a ConvNeXt of another structure"),
        ],
    )
    def test_other_names(self, name, message):
        with pytest.raises(UserError, match=message):
            vit_size(name)

    @pytest.mark.parametrize("size", [(97, 53), (256, 128), (32, 16)])
    def test_any_image_size(self, size):
        base = TransReIDViT(size, ViTSize(24, 1, 3), stride=(12, 12))
        rows, columns = base.patch_embed.grid_size
        assert base(torch.zeros(1, 3, *size)).shape == (1, 1 + rows * columns, 24)
        assert (rows, columns) == tuple(len(range(0, side - 15, 12)) for side in size)


def test_a_single_side_vector_serves_every_camera():
    base = TransReIDViT((32, 32), ViTSize(12, 1, 3), num_cameras=1).eval()
    with torch.no_grad():
        images = torch.rand(2, 3, 32, 32)
        first, other = base(images, torch.tensor([0, 0])), base(images, torch.tensor([5, 99]))
    assert torch.equal(first, other)


def test_cosine_classifier_and_parts():
    base = TransReIDViT((32, 32), ViTSize(24, 1, 3))
    model = JigsawReID(base, JigsawSettings(), num_classes=5, cosine_classifier=True).eval()
    with torch.no_grad():
        output = model.encode(torch.rand(2, 3, 32, 32))
        expected = F.cosine_similarity(output.features[:, None], model.classifier.weight[None], dim=2)
    torch.testing.assert_close(output.logits, expected)
    assert output.logits.abs().max() <= 1 + 1e-6
    assert "classifier.weight" in model.state_dict()


def test_augmented_views_pass_together():
    base = TransReIDViT((32, 32), ViTSize(24, 2, 3), num_cameras=3)
    model = JigsawReID(base, JigsawSettings(), num_classes=5).train()
    torch.manual_seed(0)
    batch = {
        "images": torch.rand(4, 3, 32, 32),
        "augmented": torch.rand(4, 2, 3, 32, 32),
        "camids": torch.tensor([0, 1, 2, 0]),
        "viewids": torch.zeros(4).long(),
    }
    output = model(batch)
    everything = torch.cat([batch["images"], batch["augmented"][:, 0], batch["augmented"][:, 1]])
    whole = model.encode(everything, batch["camids"].repeat(3), batch["viewids"].repeat(3))
    torch.testing.assert_close(output.logits, whole.logits[:4])
    torch.testing.assert_close(output.augmented_logits, torch.stack([whole.logits[4:8], whole.logits[8:]]))
    torch.testing.assert_close(output.local_logits[2], whole.local_logits[2][:4])
    assert output.embedding.shape == (4, 24)
    assert output.patch_tokens.shape == (4, 4, 24)
