"""CFAT's coarse and fine alignment terms; the equations are in docs/method.md.

Zhang, Zhang, Shan: Coarse-to-Fine Feature Alignment Transformer, IEEE TCSVT 2024, doi 10.1109/TCSVT.2024.3472122.
"""

import torch
import torch.nn.functional as F
from torch import nn

from utils.structures import Gaussian

MIN_DEVIATION = 1e-4  # of a channel, which may be constant


class CoarseAlignmentLoss(nn.Module):
    """Weighted contrastive loss over the 2B clean and corrupted views; badly aligned pairs weigh more.

    l_a = -log( exp(u_a.u_a+ / T) / sum_{k != a} exp(u_a.u_k / T) ),  w_a = 1 - u_a.u_a+,
    loss = mean over a of w_a l_a.

    Args:
        temperature: T.
        detach_weight: no gradient through w_a (released: it flows).
        exclude_same_identity: other images of the anchor's identity leave the sum over k (released: they stay).
    """

    def __init__(
        self, *, temperature: float = 0.5, detach_weight: bool = False, exclude_same_identity: bool = False
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.detach_weight = detach_weight
        self.exclude_same_identity = exclude_same_identity

    def forward(self, clean: torch.Tensor, corrupted: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Loss of clean and corrupted embeddings (B, D), two views of one image in each row; labels (B,) to exclude."""
        count = len(clean)
        units = F.normalize(torch.cat([clean, corrupted]).float(), dim=1)  # (2B, D)
        similarity = units @ units.T  # (2B, 2B)
        anchors = torch.arange(2 * count, device=units.device)
        partners = anchors.roll(count)
        excluded = anchors[:, None] == anchors[None, :]
        if self.exclude_same_identity:
            assert labels is not None
            both = labels.repeat(2)
            excluded = both[:, None] == both[None, :]
            excluded[anchors, partners] = False
        positive = similarity[anchors, partners]
        logits = (similarity / self.temperature).masked_fill(excluded, -torch.inf)
        losses = logits.logsumexp(dim=1) - positive / self.temperature
        weights = 1 - positive
        return ((weights.detach() if self.detach_weight else weights) * losses).mean()


def reconstruction_loss(reconstruction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L_rec: squared Euclidean error |D(E(u)) - u|^2, averaged over the batch; both (B, D)."""
    return (reconstruction - target).pow(2).sum(dim=1).mean()


def gaussian_kl(q: Gaussian, p: Gaussian) -> torch.Tensor:
    """KL(q || p) between diagonal Gaussians, summed over latent dimensions and averaged over the batch."""
    difference = (q.mean - p.mean).pow(2)
    ratio = (q.log_var - p.log_var).exp()
    divergence = 0.5 * (p.log_var - q.log_var + ratio + difference * (-p.log_var).exp() - 1)
    return divergence.sum(dim=1).mean()


def standard_normal_kl(q: Gaussian) -> torch.Tensor:
    """KL(q || N(0, I)), summed over latent dimensions and averaged over the batch."""
    return gaussian_kl(q, Gaussian(torch.zeros_like(q.mean), torch.zeros_like(q.log_var)))


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cosine over all leading dimensions of (..., D), class tokens (B, D) or patch tokens (B, P, D)."""
    return (1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()


def distillation(
    student: torch.Tensor, teacher: torch.Tensor, *, temperature: float, scale: float = 1.0
) -> torch.Tensor:
    """T^2 KL(teacher || student) between class distributions at temperature T, batch mean; logits (B, C) both.

    `scale` multiplies both; where they are cosines, the identity loss's s. Hinton et al., Distilling the Knowledge in a
    Neural Network, 2015, https://arxiv.org/abs/1503.02531.
    """
    log_p = F.log_softmax(scale * teacher.float() / temperature, dim=1)
    log_q = F.log_softmax(scale * student.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def token_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Mean smooth L1 distance of tokens (B, P, D), in standard deviations of the teacher's channels.

    The deviation of a channel is over the teacher's tokens of the batch; a distance d counts d^2 / 2 up to 1, and
    d - 1/2 beyond. As data2vec regresses the tokens of its teacher: Baevski et al., ICML 2022,
    https://arxiv.org/abs/2202.03555, section 3.3; there, the statistics are those of each image.
    """
    teacher = teacher.float()
    deviation = teacher.std(dim=(0, 1), correction=0) + MIN_DEVIATION  # (D,)
    return F.smooth_l1_loss(student.float() / deviation, teacher / deviation)
