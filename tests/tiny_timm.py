"""Tiny models in timm's registry: importing this file puts them there."""

from timm.models import generate_default_cfgs, register_model
from timm.models.swin_transformer import _create_swin_transformer
from timm.models.vision_transformer import _create_vision_transformer

# The golden models of DINOv2, tests/golden/README.md.
DINOV2 = {"patch_size": 14, "embed_dim": 24, "depth": 2, "num_heads": 3, "init_values": 1.0, "img_size": 56}
REGISTERS = {"reg_tokens": 4, "no_embed_class": True}
SWIN = {"patch_size": 4, "window_size": 4, "embed_dim": 12, "depths": (1, 2), "num_heads": (2, 4), "img_size": 56}
_WEIGHTS = {"input_size": (3, 56, 56), "num_classes": 5}
default_cfgs = generate_default_cfgs(
    {
        "tiny_dinov2.test": {**_WEIGHTS, "classifier": "head"},
        "tiny_dinov2_reg.test": {**_WEIGHTS, "classifier": "head"},
        "tiny_swin.test": {**_WEIGHTS, "classifier": "head.fc"},
    }
)


@register_model
def tiny_dinov2(pretrained=False, **options):
    return _create_vision_transformer("tiny_dinov2", pretrained, **{**DINOV2, **options})


@register_model
def tiny_dinov2_reg(pretrained=False, **options):
    return _create_vision_transformer("tiny_dinov2_reg", pretrained, **{**DINOV2, **REGISTERS, **options})


@register_model
def tiny_swin(pretrained=False, **options):
    return _create_swin_transformer("tiny_swin", pretrained, **{**SWIN, **options})
