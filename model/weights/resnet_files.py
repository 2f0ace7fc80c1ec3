"""ResNets in files: what tells them, and their keys."""

import logging
from typing import Any

from yacs.config import CfgNode

from model.weights.file_kind import FileKind
from model.weights.model_file import ModelFile
from model.weights.state_dicts import State

logger = logging.getLogger(__name__)

KEYS = ("MODEL.LAST_STRIDE", "MODEL.GEM_POOL", "MODEL.STEM_RELU", "MODEL.STEM_POOL")


def _keys(cfg: CfgNode, file: ModelFile, backbone: State, stored: dict[str, Any]) -> dict[str, Any]:
    gem_pool = "global_pool.p" in file.state
    return {"MODEL.NAME": stored.get("MODEL.NAME", "resnet50"), "MODEL.GEM_POOL": gem_pool, "MODEL.JPM": False}


def _warn(cfg: CfgNode, file: ModelFile) -> None:
    if "MODEL.STEM_POOL" not in file.config:
        logger.warning(
            "checkpoint %s does not tell the pooling of its stem: MODEL.STEM_POOL %d of the configuration is used; the "
            "TransReID codebase (CIL-ReID among it) has 2, BoT and torchvision 3",
            file.path,
            cfg.MODEL.STEM_POOL,
        )


RESNET_FILES = FileKind(
    title="a ResNet",
    example="resnet50, with e.g. pretrained/resnet50-19c8e357.pth",
    keys_of_model=KEYS,
    holds=lambda backbone: "conv1.weight" in backbone,
    keys=_keys,
    relevant_keys=lambda values: list(KEYS),
    describe=lambda found: [found["MODEL.NAME"], *(["GeM pooling"] if found["MODEL.GEM_POOL"] else [])],
    warn=_warn,
)
