import numpy as np
import pytest
import torch

from model.bridge import BridgeVAE, bridge_points
from model.reid import TransformerReID
from model.vit import TransReIDViT
from model.vit_sizes import ViTSize
from tests.helpers import golden_state, load_golden

GOLDEN = load_golden("cfat_tiny.npz")
IMAGES, CAMIDS = torch.tensor(GOLDEN["input"]), torch.tensor(GOLDEN["cam"])


def make_golden_model(**options):
    base = TransReIDViT((128, 64), ViTSize(24, 2, 3), num_cameras=4)
    model = TransformerReID(base, num_classes=10, **options)
    result = model.load_state_dict(golden_state(GOLDEN, "state/"), strict=False)
    assert result.missing_keys == []
    assert result.unexpected_keys == ["base.fc.weight", "base.fc.bias"]  # an unused head
    return model.eval()


@torch.no_grad()
def test_golden_tokens():
    output = make_golden_model().encode(IMAGES, CAMIDS)
    np.testing.assert_allclose(output.embedding, GOLDEN["class_token"], atol=1e-5)
    np.testing.assert_allclose(output.patch_tokens, GOLDEN["patch_tokens"], atol=1e-5)


@torch.no_grad()
def test_golden_test_feature():
    plain = make_golden_model(feat_norm=False).extract(IMAGES, CAMIDS)
    np.testing.assert_allclose(plain, GOLDEN["test_feature"], atol=1e-5)
    unit = make_golden_model().extract(IMAGES, CAMIDS)
    np.testing.assert_allclose(unit, torch.nn.functional.normalize(plain, dim=1), atol=1e-6)


@torch.no_grad()
def test_other_test_features():
    output = make_golden_model().encode(IMAGES, CAMIDS)
    token = make_golden_model(test_feature="class_token", feat_norm=False).extract(IMAGES, CAMIDS)
    neck = make_golden_model(test_feature="neck", feat_norm=False).extract(IMAGES, CAMIDS)
    assert torch.equal(token, output.embedding)
    state = golden_state(GOLDEN, "state/")
    by_hand = (token - state["bottleneck.running_mean"]) / (state["bottleneck.running_var"] + 1e-5).sqrt()
    by_hand = by_hand * state["bottleneck.weight"] + state["bottleneck.bias"]
    np.testing.assert_allclose(neck, by_hand, atol=1e-5)
    with pytest.raises(ValueError, match="test_feature 'mean'"):
        make_golden_model(test_feature="mean")


@torch.no_grad()
@pytest.mark.parametrize("test_feature", ["patch_mean", "class_token", "neck"])
def test_the_flipped_test_feature_is_the_mean_with_the_mirror_image_before_normalisation(test_feature):
    options = {"test_feature": test_feature, "feat_norm": False}
    plain = make_golden_model(**options)
    mean = (plain.extract(IMAGES, CAMIDS) + plain.extract(IMAGES[..., range(IMAGES.shape[3] - 1, -1, -1)], CAMIDS)) / 2
    torch.testing.assert_close(make_golden_model(**options, flip=True).extract(IMAGES, CAMIDS), mean)
    unit = make_golden_model(test_feature=test_feature, flip=True)
    expected = mean / mean.norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit.extract(IMAGES, CAMIDS), expected)
    torch.testing.assert_close(unit.extract(IMAGES.flip(3), CAMIDS), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = unit.extract(IMAGES, CAMIDS)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, atol=0.02, rtol=0)


@torch.no_grad()
def test_camera_changes_every_token():
    model = make_golden_model()
    tokens = [model.encode(IMAGES[:1], torch.tensor([camera])).patch_tokens for camera in (0, 1)]
    assert (tokens[0] != tokens[1]).any(dim=2).all()


@pytest.mark.parametrize(("cameras", "views", "rows"), [(0, 0, None), (4, 0, 4), (0, 3, 3), (4, 3, 12)])
def test_side_information_table(cameras, views, rows):
    base = TransReIDViT((32, 32), ViTSize(12, 1, 3), num_cameras=cameras, num_views=views).eval()
    assert (base.sie_embed is None) if rows is None else (len(base.sie_embed) == rows)
    with torch.no_grad():
        camids, viewids = torch.tensor([3]), torch.tensor([2])
        tokens = base(torch.zeros(1, 3, 32, 32), camids, viewids)
        if rows is not None:
            base.sie_embed[-1] += 1  # the last camera with the last viewpoint
            assert not torch.equal(tokens, base(torch.zeros(1, 3, 32, 32), camids, viewids))


def test_overlapping_patches():
    base = TransReIDViT((256, 128), ViTSize(12, 1, 3), stride=(12, 12))
    assert base.patch_embed.grid_size == (21, 10)
    assert base.pos_embed.shape == (1, 211, 12)  # as in the released stride-12 checkpoints
    assert base(torch.zeros(2, 3, 256, 128)).shape == (2, 211, 12)


def test_drop_path_grows_linearly():
    base = TransReIDViT((32, 32), ViTSize(12, 3, 3), drop_path_rate=0.2)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in base.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


class TestBridge:
    clean, corrupted = torch.tensor(GOLDEN["coarse/clean"]), torch.tensor(GOLDEN["coarse/corrupt"])

    @pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.9, 1.0])
    def test_golden_points(self, t):
        found = bridge_points(self.clean, self.corrupted, torch.tensor(t))
        np.testing.assert_allclose(found, GOLDEN[f"bridge/t={t}"], atol=1e-5)

    @torch.no_grad()
    def test_golden_autoencoder(self):
        # The released decoder ends in a sigmoid, its encoder in an unconstrained sigma; the layers below are the same.
        bridge = BridgeVAE(24, hidden_dim=16, latent_dim=4).eval()
        state = golden_state(GOLDEN, "bfg/state/")
        bridge.load_state_dict({name.replace("sigma", "log_var"): value for name, value in state.items()})
        latent = bridge.encoder(torch.tensor(GOLDEN["bfg/input"]))
        np.testing.assert_allclose(latent.mean, GOLDEN["bfg/mu"], atol=1e-5)
        np.testing.assert_allclose(latent.log_var, GOLDEN["bfg/sigma"], atol=1e-5)
        np.testing.assert_allclose(torch.sigmoid(bridge.decoder(latent.mean)), GOLDEN["bfg/decoded_mu"], atol=1e-5)

    def test_noise_has_the_variance_of_a_brownian_bridge(self):
        torch.manual_seed(0)
        a = torch.nn.functional.normalize(torch.ones(20000, 2) * torch.tensor([1.0, 0.0]), dim=1)
        spread = {}
        for t in (0.0, 0.25, 0.5, 1.0):
            points = bridge_points(a, a, torch.tensor(t), noise=0.1)
            assert torch.allclose(points.norm(dim=1), torch.ones(len(a)))
            spread[t] = points[:, 1].var().item()  # across the direction: what the normalisation keeps
        assert spread[0.0] == spread[1.0] == 0
        assert spread[0.5] == pytest.approx(0.01 * 0.25, rel=0.1)
        assert spread[0.25] == pytest.approx(0.01 * 0.1875, rel=0.1)

    @pytest.mark.parametrize(("bridge_t", "same"), [("batch", True), ("image", False)])
    def test_position_per_batch_or_per_image(self, bridge_t, same):
        torch.manual_seed(1)
        bridge = BridgeVAE(24, hidden_dim=8, latent_dim=2, bridge_t=bridge_t)
        clean, corrupted = self.clean[:1].expand(6, -1), self.corrupted[:1].expand(6, -1)
        points = bridge(clean, corrupted).bridge_latent.mean
        assert torch.allclose(points, points[:1].expand_as(points)) == same

    def test_evaluation_reconstructs_from_the_mean(self):
        bridge = BridgeVAE(24)
        first, again = (bridge(self.clean, self.corrupted).clean_reconstruction for _ in range(2))
        assert not torch.equal(first, again)
        bridge.eval()
        first, again = (bridge(self.clean, self.corrupted).clean_reconstruction for _ in range(2))
        assert torch.equal(first, again)

    def test_options(self):
        with pytest.raises(ValueError, match="bridge_t 'row'"):
            BridgeVAE(24, bridge_t="row")
