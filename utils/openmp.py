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
import os
import threading
import time
from collections.abc import Iterator

# What a user sets to choose how the threads wait; that then holds.
WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
PERIOD = 0.5  # seconds between two looks
# Seconds a second for which threads wait for cores, all of them together. On two cores, training with its loader: up
# to 0.27 alone; beside a busy process 0.5 where threads sleep, 0.9 where they spin.
CROWDED = 0.35

_watching = threading.Lock()


@contextlib.contextmanager
def sharing_cores() -> Iterator[None]:
    """Within it, and in all threads of this process, OpenMP's threads spin only while no other process needs the cores.

    It does nothing within another one, where the user has chosen how threads wait, with one thread, or off Linux.
    """
    if not _applies() or not _watching.acquire(blocking=False):
        yield
        return
    end = threading.Event()
    watch = threading.Thread(target=_watch, args=(end,), name="sharing cores", daemon=True)
    watch.start()
    try:
        yield
    finally:
        end.set()
        watch.join()
        _watching.release()


def _applies() -> bool:
    import torch

    chosen = any(name in os.environ for name in WAIT_VARIABLES)
    return not chosen and torch.get_num_threads() > 1 and os.path.exists("/proc/self/schedstat")


def _watch(end: threading.Event) -> None:
    kept: IdleThreads | None = None
    waited, then = seconds_waited(), time.monotonic()
    while not end.wait(PERIOD):
        waited_before, before = waited, then
        waited, then = seconds_waited(), time.monotonic()
        crowded = waited - waited_before > CROWDED * (then - before)
        if crowded and kept is None:
            kept = IdleThreads()
        elif not crowded and kept is not None:
            kept.close()
            kept = None
    if kept is not None:
        kept.close()


def seconds_waited() -> float:
    """For how long the threads of this process have been ready to run without a core, all of them together.

    Linux, proc(5): the second number of schedstat, in nanoseconds.
    """
    total = 0
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/schedstat") as file:  # OSError: it has ended
            total += int(file.read().split()[1])
    return total / 1e9


class IdleThreads:
    """More OpenMP threads than cores, asleep until `close`: a team of a Python thread, which ends with it."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._owner = threading.Thread(target=self._keep, name="idle threads", daemon=True)
        self._owner.start()

    def _keep(self) -> None:
        nothing = ctypes.CDLL(None).free  # what each thread does: free(NULL)
        for library in _libraries():
            library.GOMP_parallel(nothing, None, len(os.sched_getaffinity(0)) + 1, 0)
        self._end.wait()

    def close(self) -> None:
        self._end.set()
        self._owner.join()


def _libraries() -> list[ctypes.CDLL]:
    """GNU's OpenMP libraries that this process has loaded; torch and compiled extensions may have one each."""
    with open("/proc/self/maps") as file:
        paths = {line.split(maxsplit=5)[-1].strip() for line in file if "/libgomp" in line}
    return [ctypes.CDLL(path) for path in sorted(paths) if os.path.exists(path)]
