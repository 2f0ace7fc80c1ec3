"""How a model is trained: in parts of a batch, compiled, as one of several processes."""

import logging
from typing import TypeVar

import torch
from torch import nn

from model.cfat import CFAT
from model.reid import Gather, ReIDModel
from model.resnet import ResNetReID
from utils import distributed
from utils.errors import UserError

logger = logging.getLogger(__name__)

Model = TypeVar("Model", ReIDModel, CFAT)


def set_up_training(cfg, model: Model) -> Model:
    """Applies SOLVER.GRAD_CHECKPOINT, COMPILE and GLOBAL_LOSS to `model`, and returns it.

    Raises:
        UserError: SOLVER.ACCUMULATE with a ResNet, whose BatchNorm would see parts of the batch.
    """
    solver, several = cfg.SOLVER, distributed.world_size() > 1
    if several and solver.GLOBAL_LOSS:
        model.gather = Gather(distributed.all_gather_rows, patch_tokens=cfg.CFAT.COSINE.PATCH_WEIGHT > 0)
    for part in model.modules():
        if not isinstance(part, ReIDModel):
            continue
        if isinstance(part, ResNetReID):
            if several:
                part.base = nn.SyncBatchNorm.convert_sync_batchnorm(part.base)
                logger.warning("the BatchNorm layers of the ResNet are synchronised on GPUs, on CPUs each is alone")
        elif solver.GRAD_CHECKPOINT:
            part.base.set_grad_checkpointing()
        if solver.COMPILE:
            torch.compiler.config.cache_key_tag = solver.AMP  # its cache on disk does not tell half precisions apart
            part.base.compile()
    return model
