"""Kinds of backbones: which one a configuration asks for. What a kind needs is looked up by its name in four tables:

model/check.py CHECKS               checks its keys
model/make_reid.py MAKERS           makes its model
model/weights/file_kinds.py         recognises it in a file, tells its keys, fits a pretrained state dict to it
"""

from typing import Final

from yacs.config import CfgNode

from model.swin_sizes import SWIN_SIZES
from model.vit_sizes import CLIP_SIZES

VIT: Final = "vit"
RESNET: Final = "resnet"
SWIN: Final = "swin"
CLIP: Final = "clip"
TIMM: Final = "timm"
# Values of MODEL.NAME.
RESNETS = ("resnet50", "resnet50_ibn_a")
NAMES = ("transformer", "timm", *RESNETS)


def kind_of(cfg: CfgNode) -> str:
    """The kind of backbone that a configuration asks for."""
    name = cfg.MODEL.NAME
    return kind_of_names(name, "" if name in RESNETS else cfg.MODEL.TRANSFORMER_TYPE)


def kind_of_names(name: str, transformer_type: str) -> str:
    """The kind of backbone that the values of MODEL.NAME and MODEL.TRANSFORMER_TYPE ask for."""
    if name in RESNETS:
        return RESNET
    if name == "timm":
        return TIMM
    if transformer_type in SWIN_SIZES:
        return SWIN
    return CLIP if transformer_type in CLIP_SIZES else VIT
