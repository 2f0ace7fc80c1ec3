"""Kinds of backbones: which one a configuration asks for. What a kind needs is looked up by its name in four tables:

model/check.py CHECKS               checks its keys
model/make_reid.py MAKERS           makes its model
model/weights/file_kinds.py         recognises it in a file, tells its keys, fits a pretrained state dict to it
"""

from typing import Final

from yacs.config import CfgNode

VIT: Final = "vit"
RESNET: Final = "resnet"
TIMM: Final = "timm"
RESNETS = ("resnet50",)  # values of MODEL.NAME


def kind_of(cfg: CfgNode) -> str:
    """The kind of backbone that a configuration asks for."""
    return kind_of_names(cfg.MODEL.NAME, cfg.MODEL.TRANSFORMER_TYPE)


def kind_of_names(name: str, transformer_type: str) -> str:
    """The kind of backbone that the values of MODEL.NAME and MODEL.TRANSFORMER_TYPE ask for."""
    if name == "timm":
        return TIMM
    return RESNET if name in RESNETS else VIT
