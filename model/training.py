"""Sets up a model for training: gradient checkpointing, compilation, several processes."""

import logging
from typing import TypeVar

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from yacs.config import CfgNode

from model.cfat import CFAT
from model.reid import Gather, ReIDModel
from utils import distributed, sharding
from utils.devices import pick_device

logger = logging.getLogger(__name__)

Model = TypeVar("Model", ReIDModel, CFAT)


def set_up_training(cfg: CfgNode, model: Model) -> Model:
    """Applies SOLVER.GRAD_CHECKPOINT, COMPILE and GLOBAL_LOSS to `model` and returns it."""
    solver, several = cfg.SOLVER, distributed.world_size() > 1
    if several and solver.GLOBAL_LOSS:
        aligns_patches = cfg.CFAT.COSINE.PATCH_WEIGHT > 0 or cfg.CFAT.TOKENS.WEIGHT > 0
        model.gather = Gather(sharding.all_gather_rows, patch_tokens=aligns_patches)
    for reid in [module for module in model.modules() if isinstance(module, ReIDModel)]:
        if solver.GRAD_CHECKPOINT:
            reid.base.set_grad_checkpointing()
        if several and any(isinstance(module, nn.BatchNorm2d) for module in reid.base.modules()):
            _synchronise_batch_norm(reid, pick_device(cfg.MODEL.DEVICE))
        if solver.COMPILE:
            torch.compiler.config.cache_key_tag = solver.AMP  # torch's cache on disk mixes up half precisions
            reid.base.compile()
    return model


def _synchronise_batch_norm(reid: ReIDModel, device: torch.device) -> None:
    """Lets the BatchNorm layers of the backbone see the batch of all processes; torch can do so on GPUs alone."""
    if device.type == "cuda":
        reid.base = convert_sync_batchnorm(reid.base)  # timm's knows its own layers too
    else:
        logger.warning("BatchNorm layers of the backbone: on CPUs each process normalises by its own part of a batch")
