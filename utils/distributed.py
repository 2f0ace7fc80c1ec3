"""Several processes that train one model: how they find one another, and how they share a batch.

Every process has its share of the rows of each batch. The backbone sees the share; embeddings are gathered, and what
follows them (necks, classifier, bridge, losses) works on the whole batch, alike in every process. So no statistic needs
to be synchronised, and random numbers drawn there are the same everywhere, as long as the generators are.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import distributed

from utils.errors import UserError

# A process that waits longer than this for the others ends with an error; evaluation may keep one of them that long.
TIMEOUT = datetime.timedelta(minutes=30)

_num_views = 1  # of the running forward, see `views`
_control: Any = None  # group over gloo, for what is said on the CPU


def is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process; before it has joined the others, as torchrun says."""
    return distributed.get_rank() if is_distributed() else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return distributed.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


def local_rank() -> int:
    """Number of this process on its machine, as torchrun says."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Joins the processes that torchrun started, over nccl on GPUs and gloo on CPUs; alone, does nothing.

    Raises:
        UserError: it is one of several, and what torchrun tells a process is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or is_distributed():
        yield
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, of several processes, but {', '.join(missing)} is not set; "
            "start with torchrun --nproc_per_node N train.py ..., which sets them all, or unset WORLD_SIZE"
        )
    options: dict[str, Any] = {"timeout": TIMEOUT}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        options["device_id"] = device
    global _control
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", **options)
    _control = distributed.new_group(backend="gloo")
    yield  # after an error the group is left as it is: to say goodbye to processes that still compute would hang
    distributed.barrier()
    distributed.destroy_process_group()


def largest(number: int) -> int:
    """The largest of the processes' numbers; does not wait for a GPU."""
    if world_size() == 1:
        return number
    found = torch.tensor(number)
    distributed.all_reduce(found, op=distributed.ReduceOp.MAX, group=_control)
    return int(found)


def barrier() -> None:
    """Waits for the other processes."""
    if world_size() > 1:
        distributed.barrier(group=_control)


def share_of(count: int) -> range:
    """The items 0 to count - 1 of this process: its part of them, one after the other."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


def num_views() -> int:
    """Of the running forward; see `views`."""
    return _num_views


@contextlib.contextmanager
def views(count: int) -> Iterator[None]:
    """Within it, the rows of a forward are `count` views of the share, one after the other."""
    global _num_views
    before, _num_views = _num_views, count
    try:
        yield
    finally:
        _num_views = before


class _Gather(torch.autograd.Function):
    """All shares' rows. What follows is computed alike in every process, so the gradient of the share is at hand: it is
    multiplied by the number of processes because DistributedDataParallel divides the sum over them by it."""

    @staticmethod
    def forward(ctx, share: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(share) for _ in range(world_size())]
        distributed.all_gather(parts, share.contiguous())
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.chunk(world_size(), dim=1)[rank()] * world_size()


def gather_rows(share: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, (V B, ...) of each one's (V B / world size, ...), in the order that one process with
    the whole batch would have; with gradient. V is that of `views`."""
    if world_size() == 1:
        return share
    return _Gather.apply(share.unflatten(0, (_num_views, -1))).flatten(0, 1)


def draw_share(draw, rows: int) -> torch.Tensor:
    """Random numbers for the `rows` of this process: `draw(n)` draws those of the whole batch, (n, ...), of which this
    share is returned, so that a row gets the number that it would get in one process."""
    if world_size() == 1:
        return draw(rows)
    drawn = draw(rows * world_size())
    return drawn.unflatten(0, (_num_views, world_size(), rows // _num_views))[:, rank()].flatten(0, 1)


def gather_objects(share: Any) -> list[Any]:
    """Every process's object, in the order of ranks."""
    if world_size() == 1:
        return [share]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, share)
    return found
