"""Parameter groups: the learning rate and weight decay of every parameter."""

import logging
import re
from typing import Any

from torch import nn
from yacs.config import CfgNode

logger = logging.getLogger(__name__)

LARGE_ADAM_LR = 0.1  # of centers, whose coordinates start from N(0, 1)
# What lies below the final norm: embeddings and blocks of the backbone, and JPM's two copies of the last block.
LAYER = re.compile(
    r"(student\.)?(base\.((?P<embedding>(patch|pos|sie)_embed|cls_token|norm_pre|part_token\d|(cls|part\d)_pos)\b"
    r"|blocks\.(?P<block>\d+)\.)|b[12]\.0\.)"
)


def make_groups(cfg: CfgNode, model: nn.Module, loss_fn: nn.Module, *, proportional: bool) -> list[dict[str, Any]]:
    """Makes a group of each kind of learning parameter of model and loss.

    Biases learn at SOLVER.BIAS_LR_FACTOR times BASE_LR, with WEIGHT_DECAY_BIAS; with SOLVER.LARGE_FC_LR, identity
    classifiers at twice the lr. Layers of a vision transformer learn at `layer_scales` times that; the schedule reads
    the factor as timm's `lr_scale`, which scales the whole curve, with its warm-up and its end. The first group is one
    of the top layer. The last has the loss's parameters named `centers`, those of the center loss.

    Args:
        cfg, model, loss_fn: as of make_optimizer.
        proportional: the optimizer's steps are proportional to the gradient.
    """
    solver = cfg.SOLVER
    scales = layer_scales(model, solver.LAYER_DECAY) if solver.LAYER_DECAY != 1 else {}
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    centers = [parameter for name, parameter in loss_fn.named_parameters() if name.endswith("centers")]
    others = [(name, parameter) for name, parameter in loss_fn.named_parameters() if not name.endswith("centers")]
    for name, parameter in [*model.named_parameters(), *others]:
        if not parameter.requires_grad:
            continue
        lr, decay = solver.BASE_LR, solver.WEIGHT_DECAY
        if name.endswith("bias"):
            lr, decay = lr * solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS
        if solver.LARGE_FC_LR and "classifier" in name:
            lr *= 2
        groups.setdefault((scales.get(name, 1.0), lr, decay), []).append(parameter)
    settings: list[dict[str, Any]] = []
    for (scale, lr, decay), params in sorted(groups.items(), key=lambda item: -item[0][0]):
        scaling = {"lr_scale": scale, "initial_lr": lr} if scales else {}
        settings.append({"params": params, "lr": lr * scale, "weight_decay": decay, **scaling})
    if centers:
        settings.append({"params": centers, **_center_settings(solver, proportional=proportional)})
    return settings


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Layer-wise lr decay: factors on the lr by parameter name; a parameter that is not named has 1.

    Of n blocks, block i (from 0) has decay^(n - i), and the embeddings (patches, class and part tokens, positions,
    side information) decay^(n + 1); the final norm, necks, classifiers and the bridge have 1. As in Bao et al., BEiT,
    ICLR 2022, https://arxiv.org/abs/2106.08254 (beit/optim_factory.py). The blocks of JPM's branches count as the last
    one.
    A backbone that orders its own layers has `layers_above`: how many are above each of its parameters, by name.
    """
    ordered = [(name, module) for name, module in model.named_modules() if hasattr(module, "layers_above")]
    if ordered:
        return {
            f"{name}.{own}": decay**above
            for name, module in ordered
            for own, above in module.layers_above().items()  # type: ignore[operator]
        }
    layers = {name: match for name, _ in model.named_parameters() if (match := LAYER.match(name))}
    depth = 1 + max((int(layer["block"]) for layer in layers.values() if layer["block"]), default=-1)
    below = {
        name: depth + 1 if layer["embedding"] else depth - int(layer["block"] or depth - 1)
        for name, layer in layers.items()
    }
    return {name: decay**steps for name, steps in below.items()}


def _center_settings(solver: CfgNode, *, proportional: bool) -> dict[str, Any]:
    """Settings of the centers, which move at CENTER_LR in every epoch, whatever the weight of their loss.

    Steps proportional to the gradient grow with the weight, so the lr is divided by it; Adam's steps do not. With SGD
    that is what BoT and TransReID do; beside Adam they move the centers by SGD too.
    """
    constant = {"weight_decay": 0.0, "constant_lr": True}  # read by make_scheduler
    if proportional:
        return {"lr": solver.CENTER_LR / solver.CENTER_LOSS_WEIGHT, "momentum": 0.0, **constant}
    if solver.CENTER_LR > LARGE_ADAM_LR:
        logger.warning(
            "SOLVER.CENTER_LR %s: %s moves every coordinate of the centers by that much a step; 0.01 suits it",
            solver.CENTER_LR,
            solver.OPTIMIZER_NAME,
        )
    return {"lr": solver.CENTER_LR, **constant}
