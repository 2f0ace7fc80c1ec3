"""Exponential moving average of a model's weights, by timm."""

from timm.utils import ModelEmaV3
from torch import nn
from yacs.config import CfgNode


def make_ema(cfg: CfgNode, model: nn.Module) -> ModelEmaV3 | None:
    """Makes the moving average of a model's weights with SOLVER.EMA_DECAY; None where that is 0.

    Call `.update(model)` after each step; `.module` is the averaged model. The decay warms up: after step n, from 0, it
    is at most 1 - n^(-2/3).
    """
    if not cfg.SOLVER.EMA_DECAY:
        return None
    return ModelEmaV3(model, decay=cfg.SOLVER.EMA_DECAY, use_warmup=True)
