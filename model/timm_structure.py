"""What a timm model is, found by running it on torch's meta device: shapes alone, without memory or arithmetic."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from timm.layers import Attention, to_2tuple
from torch import nn

from model.timm_backbone import OWN_STRIDE, Layout, create, parameters_of
from utils.errors import UserError, did_you_mean

UNITS = (32, 28, 64, 56, 224)  # of image sizes; what models divide them by


@dataclass(frozen=True)
class TimmStructure:
    """A timm model for images of one size.

    Attributes:
        layout: of what it returns.
        side_width: width of the tokens to which side information can be added; 0: nowhere.
        takes: names of the arguments of its class.
        has_batch_norm: it has BatchNorm layers.
        can_checkpoint: timm recomputes its blocks in backward if asked to.
        can_decay: timm orders its layers for layer-wise lr decay.
        has_rollout: its feature is a class token, and its blocks have timm's plain attention.
    """

    layout: Layout
    side_width: int
    takes: frozenset[str]
    has_batch_norm: bool
    can_checkpoint: bool
    can_decay: bool
    has_rollout: bool

    @property
    def has_image_size(self) -> bool:
        """Whether the model is made for one image size."""
        return "img_size" in self.takes


@cache
def timm_structure(name: str, img_size: tuple[int, int], stride: tuple[int, int] = OWN_STRIDE) -> TimmStructure:
    """Finds what timm's model `name` is for images (height, width) and a patch stride.

    Raises:
        UserError: no such model, one without a global feature and local ones, or a size or stride that it cannot have.
    """
    if not timm.is_model(name):
        raise UserError(
            f"MODEL.TRANSFORMER_TYPE {name!r}: timm has no model of this name"
            f"{did_you_mean(name, timm.list_models(), count=3, cutoff=0.5) or '; timm.list_models() has them'}"
        )
    model, output = _try(name, img_size)
    if isinstance(output, Exception):
        raise UserError(_why_not(name, img_size, output))
    _check_divisible(model, name, img_size, stride)
    if stride != OWN_STRIDE:
        _check_stride(model, name, stride)
        model, output = _try(name, img_size, stride)
        grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
        if isinstance(output, Exception) or grid is None or output.layout.grid != tuple(grid):
            raise UserError(_OTHER_STRIDE.format(list(stride), f"the patches of {name} cannot overlap"))
    return output


def _try(name: str, img_size: tuple[int, int] | None, stride: tuple[int, int] = OWN_STRIDE) -> tuple[Any, Any]:
    """The model on the meta device with its structure, or with the reason why it has none."""
    model: Any = None
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = create(name, img_size, stride).eval()
            size = img_size or model.pretrained_cfg["input_size"][1:]
            return model, _structure(model, name, torch.empty(2, 3, *size))
    except Exception as error:  # timm's models assert, and raise errors of a dozen classes
        return model, error


@torch.no_grad()
def _structure(model: Any, name: str, images: torch.Tensor) -> TimmStructure:
    """Runs the model. Raises TypeError where its output is not one of features."""
    positioned: list[torch.Size] = []  # shapes of the tokens after the position embedding
    if isinstance(place := getattr(model, "pos_drop", None), nn.Module):
        place.register_forward_pre_hook(lambda module, inputs: positioned.append(inputs[0].shape))
    features = model.forward_features(images)
    if not isinstance(features, torch.Tensor) or features.ndim not in (3, 4):
        raise TypeError("its features are neither tokens nor one map")
    pooled = model.forward_head(features, pre_logits=True)
    if not isinstance(pooled, torch.Tensor) or pooled.ndim != 2:
        raise TypeError("its head pools no global feature")
    layout = _layout(model, features, pooled.shape[1])
    if not layout.local(features).shape[1]:
        raise ValueError("it leaves no local features")
    takes_sides = len(positioned) == 1 and layout.order == "NLC" and positioned[0][:-1] == features.shape[:-1]
    return TimmStructure(
        layout=layout,
        side_width=positioned[0][-1] if takes_sides else 0,
        takes=parameters_of(name),
        has_batch_norm=any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()),
        can_checkpoint=_can_checkpoint(model),
        can_decay=hasattr(model, "group_matcher"),
        has_rollout=layout.grid is not None and getattr(model, "global_pool", "") == "token" and _is_plain(model),
    )


def _layout(model: Any, features: torch.Tensor, embed_dim: int) -> Layout:
    if features.ndim == 4:
        order = "NHWC" if str(getattr(model, "output_fmt", "")) == "NHWC" else "NCHW"
        rows, columns = features.shape[1:3] if order == "NHWC" else features.shape[2:]
        return Layout(embed_dim, order, 0, (rows, columns))
    has_class_token = any(name.startswith("cls_token") for name, _ in model.named_parameters(recurse=False))
    num_prefix = getattr(model, "num_prefix_tokens", int(has_class_token))
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    fits = grid is not None and grid[0] * grid[1] == features.shape[1] - num_prefix
    return Layout(embed_dim, "NLC", num_prefix, tuple(grid) if grid is not None and fits else None)


def _is_plain(model: Any) -> bool:
    """Whether every block has the attention that model.attention_rollout computes."""
    blocks = getattr(model, "blocks", ())
    return len(blocks) > 0 and all(type(getattr(block, "attn", None)) is Attention for block in blocks)


def _can_checkpoint(model: Any) -> bool:
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, AttributeError):
        return False
    return True


def _why_not(name: str, img_size: tuple[int, int], error: Exception) -> str:
    """The message for a model that does not run with images of that size."""
    if not isinstance(error, TypeError):
        model, native = _try(name, None)
        if not isinstance(native, Exception):
            return (
                f"INPUT.SIZE_TEST {list(img_size)}: {name} does not take images of this size ({_first_line(error)}); "
                f"set INPUT.SIZE_TRAIN and SIZE_TEST {_sizes_that_fit(name, img_size, model)}"
            )
        error = native
    if "pretrained tag" in str(error).lower():
        return (
            f"MODEL.TRANSFORMER_TYPE {name}: {_first_line(error)}; give the name without the tag, {name.split('.')[0]}"
        )
    return (
        f"MODEL.TRANSFORMER_TYPE {name}: timm's model gives no global and local features ({_first_line(error)}); "
        "choose another one, e.g. vit_small_patch14_dinov2, convnext_tiny or swin_tiny_patch4_window7_224"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".")[:160] if lines else type(error).__name__


_OTHER_STRIDE = (
    f"MODEL.STRIDE_SIZE {{}}: {{}}; set it to {list(OWN_STRIDE)}, which with MODEL.NAME timm is the stride of the "
    "model's own patches, whatever their size"
)


def _patch_size(model: Any) -> tuple[int, int] | None:
    """Height and width of the patches of a model that cuts an image into patches side by side; None for others."""
    embed = getattr(model, "patch_embed", None)
    projection, patch = getattr(embed, "proj", None), getattr(embed, "patch_size", None)
    padded = not isinstance(projection, nn.Conv2d | nn.Linear) or any(getattr(projection, "padding", (0, 0)))
    return None if patch is None or padded else to_2tuple(patch)


def _check_stride(model: Any, name: str, stride: tuple[int, int]) -> None:
    patch = _patch_size(model) or stride
    if any(step > length for step, length in zip(stride, patch, strict=True)):
        reason = f"more than a patch of {name}, {patch[0]} x {patch[1]} pixels"
        raise UserError(_OTHER_STRIDE.format(list(stride), reason))


def _check_divisible(model: Any, name: str, img_size: tuple[int, int], stride: tuple[int, int]) -> None:
    """Refuses an image size at which patches side by side leave pixels out at the right and the bottom."""
    patch = _patch_size(model)
    if stride != OWN_STRIDE or patch is None or getattr(model.patch_embed, "dynamic_img_pad", False):
        return
    if any(side % length for side, length in zip(img_size, patch, strict=True)):
        raise UserError(
            f"INPUT.SIZE_TEST {list(img_size)}: {name} has patches of {patch[0]} x {patch[1]} pixels, which do not "
            f"cover images of this size; set INPUT.SIZE_TRAIN and SIZE_TEST {_sizes_that_fit(name, img_size, model)}"
        )


def _sizes_that_fit(name: str, img_size: tuple[int, int], model: Any) -> str:
    """The nearest image sizes that the model takes, for a message."""
    patch = _patch_size(model) or (1, 1)
    for unit in (max(patch), *UNITS):
        if unit == 1 or any(unit % length for length in patch):
            continue
        sizes = list(dict.fromkeys(_multiples(img_size, unit)))
        fitting = [list(size) for size in sizes if not isinstance(_try(name, size)[1], Exception)]
        if fitting:
            return f"to {' or '.join(map(str, fitting))}, multiples of {unit}"
    return f"to the size that it is made for, {list(model.pretrained_cfg['input_size'][1:])}"


def _multiples(img_size: tuple[int, int], unit: int) -> Iterator[tuple[int, int]]:
    """Sizes whose sides are multiples of `unit`: the next smaller and the next larger."""
    height, width = img_size
    yield max(height // unit, 1) * unit, max(width // unit, 1) * unit
    yield -(-height // unit) * unit, -(-width // unit) * unit
