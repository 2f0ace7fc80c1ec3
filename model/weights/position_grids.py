"""Position embeddings of a file: which rows and columns of patches they are for, and how they get the model's."""

import math

import torch
import torch.nn.functional as F

from model.vit import grid_of
from utils.errors import UserError

# Image sizes and strides of published models, to tell the grid by where a file says neither.
KNOWN_SIZES = ((256, 128), (384, 128), (288, 128), (256, 256), (384, 384), (224, 224), (128, 64))
KNOWN_STRIDES = (16, 12, 11, 8)
_KNOWN_SQUARES = {(side // 16) ** 2 for side, other in KNOWN_SIZES if side == other}


def grid_of_size(
    count: int, img_size: tuple[int, int], patch_size: int, strides: tuple[tuple[int, int], ...]
) -> tuple[int, int] | None:
    """Rows and columns of `count` patches in an image (height, width), with the first stride that makes as many."""
    grids = (grid_of(img_size, patch_size, stride) for stride in strides)
    return next((grid for grid in grids if math.prod(grid) == count), None)


def possible_grids(count: int, patch_size: int, *, own: tuple[int, int]) -> list[tuple[int, int]]:
    """Every reading of a table of `count` patches: an image of a published size, the model's own grid, a square."""
    strides = tuple((step, step) for step in (patch_size, *KNOWN_STRIDES) if step <= patch_size)
    grids = [grid for size in KNOWN_SIZES if (grid := grid_of_size(count, size, patch_size, strides))]
    grids += [own] if math.prod(own) == count else []
    side = math.isqrt(max(count, 0))  # a broken file's table may hold less than its prefix
    grids += [(side, side)] if side * side == count else []
    return list(dict.fromkeys(grids))


def find_grid(
    count: int,
    *,
    patch_size: int,
    own: tuple[int, int],
    own_stride: tuple[int, int],
    stored: dict,
    given_size: tuple[int, int],
    square: bool | None,
    source: str,
) -> tuple[int, int]:
    """Rows and columns that a file's position table of `count` patches is for.

    Args:
        count: patches in the table.
        patch_size: of the file, in pixels.
        own, own_stride: grid and stride of the model that takes the weights.
        stored: the file's configuration, or what else tells its INPUT.SIZE_TEST and MODEL.STRIDE_SIZE; {} for none.
        given_size: MODEL.PRETRAIN_SIZE; (0, 0) for none.
        square: whether the images were square: True for a file with a head for ImageNet's classes, False for no reason
            to think so (a re-identification model), None where a square is as likely as any other grid.
        source: for messages.

    Raises:
        UserError: the configuration or the key contradict the table, or nothing tells and not just one reading fits.
    """
    if count < 1:
        raise UserError(f"{source}: its positions hold no patches; the file is broken, fetch it anew")
    size, stride = stored.get("INPUT.SIZE_TEST"), stored.get("MODEL.STRIDE_SIZE") or [patch_size, patch_size]
    told = f"its configuration says {size} with stride {stride}"
    strides: tuple[tuple[int, int], ...] = (tuple(stride),)
    if size is None and any(given_size):
        size, told = given_size, f"MODEL.PRETRAIN_SIZE says {list(given_size)}"
        squares = ((step, step) for step in (patch_size, *KNOWN_STRIDES) if step <= patch_size)
        strides = (*squares, own_stride)
    elif size is not None and any(given_size) and list(size) != list(given_size):
        raise UserError(f"{source}: MODEL.PRETRAIN_SIZE is {list(given_size)}, but {told}; leave the key out")
    if size is not None:
        grid = grid_of_size(count, tuple(size), patch_size, strides)
        if grid is None:
            raise UserError(f"{source}: positions of {count} patches, but {told}, which makes another number")
        return grid
    readings = possible_grids(count, patch_size, own=own)
    side = math.isqrt(count)
    if square and side * side == count:
        return side, side
    unlikely = square is False and readings == [(side, side)] and readings[0] != own and count not in _KNOWN_SQUARES
    if len(readings) != 1 or unlikely:
        known = " or ".join(f"{rows} x {columns}" for rows, columns in readings)
        which = f"perhaps {known}" if known else "neither those of a square grid nor of a known size"
        raise UserError(
            f"{source}: positions of {count} patches, {which}, and nothing in the file tells; set MODEL.PRETRAIN_SIZE "
            "to the height and width of the images that it was trained on"
        )
    return readings[0]


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
