"""Poolings of a vision transformer's tokens into one embedding, by the values of MODEL.POOLING.

avg, max, avg_max and gem as in https://github.com/hustvl/PersonViT; gem, too, as in
https://github.com/damo-cv/TransReID-SSL.
"""

from collections.abc import Callable

import torch

GROUP = 4  # consecutive patch tokens of avg_max
GEM_POWER, GEM_EPS = 3.0, 1e-6

Pooling = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # class token (N, D), patches (N, P, D) -> (N, D)


def _max_of_groups(class_token: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    groups = patches.unflatten(1, (-1, GROUP))  # (N, P / 4, 4, D)
    return groups.max(dim=2).values.mean(dim=1)


def _add_generalised_mean(class_token: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    return class_token + patches.clamp_min(GEM_EPS).pow(GEM_POWER).mean(dim=1).pow(1 / GEM_POWER)


POOLINGS: dict[str, Pooling] = {
    "class_token": lambda class_token, patches: class_token,
    "avg": lambda class_token, patches: patches.mean(dim=1),
    "max": lambda class_token, patches: patches.max(dim=1).values,
    "avg_max": _max_of_groups,
    "gem": _add_generalised_mean,
}
# Share of the class token in the embedding, for attention maps; the patches share the rest evenly.
CLASS_TOKEN_SHARES = {"class_token": 1.0, "avg": 0.0, "max": 0.0, "avg_max": 0.0, "gem": 0.5}
