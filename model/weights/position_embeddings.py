"""Position embeddings of a file: which grid of patches they are for, and their resizing to the model's grid."""

import math

import torch
from timm.layers import resample_abs_pos_embed

from model.vit_sizes import grid_of
from utils.errors import UserError

Grid = tuple[int, int]  # rows and columns of patches

# Image sizes and strides of published models, to find the grid of a file that records neither.
KNOWN_SIZES = ((256, 128), (384, 128), (288, 128), (256, 256), (384, 384), (224, 224), (128, 64))
KNOWN_STRIDES = (16, 12, 11, 8)
_KNOWN_SQUARES = {(height // 16) ** 2 for height, width in KNOWN_SIZES if height == width}


def grid_of_size(count: int, img_size: tuple[int, int], patch_size: int, strides: list[tuple[int, int]]) -> Grid | None:
    """The grid of `count` patches in an image (height, width), with the first stride that makes so many."""
    grids = (grid_of(img_size, patch_size, stride) for stride in strides)
    return next((grid for grid in grids if math.prod(grid) == count), None)


def possible_grids(count: int, patch_size: int, *, own: Grid) -> list[Grid]:
    """Every grid that a table of `count` patches may be for: of a published size, the model's own, a square."""
    strides = _square_strides(patch_size)
    grids = [grid for size in KNOWN_SIZES if (grid := grid_of_size(count, size, patch_size, strides))]
    grids += [own] if math.prod(own) == count else []
    side = math.isqrt(max(count, 0))  # a broken file's table may hold less than its prefix
    grids += [(side, side)] if side * side == count else []
    return list(dict.fromkeys(grids))


def find_grid(
    count: int,
    *,
    patch_size: int,
    own: Grid,
    own_stride: tuple[int, int],
    stored: dict,
    given_size: tuple[int, int],
    square: bool | None,
    source: str,
    hw_ratio: int = 0,
) -> Grid:
    """Finds the grid that a file's position embeddings of `count` patches are for.

    Args:
        count: patches in the table.
        patch_size: of the file, in pixels.
        own, own_stride: grid and stride of the model that takes the weights.
        stored: configuration of the file by dotted key, with INPUT.SIZE_TEST and MODEL.STRIDE_SIZE; {} for none.
        given_size: MODEL.PRETRAIN_SIZE; (0, 0) for none.
        square: whether the images were square: True for a file with a classifier of ImageNet, False for a
            re-identification model, None where nothing is known.
        source: for messages.
        hw_ratio: MODEL.PRETRAIN_HW_RATIO, rows over columns of the grid; 0 for none.

    Raises:
        UserError: the configuration or a key contradict the table or one another, or none is there and several grids
            fit.
    """
    if count < 1:
        raise UserError(f"{source}: its positions hold no patches; the file is broken, fetch it anew")
    size, stride = stored.get("INPUT.SIZE_TEST"), stored.get("MODEL.STRIDE_SIZE") or [patch_size, patch_size]
    said_by = f"its configuration says {size} with stride {stride}"
    strides = [tuple(stride)]
    if size is None and any(given_size):
        size, said_by = given_size, f"MODEL.PRETRAIN_SIZE says {list(given_size)}"
        strides = [*_square_strides(patch_size), own_stride]
    elif size is not None and any(given_size) and list(size) != list(given_size):
        raise UserError(f"{source}: MODEL.PRETRAIN_SIZE is {list(given_size)}, but {said_by}; leave the key out")
    if size is not None:
        grid = grid_of_size(count, tuple(size), patch_size, strides)
        if grid is None:
            raise UserError(f"{source}: positions of {count} patches, but {said_by}, which makes another number")
        if hw_ratio and round(grid[0] / grid[1]) != hw_ratio:
            raise UserError(
                f"{source}: MODEL.PRETRAIN_HW_RATIO is {hw_ratio}, but {said_by}, which makes {grid[0]} x {grid[1]} "
                "patches; leave the key out"
            )
        return grid
    if hw_ratio:
        return _grid_of_ratio(count, hw_ratio, source)
    grids = possible_grids(count, patch_size, own=own)
    side = math.isqrt(max(count, 0))  # a broken file's table may hold less than its prefix
    if square and side * side == count:
        return side, side
    unlikely = square is False and grids == [(side, side)] and grids[0] != own and count not in _KNOWN_SQUARES
    if len(grids) != 1 or unlikely:
        known = " or ".join(f"{rows} x {columns}" for rows, columns in grids)
        which = f"perhaps {known}" if known else "neither those of a square grid nor of a known size"
        raise UserError(
            f"{source}: positions of {count} patches, {which}, and nothing in the file tells; set MODEL.PRETRAIN_SIZE "
            "to the height and width of the images that it was trained on"
        )
    return grids[0]


def _grid_of_ratio(count: int, hw_ratio: int, source: str) -> Grid:
    rows = math.isqrt(count * hw_ratio)
    if rows * (rows // hw_ratio) != count:
        raise UserError(
            f"{source}: positions of {count} patches, which no grid of MODEL.PRETRAIN_HW_RATIO {hw_ratio} has; set it "
            "to 0, and where nothing else tells, MODEL.PRETRAIN_SIZE to the size of the images that it was trained on"
        )
    return rows, rows // hw_ratio


def resize_position_embedding(
    embedding: torch.Tensor, grid_size: Grid, *, from_grid: Grid, num_prefix: int
) -> torch.Tensor:
    """Resizes position embeddings by timm, bilinearly and without antialiasing, as TransReID does.

    Args:
        embedding: (1, num_prefix + h * w, D) of the grid `from_grid` (h, w).
        grid_size: (h', w').
        num_prefix: positions before those of the patches: 0, 1 for the class token's, or 2, of which the second,
            DeiT's distillation token's, is dropped.

    Returns:
        (1, num_prefix + h' * w', D), with at most one prefix.
    """
    kept = min(num_prefix, 1)
    embedding = torch.cat([embedding[:, :kept], embedding[:, num_prefix:]], dim=1)
    return resample_abs_pos_embed(
        embedding,
        list(grid_size),
        list(from_grid),
        num_prefix_tokens=kept,
        interpolation="bilinear",
        antialias=False,
    )


def _square_strides(patch_size: int) -> list[tuple[int, int]]:
    return [(step, step) for step in (patch_size, *KNOWN_STRIDES) if step <= patch_size]
