"""Any model of timm as a backbone: https://github.com/huggingface/pytorch-image-models.

The backbone is timm's own model without its classifier, so its parameters have timm's names.
"""

import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from timm.layers import DropPath as TimmDropPath
from timm.layers import PatchEmbed
from timm.models._manipulate import group_with_matcher
from torch import nn

from model.drop_path import DropPath
from model.kinds import TIMM
from model.side_information import make_side_table, side_vectors
from model.vit_sizes import grid_of
from utils import sharding

OWN_STRIDE = (16, 16)  # the default of MODEL.STRIDE_SIZE: the stride of the model's own patches
# Arguments of timm's classes that take each drop probability. drop_rate is the dropout of the pooled feature, for
# models without one of activations.
DROP_PATH = ("drop_path_rate",)
DROP_OUT = ("pos_drop_rate", "proj_drop_rate", "drop_rate")
ATT_DROP_RATE = ("attn_drop_rate",)


@dataclass(frozen=True)
class Layout:
    """What a timm model returns.

    Attributes:
        embed_dim: width of the global feature, which `forward_head` pools.
        order: of the output of `forward_features`: "NLC" (tokens), "NCHW" or "NHWC" (a map).
        num_prefix: class, distillation and register tokens, which stand before the patch tokens.
        grid: rows and columns of patch tokens or of the map; None where the number of tokens is not that of a grid.
    """

    embed_dim: int
    order: str
    num_prefix: int
    grid: tuple[int, int] | None

    def local(self, features: torch.Tensor) -> torch.Tensor:
        """Patch tokens, or cells of the map, row by row: (B, P, D)."""
        if self.order == "NLC":
            return features[:, self.num_prefix :]
        return features.flatten(2).transpose(1, 2) if self.order == "NCHW" else features.flatten(1, 2)


class SideDropout(nn.Dropout):
    """The dropout after a model's position embedding, with side information (B or 1, 1, D) added to the tokens."""

    side: torch.Tensor | None = None  # of the current forward

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().forward(tokens if self.side is None else tokens + self.side)


class TimmBackbone(nn.Module):
    """What `make_timm_backbone` adds to a model of timm: one forward for the global feature and the local ones, and
    side information.

    Attributes:
        layout: of what it returns.
        num_cameras, num_views, sie_embed, sie_coefficient: see TransReIDViT.
    """

    kind = TIMM
    layout: Layout
    num_cameras: int
    num_views: int
    sie_embed: nn.Parameter | None
    sie_coefficient: float
    keeps_views: bool
    pos_drop: Any
    pretrained_cfg: dict[str, Any]

    def forward(
        self, images: torch.Tensor, camids: torch.Tensor | None = None, viewids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The global feature as timm pools it, and the local features.

        Args:
            images: (B, 3, H, W) float, normalised.
            camids, viewids: (B,) int64, needed where the model has SIE of cameras, or of viewpoints.

        Returns:
            (B, D), and (B, P, D') the patch tokens or the cells of the last map, row by row. Only where timm's head has
            a layer before its classifier do the two widths differ.
        """
        model: Any = self
        if self.keeps_views:
            for module in self.modules():
                if isinstance(module, DropPath):
                    module.num_views = sharding.num_views()
        if self.sie_embed is None:
            features = model.forward_features(images)
        else:
            numbers = {"num_cameras": self.num_cameras, "num_views": self.num_views}
            vectors = side_vectors(self.sie_embed, **numbers, camids=camids, viewids=viewids)
            self.pos_drop.side = None if vectors is None else self.sie_coefficient * vectors
            features = model.forward_features(images)
            self.pos_drop.side = None
        return model.forward_head(features, pre_logits=True), self.layout.local(features)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """timm's recomputation of blocks in backward; drop path then samples the same masks again."""
        model: Any = super()
        model.set_grad_checkpointing(enable)
        self.keeps_views = enable

    def layers_above(self) -> dict[str, int]:
        """How many layers are above each parameter's, the classifier counting as one; layers are those of timm's
        `group_matcher`, by which timm decays the lr too."""
        model: Any = self
        classifier = classifiers(model)[0]
        names = [name for name, _ in self.named_parameters() if name != "sie_embed"]
        objects = iter((name, name) for name in [*names, f"{classifier}.weight"])
        layers = group_with_matcher(objects, model.group_matcher(coarse=False), reverse=True)
        top = layers[f"{classifier}.weight"]
        above = {name: top - layers[name] for name in names}
        return above | ({"sie_embed": top} if self.sie_embed is not None else {})


def make_timm_backbone(
    name: str,
    img_size: tuple[int, int],
    layout: Layout,
    *,
    stride: tuple[int, int] = OWN_STRIDE,
    num_cameras: int = 0,
    num_views: int = 0,
    sie_coefficient: float = 3.0,
    side_width: int = 0,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
) -> Any:
    """Makes timm's model `name`, with random weights, as a TimmBackbone.

    The model itself gets a class that inherits from TimmBackbone and from its own, as modules do in torch's
    fully_shard; a module around it would put its own name before timm's.

    Args:
        name: as timm.create_model takes it.
        img_size: (height, width) in pixels.
        layout: that of timm_structure.
        stride: of patches (rows, columns) in pixels; OWN_STRIDE: the model's own.
        num_cameras, num_views, sie_coefficient: see TransReIDViT.
        side_width: width of the tokens to which the side information is added.
        drop_rate, attn_drop_rate, drop_path_rate: as of TransReIDViT, where the model takes them.
    """
    takes = parameters_of(name)
    rates = {DROP_OUT: drop_rate, ATT_DROP_RATE: attn_drop_rate, DROP_PATH: drop_path_rate}
    options = {argument: rate for names, rate in rates.items() for argument in names if rate and argument in takes}
    if "drop_rate" in options and len(options.keys() & DROP_OUT) > 1:
        del options["drop_rate"]
    model: Any = create(name, img_size, stride, **options)
    for parent in list(model.modules()):
        for child_name, child in parent.named_children():
            if type(child) is TimmDropPath:
                setattr(parent, child_name, DropPath(child.drop_prob, child.scale_by_keep))
    timm_class: Any = type(model)
    model.__class__ = _backbone_class(timm_class)
    model.layout = layout
    model.keeps_views = False
    model.num_cameras, model.num_views, model.sie_coefficient = num_cameras, num_views, sie_coefficient
    model.sie_embed = make_side_table(num_cameras, num_views, side_width)
    if model.sie_embed is not None:
        nn.init.trunc_normal_(model.sie_embed, std=0.02)  # as TransReID
        model.pos_drop = SideDropout(getattr(model.pos_drop, "p", 0.0))
    return model


@cache
def _backbone_class(timm_class: Any) -> type:
    return type(f"{timm_class.__name__}Backbone", (TimmBackbone, timm_class), {})


def create(
    name: str, img_size: tuple[int, int] | None, stride: tuple[int, int] = OWN_STRIDE, **options: float
) -> nn.Module:
    """timm's model `name` without classifier, with random weights, for images of that size; None: of its own."""
    arguments: dict[str, Any] = {"num_classes": 0, **options}
    if img_size is not None and "img_size" in parameters_of(name):
        arguments["img_size"] = img_size
    model = timm.create_model(name, pretrained=False, **arguments)
    if stride != OWN_STRIDE:
        _set_stride(model, stride)
    return model


@cache
def parameters_of(name: str) -> frozenset[str]:
    """Names of the arguments of the class of timm's model `name`."""
    with torch.device("meta"):  # without memory for its weights
        model = timm.create_model(name, pretrained=False, num_classes=0)
    names: set[str] = set()
    for timm_class in type(model).__mro__:
        arguments = inspect.signature(timm_class.__init__).parameters  # type: ignore[misc]
        names.update(arguments)
        if all(argument.kind != inspect.Parameter.VAR_KEYWORD for argument in arguments.values()):
            break
    return frozenset(names)


def _set_stride(model: Any, stride: tuple[int, int]) -> None:
    """Lets the patches of a model of tokens overlap.

    Raises:
        ValueError: a model of another structure.
    """
    patch_embed, positions = getattr(model, "patch_embed", None), getattr(model, "pos_embed", None)
    if type(patch_embed) is not PatchEmbed or patch_embed.grid_size is None:
        raise ValueError("no embedding of patches in a grid")
    before = patch_embed.num_patches
    patch_embed.proj.stride = stride
    patch_embed.grid_size = grid_of(patch_embed.img_size, patch_embed.patch_size[0], stride)
    patch_embed.num_patches = patch_embed.grid_size[0] * patch_embed.grid_size[1]
    if positions is not None:
        count = positions.shape[1] - before + patch_embed.num_patches
        model.pos_embed = nn.Parameter(positions.new_empty(1, count, positions.shape[2]))
        nn.init.trunc_normal_(model.pos_embed, std=0.02)
    if hasattr(getattr(model, "rope", None), "update_feat_shape"):
        model.rope.update_feat_shape(patch_embed.grid_size)


def classifiers(model: Any) -> tuple[str, ...]:
    """Names of timm's classifier layers."""
    names = model.pretrained_cfg.get("classifier") or "head"
    return (names,) if isinstance(names, str) else tuple(names)
