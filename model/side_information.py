"""Side information embedding (SIE): a learned vector for each camera and viewpoint, added to every token.

He et al., TransReID, ICCV 2021, section 3.3, https://arxiv.org/abs/2102.04378.
"""

import torch
from torch import nn


def make_side_table(num_cameras: int, num_views: int, width: int) -> nn.Parameter | None:
    """The table (R, 1, width) of `side_vectors`, 0 everywhere, one row for each combination; None for no side
    information."""
    rows = max(num_cameras, 1) * max(num_views, 1) if num_cameras or num_views else 0
    return nn.Parameter(torch.zeros(rows, 1, width)) if rows else None


def side_vectors(
    table: torch.Tensor | None,
    *,
    num_cameras: int,
    num_views: int,
    camids: torch.Tensor | None,
    viewids: torch.Tensor | None,
) -> torch.Tensor | None:
    """The rows of the images' cameras and viewpoints.

    Args:
        table: (R, 1, D) of num_cameras x num_views rows, a number of 0 counting as 1; None for no side information.
        camids, viewids: (B,) int64, needed where the table goes by cameras, or by viewpoints.

    Returns:
        (B, 1, D); of a table with one row, that row, (1, 1, D), whatever the camera; where neither cameras nor
        viewpoints are known, the mean of the rows, (1, 1, D); None without a table.
    """
    if table is None or len(table) == 1:
        return table
    if camids is None and viewids is None:
        return table.mean(dim=0, keepdim=True)
    index = viewids if not num_cameras else camids
    if num_cameras and num_views and camids is not None and viewids is not None:
        index = camids * num_views + viewids
    if index is None or (num_views and viewids is None):
        raise ValueError("the model has side information: camids, or viewids, of the images are missing")
    return table[index]
