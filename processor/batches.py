"""Batches: from a loader, whose worker processes may be killed, to the device."""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Iterable, Iterator

import torch

from utils.errors import UserError
from utils.preprocessing import as_float
from utils.structures import Sides

JOIN_SECONDS = 2.0  # that the exit codes of ending workers are waited for
# Texts of torch's errors.
_SHARED_MEMORY_FULL = ("shared memory", "No space left on device", "Bus error")
_TOO_MANY_FILES = "Too many open files"
_WORKER_ENDED = "DataLoader worker (pid"


class LostWorker(UserError):
    """A worker process of a loader was killed, or cannot hand over its batches."""


@contextlib.contextmanager
def loading(loader: Iterable[dict]) -> Iterator[Iterator[dict]]:
    """An iterator over the loader's batches which reports a killed worker in `next` alone.

    torch's own handler would raise between any two instructions, perhaps in the middle of an update of the weights.

    Raises:
        LostWorker: from `next`; the message says which option to lower.
    """
    batches = _Batches(iter(loader))
    if threading.current_thread() is not threading.main_thread():
        yield batches
        return
    batches.handler = signal.getsignal(signal.SIGCHLD)  # torch's, since the first loader with workers
    signal.signal(signal.SIGCHLD, batches.note)
    try:
        yield batches
    finally:
        signal.signal(signal.SIGCHLD, batches.handler)


class _Batches(Iterator[dict]):
    def __init__(self, batches: Iterator[dict]) -> None:
        self.batches, self.workers = batches, multiprocessing.active_children()
        self.handler: object = None
        self.waiting = False

    def note(self, number: int, frame: object) -> None:
        """Handles SIGCHLD: torch's handler raises if the child was a worker."""
        if self.waiting and callable(self.handler):
            self.handler(number, frame)

    def __next__(self) -> dict:
        try:
            return self._next()
        except (RuntimeError, OSError, EOFError) as error:
            reason = _why_lost(error, self.workers)
            if not reason:
                raise
            raise LostWorker(reason) from error

    def _next(self) -> dict:
        if any(worker.exitcode for worker in self.workers):
            raise RuntimeError(_WORKER_ENDED)
        self.waiting = True
        try:
            return next(self.batches)
        finally:
            self.waiting = False


def _why_lost(error: Exception, workers: list) -> str:
    """What happened to a worker and what to do next; "" where the error has another cause."""
    lower = "lower DATALOADER.NUM_WORKERS or SOLVER.IMS_PER_BATCH (TEST.IMS_PER_BATCH in a test)"
    text = str(error)
    if _TOO_MANY_FILES in text:
        return f"the worker processes of the loader have too many open files; raise the limit (ulimit -n), or {lower}"
    for worker in workers:
        worker.join(JOIN_SECONDS / len(workers))
    ends = [worker.exitcode for worker in workers if worker.exitcode]
    if -signal.SIGBUS in ends or any(words in text for words in _SHARED_MEMORY_FULL):
        return (
            "shared memory (/dev/shm), through which the worker processes of the loader send batches, is full; give "
            f"the machine or the container more (docker run --shm-size), or {lower}"
        )
    if not ends and _WORKER_ENDED not in text:
        return ""
    how = "" if not ends else f" with {signal.Signals(-ends[0]).name}" if ends[0] < 0 else f" with status {ends[0]}"
    return (
        f"a worker process of the loader ended{how}; the kernel kills processes where memory runs out: {lower}, set "
        "DATALOADER.CACHE none, or give the machine or the container more memory"
    )


def side_inputs(batch: dict, sides: Sides | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Cameras and viewpoints of a test batch as the model numbers them, see DataBundle.sides; None, None: unknown."""
    if sides is None:
        return None, None
    return batch["camids"] + sides.first_camera, batch["viewids"] + sides.first_view


def to_device(batch: dict, device: torch.device) -> dict:
    """The batch with its tensors on `device` and its images, uint8 until then, as float in [0, 1]."""
    moved = {}
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            value = value.to(device, non_blocking=True)
            if value.dtype == torch.uint8:
                value = as_float(value)
        moved[key] = value
    return moved
