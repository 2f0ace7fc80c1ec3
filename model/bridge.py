"""Bridge feature generation (BFG), CFAT's fine head: a variational autoencoder over unit features.

docs/method.md, "Fine alignment". Parameters are named as in the released files, except encoder.sigma: the released
layer predicts an unconstrained sigma, whose logarithm is NaN from random weights; this one predicts the log-variance
and is named encoder.log_var. `released` selects the released form, which the released files need.
"""

import torch
import torch.nn.functional as F
from torch import nn

from utils.structures import BridgeOutput, Gaussian

BRIDGE_T = ("batch", "image")
MIN_VARIANCE = 1e-6  # of the released form, whose sigma may be 0 or negative; keeps the logarithm finite


class BridgeEncoder(nn.Module):
    """(B, D) -> hidden -> diagonal Gaussians over L latent dimensions; `released`: predicts sigma, not log-variance."""

    sigma: nn.Linear
    log_var: nn.Linear

    def __init__(self, feat_dim: int, hidden_dim: int, latent_dim: int, *, released: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(feat_dim, hidden_dim)
        self.mu = nn.Linear(hidden_dim, latent_dim)
        self.released = released
        self.add_module("sigma" if released else "log_var", nn.Linear(hidden_dim, latent_dim))

    def forward(self, features: torch.Tensor) -> Gaussian:
        hidden = F.relu(self.linear(features))
        if self.released:
            return Gaussian(self.mu(hidden), self.sigma(hidden).square().clamp_min(MIN_VARIANCE).log())
        return Gaussian(self.mu(hidden), self.log_var(hidden))


class BridgeDecoder(nn.Module):
    """(B, L) -> hidden -> (B, D), linear at the end because features are signed; `released`: a sigmoid follows."""

    def __init__(self, feat_dim: int, hidden_dim: int, latent_dim: int, *, released: bool = False) -> None:
        super().__init__()
        self.linear1 = nn.Linear(latent_dim, hidden_dim)
        self.linear2 = nn.Linear(hidden_dim, feat_dim)
        self.released = released

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        features = self.linear2(F.relu(self.linear1(latent)))
        return features.sigmoid() if self.released else features


def bridge_points(clean: torch.Tensor, corrupted: torch.Tensor, t: torch.Tensor, *, noise: float = 0.0) -> torch.Tensor:
    """Points between two sets of unit features: ((1-t) u + t u~) / |(1-t) u + t u~|.

    Args:
        clean, corrupted: (B, D) unit vectors u and u~.
        t: scalar or (B, 1) in [0, 1].
        noise: s of the Brownian bridge: Gaussian noise of variance s^2 t (1 - t) before a second normalisation.

    Returns:
        (B, D) unit vectors.
    """
    points = F.normalize((1 - t) * clean + t * corrupted, dim=1)
    if noise:
        points = F.normalize(points + noise * (t * (1 - t)).sqrt() * torch.randn_like(points), dim=1)
    return points


class BridgeVAE(nn.Module):
    """Encoder, decoder and the bridge between the clean and the corrupted modality.

    Unit vectors are multiplied by sqrt(D) before the encoder, and divided by it after the decoder: with entries of
    order 1/sqrt(D) the latent noise hides the signal, and the reconstruction stays at the mean feature for a stage.

    Args:
        feat_dim, hidden_dim, latent_dim: widths D, H and L.
        bridge_t: "batch" samples one t for a batch, as released, "image" one for every image.
        noise: standard deviation s of the Brownian noise on bridge points.
        released: build the layers of the released files.
    """

    def __init__(
        self,
        feat_dim: int,
        *,
        hidden_dim: int = 128,
        latent_dim: int = 16,
        bridge_t: str = "batch",
        noise: float = 0.0,
        released: bool = False,
    ) -> None:
        super().__init__()
        if bridge_t not in BRIDGE_T:
            raise ValueError(f"bridge_t {bridge_t!r}: expected one of {', '.join(BRIDGE_T)}")
        self.bridge_t, self.noise = bridge_t, noise
        self.scale = feat_dim**0.5
        self.released = released
        self.encoder = BridgeEncoder(feat_dim, hidden_dim, latent_dim, released=released)
        self.decoder = BridgeDecoder(feat_dim, hidden_dim, latent_dim, released=released)

    def reconstruct(self, latent: Gaussian) -> torch.Tensor:
        """Decodes one sample of the latent Gaussians in training, their means in evaluation; (B, D)."""
        sample = latent.mean
        if self.training:
            sample = sample + torch.randn_like(sample) * (0.5 * latent.log_var).exp()
        return self.decoder(sample) / self.scale

    def encode(self, units: torch.Tensor) -> Gaussian:
        """q(.|u) of unit vectors u (B, D)."""
        return self.encoder(units * self.scale)

    def forward(self, clean: torch.Tensor, corrupted: torch.Tensor) -> BridgeOutput:
        """Latents and reconstructions of clean and corrupted unit features u and u~, both (B, D)."""
        t = torch.rand(len(clean) if self.bridge_t == "image" else 1, 1, device=clean.device, dtype=clean.dtype)
        clean_latent, corrupted_latent = self.encode(clean), self.encode(corrupted)
        return BridgeOutput(
            clean=clean,
            clean_reconstruction=self.reconstruct(clean_latent),
            corrupted_reconstruction=self.reconstruct(corrupted_latent),
            clean_latent=clean_latent,
            corrupted_latent=corrupted_latent,
            bridge_latent=self.encode(bridge_points(clean, corrupted, t, noise=self.noise)),
        )
