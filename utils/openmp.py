"""OpenMP's threads sleep soon where they wait for each other, while other processes need the cores.

In a training step, the threads of a parallel loop wait for each other thousands of times. As long as each has a core,
spinning is fastest, and so they spin for milliseconds by default. Beside another busy process, a spinning thread holds
the core that the thread it waits for needs: on two cores, a step then takes ten times as long (docs/results.md, Busy
machines).

GNU's library, which torch has on Linux, hardly spins in a process with more OpenMP threads than cores
(https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html). So while threads of this process wait for cores, as
the kernel counts it, idle threads are kept beyond that number. What is computed is the same to the last bit.
"""

import contextlib
import ctypes
import logging
import os
import re
import threading
import time
from collections.abc import Iterator

logger = logging.getLogger(__name__)

# What a user sets to choose how the threads wait; that then holds.
WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
PERIOD = 0.5  # seconds between two looks
# Seconds a second for which threads of the process wait for cores, for each thread of a parallel loop. On two cores,
# training with its loader: up to 0.14 alone; beside a busy process 0.25 where threads sleep, 0.45 where they spin.
CROWDED = 0.175
LIBRARY = re.compile(rb"(/.*/libgomp(?:-[0-9a-f]+)?\.so[^/\n]*)$", re.MULTILINE)  # in /proc/self/maps

_watching = threading.Lock()


@contextlib.contextmanager
def sharing_cores() -> Iterator[None]:
    """Within it, and in all threads of this process, OpenMP's threads spin only while no other process needs the cores.

    It does nothing within another one, where the user has chosen how threads wait, with one thread, without GNU's
    library, or where the kernel does not count for how long threads wait.
    """
    threads = _threads_that_share()
    if threads < 2 or not _watching.acquire(blocking=False):
        yield
        return
    try:
        end = threading.Event()
        watch = threading.Thread(target=_watch, args=(end, threads), name="sharing cores", daemon=True)
        try:
            watch.start()
        except RuntimeError:  # no more threads: they spin
            yield
            return
        try:
            yield
        finally:
            end.set()
            watch.join()
    finally:
        _watching.release()


def _threads_that_share() -> int:
    """How many threads compute a parallel loop; 0 where they wait as the user has chosen, or nothing can be counted."""
    import torch

    chosen = any(name in os.environ for name in WAIT_VARIABLES)
    return torch.get_num_threads() if not chosen and os.path.exists("/proc/self/schedstat") else 0


def _watch(end: threading.Event, threads: int) -> None:
    waited, then = seconds_waited(), time.monotonic()
    kept: IdleThreads | None = None
    try:
        while not end.wait(PERIOD):
            waited_before, before = waited, then
            waited, then = seconds_waited(), time.monotonic()
            more = sum(seconds - waited_before[one] for one, seconds in waited.items() if one in waited_before)
            crowded = more > CROWDED * threads * (then - before)
            if crowded and kept is None:
                kept = IdleThreads(max(len(os.sched_getaffinity(0)) - threads, 0) + 1)
            elif not crowded and kept is not None:
                kept.close()
                kept = None
    except (OSError, RuntimeError) as error:  # no more files or threads
        logger.debug("threads no longer share cores: %s", error)
    finally:
        if kept is not None:
            kept.close()


def seconds_waited() -> dict[str, float]:
    """For how long each thread of this process has been ready to run without a core, by its id.

    Linux, Documentation/scheduler/sched-stats.rst: the second number of schedstat, in nanoseconds.
    """
    waited = {}
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/schedstat") as file:  # OSError: it has ended
            waited[thread] = int(file.read().split()[1]) / 1e9
    return waited


class IdleThreads:
    """OpenMP threads, asleep until `close`: the team of a Python thread, which ends with it.

    Args:
        count: of each OpenMP library, beside the Python thread.
    """

    def __init__(self, count: int) -> None:
        self._count, self._end = count, threading.Event()
        self._owner = threading.Thread(target=self._keep, name="idle threads", daemon=True)
        self._owner.start()

    def _keep(self) -> None:
        nothing = ctypes.CDLL(None).free  # what each thread does: free(NULL)
        for library in _libraries():
            library.GOMP_parallel(nothing, None, self._count + 1, 0)
        self._end.wait()

    def close(self) -> None:
        self._end.set()
        self._owner.join()


def _libraries() -> list[ctypes.CDLL]:
    """GNU's OpenMP libraries that this process has loaded; torch and compiled extensions may have one each."""
    with open("/proc/self/maps", "rb") as file:
        paths = set(LIBRARY.findall(file.read()))
    loaded = []
    for path in sorted(paths):
        with contextlib.suppress(OSError):  # replaced on the disk since
            loaded.append(ctypes.CDLL(os.fsdecode(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW))
    return loaded
