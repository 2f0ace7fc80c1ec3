"""Margins on cosine logits: each makes the label's class harder to reach before the cross-entropy sees it.

All take cosines (N, C) in [-1, 1] with labels (N,) in [0, C) and return (N, C), not yet multiplied by the scale s.
"""

import math

import torch

MIN_SQUARED_SINE = 1e-12  # keeps the root's gradient finite at |cos| = 1


def arcface(cosines: torch.Tensor, labels: torch.Tensor, *, margin: float) -> torch.Tensor:
    """cos(theta + m) at the label. Deng et al., ArcFace, CVPR 2019, https://arxiv.org/abs/1801.07698.

    Where theta + m would pass pi and the cosine rise again, cos(theta) - m sin(pi - m), as the authors' code does.
    """
    cosine = cosines.gather(1, labels[:, None])  # (N, 1)
    sine = (1 - cosine.pow(2)).clamp_min(MIN_SQUARED_SINE).sqrt()
    shifted = cosine * math.cos(margin) - sine * math.sin(margin)
    fallback = cosine - margin * math.sin(math.pi - margin)
    return cosines.scatter(1, labels[:, None], torch.where(cosine > math.cos(math.pi - margin), shifted, fallback))


def cosface(cosines: torch.Tensor, labels: torch.Tensor, *, margin: float) -> torch.Tensor:
    """cos(theta) - m at the label.

    Wang et al., CosFace, CVPR 2018, https://arxiv.org/abs/1801.09414; the same as AM-Softmax, Wang et al., IEEE SPL
    2018, https://arxiv.org/abs/1801.05599.
    """
    return cosines.scatter(1, labels[:, None], cosines.gather(1, labels[:, None]) - margin)


def circle(cosines: torch.Tensor, labels: torch.Tensor, *, margin: float) -> torch.Tensor:
    """a_p (cos - (1 - m)) at the label and a_n (cos - m) elsewhere, a_p = max(0, 1 + m - cos), a_n = max(0, cos + m).

    No gradient flows through a_p and a_n. Sun et al., Circle Loss, CVPR 2020, https://arxiv.org/abs/2002.10857, as a
    classification loss, the way fast-reid has it.
    """
    cosine = cosines.gather(1, labels[:, None])  # (N, 1)
    positive = (1 + margin - cosine.detach()).clamp_min(0) * (cosine - (1 - margin))
    negative = (cosines.detach() + margin).clamp_min(0) * (cosines - margin)
    return negative.scatter(1, labels[:, None], positive)


MARGINS = {"arcface": arcface, "cosface": cosface, "amsoftmax": cosface, "circle": circle}
