"""The smallest values of each row: torch.topk, or on a CPU compiled code that is faster for few of many."""

from typing import Any

import torch

from utils.extensions import load_extension

smallest_cylib: Any = load_extension("utils.metrics.smallest_cylib")
MOST = 64  # values of a row that are kept by inserting one after the other; for more, torch.topk is as fast


def smallest(rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k smallest of each row of `rows` (R, N), rising, and their places: (R, k), and (R, k) int64.

    Which of equal values are kept, and in which order, is not defined.
    """
    if smallest_cylib is None or rows.device.type != "cpu" or not 1 <= k <= MOST:
        values, places = rows.topk(k, dim=1, largest=False)
    else:
        values, places = rows.new_empty(len(rows), k), torch.empty(len(rows), k, dtype=torch.int64)
        threads = torch.get_num_threads()
        smallest_cylib.smallest(rows.contiguous().numpy(), values.numpy(), places.numpy(), threads)
    return values, places
