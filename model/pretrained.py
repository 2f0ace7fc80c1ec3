"""Weights to start training from: the family's files, any of timm's or torchvision's, or timm's hub."""

import logging
import math

import timm
import torch
import torch.nn.functional as F
from torch import nn

from model.strict import load_strictly
from model.vit import TransReIDViT, grid_of
from utils.checkpoints import State, load_checkpoint, model_state
from utils.errors import UserError

logger = logging.getLogger(__name__)

HUB = "timm:"  # before the name of a model in timm's hub
# What a re-identification checkpoint has beside its backbone.
REID_HEADS = ("bottleneck", "classifier", "normalize.", "global_pool.", "b1.", "b2.")
# Grids of published models that are not square, by their number of patches: 256 x 128 and 384 x 128 pixels, strides 16
# and 12.
KNOWN_GRIDS = {
    rows * columns: (rows, columns)
    for size in ((256, 128), (384, 128))
    for stride in (16, 12)
    for rows, columns in [grid_of(size, 16, (stride, stride))]
}


def load_pretrained(base: nn.Module, path: str) -> None:
    """Loads weights into a backbone, a TransReIDViT or a ResNetTrunk; position embeddings are resized.

    Args:
        path: a file of TransReID's start weights, of timm or of torchvision, a re-identification checkpoint (its
            backbone is taken), or timm:NAME.

    Raises:
        UserError: the file is missing, unreadable, or does not fit; nothing keeps its random value silently.
    """
    source = f"MODEL.PRETRAIN_PATH {path}"
    if path.startswith(HUB):
        state = _from_hub(path.removeprefix(HUB))
    else:
        state = model_state(load_checkpoint(path), path)
    from_reid = any(name.startswith("base.") for name in state)
    names = set(state)
    if from_reid:
        state = _backbone_of(state)
    is_transformer = isinstance(base, TransReIDViT)
    if ("conv1.weight" if is_transformer else "cls_token") in state:
        raise UserError(
            f"{source}: weights of a {'ResNet' if is_transformer else 'vision transformer'}, and MODEL.NAME is "
            f"{'transformer' if is_transformer else 'resnet50'}; give the weights of that, e.g. pretrained/"
            f"{'jx_vit_base_p16_224-80ecf9dd.pth' if is_transformer else 'resnet50-19c8e357.pth'}, or '' to start from "
            "random ones"
        )
    if is_transformer:
        state = _fit_transformer(base, state, source, from_reid=from_reid)
    kept = {f"base.{name}" for name in state} if from_reid else set(state)
    load_strictly(base, state, source=source, optional=("sie_embed",), left_out=tuple(sorted(names - kept)))


def _backbone_of(state: State) -> State:
    """The backbone in the state of a re-identification model; with JPM, its global branch is the last block."""
    backbone = {name.removeprefix("base."): value for name, value in state.items() if not name.startswith(REID_HEADS)}
    if "b1.1.weight" in state:
        last = max(int(name.split(".")[1]) for name in backbone if name.startswith("blocks."))
        branch = {name.removeprefix("b1."): value for name, value in state.items() if name.startswith("b1.")}
        for name, value in branch.items():
            layer, rest = name.split(".", 1)
            backbone[f"blocks.{last}.{rest}" if layer == "0" else f"norm.{rest}"] = value
    return backbone


def _from_hub(name: str) -> State:
    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"MODEL.PRETRAIN_PATH {HUB}{name}: timm has no model of this name; timm.list_models() has them")
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:  # huggingface_hub's errors are OSErrors or ValueErrors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"MODEL.PRETRAIN_PATH {HUB}{name}: cannot be fetched ({reason}); for want of a network, take "
            f"model.safetensors of timm/{name} on the Hugging Face hub from another machine, put it to "
            f"pretrained/{name}.safetensors and set MODEL.PRETRAIN_PATH to that"
        ) from error


def _fit_transformer(base: TransReIDViT, state: State, source: str, *, from_reid: bool) -> State:
    """The state with the positions of the backbone's grid, without distillation token, patches projected by a
    convolution."""
    state = dict(state)
    num_prefix = 2 if state.pop("dist_token", None) is not None else 1
    projection = state.get("patch_embed.proj.weight")
    own = base.patch_embed.proj.weight
    if projection is not None and projection.shape == own.flatten(1).shape:  # older files: a linear layer (D, 3 p p)
        state["patch_embed.proj.weight"] = projection.reshape(own.shape)
    sides = state.get("sie_embed")
    if sides is not None and (base.sie_embed is None or base.sie_embed.shape != sides.shape):
        logger.info("%s: side information of another data set (%d vectors) is left out", source, len(sides))
        del state["sie_embed"]
    positions = state.get("pos_embed")
    if positions is not None and positions.ndim == 3 and positions.shape[1] > num_prefix:  # others do not fit
        grid_size = base.patch_embed.grid_size
        count = positions.shape[1] - num_prefix
        # ImageNet's pictures are square; a model of persons with as many patches as this one cuts them alike
        guessed = grid_size if from_reid and count == math.prod(grid_size) else guess_grid(count)
        from_grid = guessed or (grid_size if count == math.prod(grid_size) else None)
        if from_grid is None:
            raise UserError(
                f"{source}: positions of {count} patches, neither those of a square grid nor of a known size "
                f"({', '.join(f'{rows} x {columns}' for rows, columns in KNOWN_GRIDS.values())})"
            )
        if from_grid != grid_size:
            logger.info("%s: positions resized from %d x %d to %d x %d patches", source, *from_grid, *grid_size)
        state["pos_embed"] = resize_position_embedding(
            positions.float(), grid_size, from_grid=from_grid, num_prefix=num_prefix
        )
    return state


def guess_grid(count: int) -> tuple[int, int] | None:
    """Rows and columns of a position table of `count` patches: a square one, or that of a published person model."""
    side = math.isqrt(count)
    return (side, side) if side * side == count else KNOWN_GRIDS.get(count)


def resize_position_embedding(
    embedding: torch.Tensor, grid_size: tuple[int, int], *, from_grid: tuple[int, int], num_prefix: int
) -> torch.Tensor:
    """Resizes position embeddings bilinearly.

    Args:
        embedding: (1, num_prefix + h * w, D) of a grid `from_grid` (h, w); a second prefix, DeiT's distillation token,
            is dropped.
        grid_size: (h', w').

    Returns:
        (1, 1 + h' * w', D).
    """
    prefix, patches = embedding[:, :1], embedding[:, num_prefix:]
    if from_grid != tuple(grid_size):
        patches = patches.unflatten(1, from_grid).permute(0, 3, 1, 2)  # (1, D, h, w)
        patches = F.interpolate(patches, size=grid_size, mode="bilinear", align_corners=False)
        patches = patches.flatten(2).transpose(1, 2)  # (1, h' * w', D)
    return torch.cat([prefix, patches], dim=1)
