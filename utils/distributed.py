"""Several processes that train one model: how they join, and how they share a batch.

torchrun starts the processes. Each takes its share of the rows of every batch through the backbone; embeddings are then
gathered, and what follows them (necks, classifiers, bridge, losses) computes on the whole batch in every process. No
statistic has to be synchronised, and random numbers drawn there agree as long as the global RNGs do.

RANK and WORLD_SIZE of the environment count in `process_group` alone. Outside it a process is alone, whatever another
program left in the environment, and writes its files.
"""

import contextlib
import datetime
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

from utils.errors import UserError
from utils.lost_processes import Roll, first_line

logger = logging.getLogger(__name__)

# A process that waits for the others longer than this ends with an error; one of them may evaluate that long.
TIMEOUT = datetime.timedelta(minutes=30)

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Of this process among those that torchrun started: its number in all, how many there are, and its number and
    how many there are on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


_place = Place()
_num_views = 1  # of the running forward, see `views`
_control: Any = None  # group over gloo, for CPU tensors and objects


def is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process in its group; 0 where it is alone."""
    return distributed.get_rank() if is_distributed() else 0


def world_size() -> int:
    return distributed.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


def local_rank() -> int:
    """Number of this process among those on its machine; 0 where it is alone."""
    return _place.local_rank


def local_world_size() -> int:
    """Processes of the group on this machine."""
    return _place.local_world_size


def read_place(environment: Mapping[str, str]) -> Place:
    """What torchrun's variables say; one process alone where WORLD_SIZE is not there, empty or 1.

    Raises:
        UserError: one of several, and a variable is missing or makes no sense.
    """

    def number(name: str, default: int, low: int, high: float) -> int:
        text = given.get(name, str(default))
        if not (re.fullmatch("[0-9]{1,9}", text) and low <= int(text) < high):
            below = f" to {high - 1}" if high < math.inf else " or more"
            raise UserError(
                f"{name} in the environment is {text!r:.40}; expected a number, {low}{below}. torchrun sets it for "
                "each process; unset WORLD_SIZE to work in one process"
            )
        return int(text)

    given = {name: text.strip() for name, text in environment.items() if text.strip()}
    count = number("WORLD_SIZE", 1, 1, math.inf)
    if count == 1:
        return Place()
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in given]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {count}, of several processes, but {', '.join(missing)} is not set; "
            "start with torchrun --nproc_per_node N train.py ..., which sets them all, or unset WORLD_SIZE"
        )
    number("MASTER_PORT", 0, 1, 2**16)
    on_machine = number("LOCAL_WORLD_SIZE", count, 1, count + 1)
    return Place(number("RANK", 0, 0, count), count, number("LOCAL_RANK", 0, 0, on_machine), on_machine)


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Joins the processes that torchrun started, over nccl between GPUs and gloo between CPUs; alone, does nothing.

    Enter it before anything is logged or written: what a process logs and writes depends on its rank.

    Raises:
        UserError: as of `read_place`, or the processes cannot reach one another.
    """
    global _place, _control
    place = read_place(os.environ)
    if place.world_size == 1 or is_distributed():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, *_ = next(distributed.rendezvous("env://", place.rank, place.world_size, timeout=TIMEOUT))
        roll = Roll(distributed.PrefixStore("roll", store), place.rank, place.world_size)
        options = {"rank": place.rank, "world_size": place.world_size, "timeout": TIMEOUT}
        distributed.init_process_group(backend, store=distributed.PrefixStore("group", store), **options)
        _control = distributed.new_group(backend="gloo")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {place.rank} of {place.world_size} cannot join the others at MASTER_ADDR "
            f"{os.environ['MASTER_ADDR']}, MASTER_PORT {os.environ['MASTER_PORT']} ({first_line(error)}); check that "
            "all of them run and reach that address, and that no other program has the port"
        ) from error
    _place = place
    with roll.watch():
        yield  # after an error the group is left as it is: to end it would wait for processes that still compute
    distributed.barrier(group=_control)
    distributed.destroy_process_group()
    _place, _control = Place(), None


def once_per_node(work: Callable[[], T]) -> T:
    """What `work()` returns, computed by the first process of each machine while the others wait; small, picklable.

    Raises:
        UserError: in every process, where `work` failed on a machine.
    """
    if world_size() == 1:
        return work()
    result, reason = None, ""
    if local_rank() == 0:
        try:
            result = work()
        except Exception as error:
            if not isinstance(error, UserError):
                logger.exception("process %d", rank())
            reason = str(error) or type(error).__name__
    outcomes = all_gather_objects((result, reason))
    failed = next((reason for _, reason in outcomes if reason), "")
    if failed:
        raise UserError(failed)
    return outcomes[rank() - local_rank()][0]


def all_reduce_max(number: int) -> int:
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


def shard(count: int) -> range:
    """The part of the items 0 to count - 1 that this process works on: consecutive ones."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


def num_views() -> int:
    """Of the running forward; see `views`."""
    return _num_views


@contextlib.contextmanager
def views(count: int) -> Iterator[None]:
    """Within it, the rows of a forward hold `count` views of this process's images: all of the first view, then the
    next."""
    global _num_views
    before, _num_views = _num_views, count
    try:
        yield
    finally:
        _num_views = before


class _Gather(torch.autograd.Function):
    """The rows of all processes. Every process computes the same loss from them, so each has the gradient of its own
    rows already; it is multiplied by the number of processes, by which DistributedDataParallel divides the sum."""

    @staticmethod
    def forward(ctx, share: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(share) for _ in range(world_size())]
        distributed.all_gather(parts, share.contiguous())
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.chunk(world_size(), dim=1)[rank()] * world_size()


def all_gather_rows(share: torch.Tensor) -> torch.Tensor:
    """Rows (V B, ...) of all processes from each one's (V B / world size, ...), with gradient, in the order that one
    process with the whole batch would have. V is the number of `views`."""
    if world_size() == 1:
        return share
    return _Gather.apply(share.unflatten(0, (_num_views, -1))).flatten(0, 1)


def sample_shard(draw, rows: int) -> torch.Tensor:
    """Random numbers for the `rows` of this process. `draw(n)` samples those of the whole batch, (n, ...), and this
    process's share is returned, so that a row gets the number that it would get in one process."""
    if world_size() == 1:
        return draw(rows)
    drawn = draw(rows * world_size())
    return drawn.unflatten(0, (_num_views, world_size(), rows // _num_views))[:, rank()].flatten(0, 1)


def all_gather_objects(share: Any) -> list[Any]:
    """Every process's object, in the order of ranks."""
    if world_size() == 1:
        return [share]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, share, group=_control)
    return found
