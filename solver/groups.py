"""Parameter groups: which parameters learn at which rate, and with which weight decay."""

import logging
import re

from torch import nn

from utils.errors import UserError

logger = logging.getLogger(__name__)

LARGE_ADAM_RATE = 0.1  # of centers, whose coordinates start from N(0, 1)
# What lies below the final norm: embeddings and blocks of the backbone, and JPM's two copies of the last block.
LAYER = re.compile(
    r"(student\.)?(base\.((?P<embedding>patch_embed|cls_token|pos_embed|sie_embed)\b|blocks\.(?P<block>\d+)\.)|b[12]\.0\.)"
)


def make_groups(cfg, model: nn.Module, loss_fn: nn.Module, *, follows_gradient: bool) -> list[dict]:
    """One group per kind of parameter, of every parameter of model and loss that learns.

    Biases learn at SOLVER.BIAS_LR_FACTOR times the rate with WEIGHT_DECAY_BIAS; the identity classifiers at twice the
    rate with SOLVER.LARGE_FC_LR; layers of a vision transformer at `layer_scales` times that, which the schedule reads
    as timm's `lr_scale`: the whole curve is scaled, its warm-up and its end too. The first group is one of the top
    layer. The loss's parameters named `centers`, the center loss's, are the last.

    Args:
        cfg, model, loss_fn: as of make_optimizer.
        follows_gradient: the optimizer's steps are as long as the gradient.

    Raises:
        UserError: SOLVER.LAYER_DECAY for a model without blocks.
    """
    solver = cfg.SOLVER
    scales = layer_scales(model, solver.LAYER_DECAY) if solver.LAYER_DECAY != 1 else {}
    groups: dict[tuple[float, float, float], list[nn.Parameter]] = {}
    centers = [parameter for name, parameter in loss_fn.named_parameters() if name.endswith("centers")]
    others = [(name, parameter) for name, parameter in loss_fn.named_parameters() if not name.endswith("centers")]
    for name, parameter in [*model.named_parameters(), *others]:
        if not parameter.requires_grad:
            continue
        rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
        if name.endswith("bias"):
            rate, decay = rate * solver.BIAS_LR_FACTOR, solver.WEIGHT_DECAY_BIAS
        if solver.LARGE_FC_LR and "classifier" in name:
            rate *= 2
        groups.setdefault((scales.get(name, 1.0), rate, decay), []).append(parameter)
    settings = []
    for (scale, rate, decay), params in sorted(groups.items(), key=lambda item: -item[0][0]):
        scaling = {"lr_scale": scale, "initial_lr": rate} if scales else {}
        settings.append({"params": params, "lr": rate * scale, "weight_decay": decay, **scaling})
    if centers:
        settings.append({"params": centers, **_center_settings(solver, follows_gradient=follows_gradient)})
    return settings


def layer_scales(model: nn.Module, decay: float) -> dict[str, float]:
    """Layer-wise decay: factors on the rate, by the name of the parameter; those that are not named have 1.

    Of n blocks, block i (from 0) has decay^(n - i), and the embeddings (patches, class token, positions, side
    information) decay^(n + 1); the final norm, necks, classifiers and the bridge have 1. So do Bao et al., BEiT, ICLR
    2022, https://arxiv.org/abs/2106.08254 (beit/optim_factory.py). The blocks of JPM's branches stand for the last one.

    Raises:
        UserError: the model has no blocks.
    """
    layers = {name: match for name, _ in model.named_parameters() if (match := LAYER.match(name))}
    depth = 1 + max((int(layer["block"]) for layer in layers.values() if layer["block"]), default=-1)
    if depth == 0:
        raise UserError(
            f"SOLVER.LAYER_DECAY {decay}: it goes by the blocks of a vision transformer, and this model has none; set "
            "it to 1.0, or MODEL.NAME to transformer"
        )
    below = {
        name: depth + 1 if layer["embedding"] else depth - int(layer["block"] or depth - 1)
        for name, layer in layers.items()
    }
    return {name: decay**steps for name, steps in below.items()}


def _center_settings(solver, *, follows_gradient: bool) -> dict:
    """The centers move at CENTER_LR whatever the weight of their loss, in every epoch alike.

    Adam's steps do not depend on the size of the gradient; SGD's do, so the weight is divided out of them. With SGD
    that is what BoT and TransReID do; they move the centers by SGD beside Adam, too.
    """
    constant = {"weight_decay": 0.0, "constant_lr": True}  # read by make_scheduler
    if follows_gradient:
        return {"lr": solver.CENTER_LR / solver.CENTER_LOSS_WEIGHT, "momentum": 0.0, **constant}
    if solver.CENTER_LR > LARGE_ADAM_RATE:
        logger.warning(
            "SOLVER.CENTER_LR %s: %s moves every coordinate of the centers by that much a step; 0.01 suits it",
            solver.CENTER_LR,
            solver.OPTIMIZER_NAME,
        )
    return {"lr": solver.CENTER_LR, **constant}
