"""Work shared by several processes that end cleanly."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2
from tqdm import tqdm

from utils.errors import UserError

CHUNK = 8  # items that a process takes at a time


@contextlib.contextmanager
def processes(limit: int | None, num_items: int) -> Iterator[Callable[[Callable, list, str], list]]:
    """Gives run(function, items, title), a map over processes that shows its progress; the first error ends them.

    Args:
        limit: number of processes; None: one per processor.
        num_items: items of a run; there are no more processes than these need.
    """
    pool = ProcessPoolExecutor(min(limit or os.cpu_count() or 1, -(-num_items // CHUNK)), initializer=_start_worker)

    def run(function: Callable, items: list, title: str) -> list:
        return list(tqdm(pool.map(function, items, chunksize=CHUNK), title, len(items), leave=False, disable=None))

    try:
        yield run
    except BrokenProcessPool as error:
        raise UserError(
            "a working process was killed, perhaps for lack of memory; run the same command again with fewer "
            "--workers: it goes on where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Keeps OpenCV to the worker's own thread, leaves Ctrl-C to the parent, and ends the worker when that is killed."""
    cv2.setNumThreads(0)  # 1 would wait for threads that the parent had and a forked worker has not
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
