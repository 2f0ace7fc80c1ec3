"""The processes of a distributed run: joining them, ranks, and exchanging small values.

torchrun starts the processes, and `process_group` joins them. Until then a process is alone, whatever RANK and
WORLD_SIZE in its environment say: its rank is 0, and it writes its files. How a batch is shared is in utils.sharding.

There are two groups of all processes. Gradients and embeddings go over the default group (nccl between GPUs, gloo
between CPUs). Everything in this file goes over the control group, which is always gloo and never waits for a GPU.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from utils.errors import UserError

logger = logging.getLogger(__name__)

# A process that waits longer for the others ends with an error. Rank 0 may evaluate for that long.
TIMEOUT_MINUTES = 30

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Ranks of this process, and numbers of processes, in the whole run and on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1


_place = Place()
_control: Any = None  # the control group


def is_distributed() -> bool:
    """Whether this process has joined others."""
    if "torch" not in sys.modules:  # importing torch takes seconds
        return False
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Rank of this process in the run; 0 where it is alone."""
    if not is_distributed():
        return 0
    from torch import distributed

    return distributed.get_rank()


def world_size() -> int:
    """Number of processes in the run; 1 where this one is alone."""
    if not is_distributed():
        return 1
    from torch import distributed

    return distributed.get_world_size()


def is_main() -> bool:
    """Whether this is rank 0, the process that writes files and logs."""
    return rank() == 0


def local_rank() -> int:
    """Rank of this process on its machine; 0 where it is alone."""
    return _place.local_rank


def local_world_size() -> int:
    """Number of processes of the run on this machine."""
    return _place.local_world_size


def read_place(environment: Mapping[str, str]) -> Place:
    """Reads the variables that torchrun sets. Without WORLD_SIZE, or with 1, the process is alone.

    Raises:
        UserError: WORLD_SIZE says that there are several processes, and a variable is missing or out of range.
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
    """Joins the processes that torchrun started, and leaves the groups at the end; does nothing for one process.

    Enter it before anything is logged or written: both depend on the rank. After an exception the groups are left as
    they are, because leaving them would wait for processes that still compute.

    Raises:
        UserError: see `read_place`; the processes cannot reach one another; or another process ended, see
            utils.lost_processes.
    """
    global _place, _control
    place = read_place(os.environ)
    if place.world_size == 1 or is_distributed():
        yield
        return
    import datetime

    import torch
    from torch import distributed

    from utils.lost_processes import LostProcessWatch, first_line

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    timeout = datetime.timedelta(minutes=TIMEOUT_MINUTES)
    try:
        store, *_ = next(distributed.rendezvous("env://", place.rank, place.world_size, timeout=timeout))
        watch = LostProcessWatch(distributed.PrefixStore("roll", store), place.rank, place.world_size)
        distributed.init_process_group(
            backend,
            store=distributed.PrefixStore("group", store),
            rank=place.rank,
            world_size=place.world_size,
            timeout=timeout,
        )
        _control = distributed.new_group(backend="gloo")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"process {place.rank} of {place.world_size} cannot join the others at MASTER_ADDR "
            f"{os.environ['MASTER_ADDR']}, MASTER_PORT {os.environ['MASTER_PORT']} ({first_line(error)}); check that "
            "all of them run and reach that address, and that no other program has the port"
        ) from error
    _place = place
    with watch.report_errors():
        yield
    distributed.barrier(group=_control)
    distributed.destroy_process_group()
    _place, _control = Place(), None


def barrier() -> None:
    """Waits until every process is here: a barrier over the control group."""
    if world_size() > 1:
        from torch import distributed

        distributed.barrier(group=_control)


def all_reduce_max(number: int) -> int:
    """The largest of the processes' numbers: an all_reduce over the control group."""
    if world_size() == 1:
        return number
    import torch
    from torch import distributed

    largest = torch.tensor(number)
    distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=_control)
    return int(largest)


def all_gather_objects(value: T) -> list[T]:
    """The values of all processes, by rank: an all_gather_object over the control group. They are pickled."""
    if world_size() == 1:
        return [value]
    from torch import distributed

    gathered: list[Any] = [None] * world_size()
    distributed.all_gather_object(gathered, value, group=_control)
    return gathered


def once_per_node(work: Callable[[], T]) -> T:
    """Runs `work()` in local rank 0 of each machine, and returns its result in every process of that machine.

    The results go through `all_gather_objects`, so they should be small; the other processes wait there.

    Raises:
        UserError: in every process, where `work` failed on any machine.
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
    return outcomes[rank() - local_rank()][0]  # type: ignore[return-value]
