"""How much features collapse into one direction, as training logs it.

A feature of which one direction carries nearly all of every unit vector gives cosines near 1 between all images:
losses on unit vectors then work on small differences. docs/method.md, "Collapse to one direction".
"""

import torch
import torch.nn.functional as F


def collapse_statistics(features: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cosines of a batch, 0-dim tensors on its device.

    Args:
        features: (N, D).
        labels: (N,) identities.

    Returns:
        cosine_same, cosine_different: means over pairs of images of one identity, and of two; 0 without such a pair.
        mean_direction: norm of the mean unit vector, in [0, 1]: what one direction carries of every unit vector.
    """
    units = F.normalize(features.detach().float(), dim=1)
    cosines = units @ units.T  # (N, N)
    same = labels[:, None] == labels[None, :]
    different = ~same
    pairs = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return {
        "cosine_same": (cosines * pairs).sum() / pairs.sum().clamp_min(1),
        "cosine_different": (cosines * different).sum() / different.sum().clamp_min(1),
        "mean_direction": units.mean(dim=0).norm(),
    }
