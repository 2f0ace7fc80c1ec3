"""The smallest values of each row: torch.topk, or on a CPU compiled code that is faster for few of many."""

from typing import Any

import torch

from utils.extensions import load_extension

smallest_cylib: Any = load_extension("utils.metrics.smallest_cylib")
MOST = 64  # values of a row that are kept by inserting one after the other; for more, torch.topk is as fast


def smallest(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest of each row of `rows` (R, N), rising, and their places: (R, k), and (R, k) int64.

    On a CPU, up to MOST of them, equal values are in the order of their places, and the first are kept; otherwise
    torch.topk takes any of them. NaN is at least as large as infinity.
    """
    if rows.device.type != "cpu" or not 1 <= k <= MOST:
        values, places = rows.topk(k, dim=1, largest=False)
    elif smallest_cylib is None:
        values, places = _by_topk(rows, k)
    else:
        values, places = rows.new_empty(len(rows), k), rows.new_empty(len(rows), k, dtype=torch.int64)
        threads = torch.get_num_threads()
        smallest_cylib.smallest(rows.contiguous().numpy(), values.numpy(), places.numpy(), threads)
    return values, places


def _by_topk(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As the compiled code: rows in which torch.topk had the choice among equal values are sorted."""
    values, places = rows.topk(k + 1 if k < rows.shape[1] else k, dim=1, largest=False)  # one more may equal the last
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
    for row in tied.nonzero()[:, 0].tolist():
        ordered, order = rows[row].sort(stable=True)
        values[row], places[row] = ordered[: values.shape[1]], order[: values.shape[1]]
    return values[:, :k], places[:, :k]
