"""ResNets in files: what tells them, and their keys."""

import logging
from typing import Any

from yacs.config import CfgNode

from model.ibn import IBN
from model.weights.file_kind import FileKind, Pretrained
from model.weights.model_file import ModelFile
from model.weights.state_dicts import State, backbone_of
from utils.errors import UserError

logger = logging.getLogger(__name__)

KEYS = ("MODEL.LAST_STRIDE", "MODEL.GEM_POOL", "MODEL.STEM_RELU", "MODEL.STEM_POOL")


def _keys(cfg: CfgNode, file: ModelFile, backbone: State, stored: dict[str, Any]) -> dict[str, Any]:
    name = "resnet50_ibn_a" if _has_ibn(backbone) else stored.get("MODEL.NAME", "resnet50")
    return {"MODEL.NAME": name, "MODEL.GEM_POOL": "global_pool.p" in file.state, "MODEL.JPM": False}


def _has_ibn(backbone: State) -> bool:
    return "layer1.0.bn1.IN.weight" in backbone


def _warn(cfg: CfgNode, file: ModelFile) -> None:
    if "MODEL.STEM_POOL" not in file.config:
        logger.warning(
            "checkpoint %s does not tell the pooling of its stem: MODEL.STEM_POOL %d of the configuration is used; the "
            "TransReID codebase (CIL-ReID among it) has 2, BoT and torchvision 3",
            file.path,
            cfg.MODEL.STEM_POOL,
        )
    if "MODEL.STEM_RELU" not in file.config and _has_ibn(backbone_of(file.state)) and not cfg.MODEL.STEM_RELU:
        logger.warning(
            "checkpoint %s does not tell the ReLU of its stem: MODEL.STEM_RELU False of the configuration is used; "
            "IBN-Net, BoT and fast-reid have it in their ResNet-50 with IBN-a",
            file.path,
        )


def _fit(base: Any, state: State, pretrained: Pretrained) -> State:
    """Checks that file and backbone both have IBN-a, or both have not."""
    expected = any(isinstance(module, IBN) for module in base.modules())
    if _has_ibn(state) != expected and "layer1.0.conv1.weight" in state:
        titles = {True: "a ResNet with IBN-a", False: "a ResNet without IBN-a"}
        raise UserError(
            f"{pretrained.source}: weights of {titles[not expected]}, and the model is {titles[expected]}; set "
            f"MODEL.NAME to {'resnet50' if expected else 'resnet50_ibn_a'}, or give other weights"
        )
    return state


RESNET_FILES = FileKind(
    title="a ResNet",
    example="resnet50, with e.g. pretrained/resnet50-19c8e357.pth",
    keys_of_model=KEYS,
    holds=lambda backbone: "conv1.weight" in backbone,
    keys=_keys,
    relevant_keys=lambda values: list(KEYS),
    describe=lambda found: [found["MODEL.NAME"], *(["GeM pooling"] if found["MODEL.GEM_POOL"] else [])],
    warn=_warn,
    fit=_fit,
)
