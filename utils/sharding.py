"""How the processes of a distributed run share a batch.

Each process computes the backbone on its rows of the batch. The embeddings are then gathered, and what follows (necks,
classifiers, bridge, losses) computes on the whole batch in every process. So no batch statistics need synchronising,
and random numbers that are drawn after the gathering agree as long as the global RNGs do.

A batch may hold V views of its B images, view by view: rows 0 to B - 1 are the first view. `views` declares V, because
gathering has to put the rows of each view together.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import distributed

from utils.distributed import rank, world_size

_num_views = 1  # of the current forward, see `views`


def shard(count: int) -> range:
    """The indices out of 0 to count - 1 that this process works on: a consecutive range."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


def num_views() -> int:
    """Number of views in the rows of the current forward, see `views`."""
    return _num_views


@contextlib.contextmanager
def views(count: int) -> Iterator[None]:
    """Declares that, within the block, the rows of a forward are `count` views of this process's images."""
    global _num_views
    before, _num_views = _num_views, count
    try:
        yield
    finally:
        _num_views = before


class _AllGather(torch.autograd.Function):
    """One all_gather over the default group for several tensors (V, b, ...), along dimension 1, with a gradient.

    Every process computes the same loss from the gathered rows, so backward needs no communication: it returns the
    gradient of this process's own rows. DistributedDataParallel divides the sum of gradients by the world size; the
    factor here undoes that.
    """

    @staticmethod
    def forward(ctx: Any, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.set_materialize_grads(False)  # None for a part that no loss uses, as in one process
        flat = torch.cat([part.reshape(*part.shape[:2], -1) for part in parts], dim=2)
        gathered = [torch.empty_like(flat) for _ in range(world_size())]
        distributed.all_gather(gathered, flat)
        columns = torch.cat(gathered, dim=1).split([part[0, 0].numel() for part in parts], dim=2)
        return tuple(own.reshape(*own.shape[:2], *part.shape[2:]) for own, part in zip(columns, parts, strict=True))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        return tuple(
            None if gradient is None else gradient.chunk(world_size(), dim=1)[rank()] * world_size()
            for gradient in gradients
        )


def all_gather_rows(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Gathers the rows of all processes, with gradient: one all_gather over the default group.

    Args:
        tensors: (V b, ...) each, of one dtype, the rows of this process; V is the number of `views`, b its number of
            images.

    Returns:
        (V B, ...) for each, with B = b x world size, in the order that one process with the whole batch would have.
    """
    if world_size() == 1:
        return tensors
    by_view = [rows.unflatten(0, (_num_views, -1)) for rows in tensors]  # (V, b, ...)
    return tuple(rows.flatten(0, 1) for rows in _AllGather.apply(*by_view))  # (V, B, ...) -> (V B, ...)


def sample_shard(sample: Callable[[int], torch.Tensor], rows: int) -> torch.Tensor:
    """Random numbers for the `rows` rows of this process; no communication.

    `sample(n)` samples (n, ...) for the whole batch, from a global RNG that is the same in every process. A row gets
    the number that it would get if one process computed the whole batch.
    """
    if world_size() == 1:
        return sample(rows)
    of_batch = sample(rows * world_size())  # (V B, ...)
    by_process = of_batch.unflatten(0, (_num_views, world_size(), rows // _num_views))  # (V, processes, b, ...)
    return by_process[:, rank()].flatten(0, 1)  # (V b, ...)
