"""The worker pool: maps a function over items in several processes that end cleanly."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from utils.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK_SIZE = 8  # items that a worker takes at a time


class WorkerPool:
    """Maps functions over items; see `worker_pool`."""

    def __init__(self, executor: ProcessPoolExecutor | None) -> None:
        self.executor = executor

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterable[Result]:
        """The results in the order of `items`, each as soon as it and those before it are there.

        Args:
            function: called in a worker, so it and the items must be picklable.
            items: its arguments, one a call.
        """
        if self.executor is None:
            return map(function, items)
        return self.executor.map(function, items, chunksize=CHUNK_SIZE)


@contextlib.contextmanager
def worker_pool(
    num_workers: int | None, num_items: int, *, init: Callable[[], object] | None = None, advice: str = ""
) -> Iterator[WorkerPool]:
    """Starts worker processes and ends them with the block; an error in the block cancels what has not begun.

    Args:
        num_workers: number of processes; None: one per processor. One worker is the calling process itself.
        num_items: items of one `map`; no more processes are started than these need.
        init: called in each worker process before its first item.
        advice: what the user can do where a worker is killed.

    Raises:
        UserError: a worker was killed.
    """
    num_workers = max(1, min(num_workers or os.cpu_count() or 1, -(-num_items // CHUNK_SIZE)))
    if num_workers == 1:
        yield WorkerPool(None)
        return
    executor = ProcessPoolExecutor(num_workers, initializer=_start_worker, initargs=(init,))
    try:
        yield WorkerPool(executor)
    except BrokenProcessPool as error:
        raise UserError(f"a worker process was killed, perhaps for lack of memory; {advice}") from error
    finally:
        executor.shutdown(cancel_futures=True)


def _start_worker(init: Callable[[], object] | None) -> None:
    """Leaves Ctrl-C to the parent, and ends the worker when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if init is not None:
        init()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
