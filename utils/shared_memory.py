"""Memory that processes of a machine share, and how much of it there is.

It has no name in a file system, so it is freed with the last process that has it, however that one ends, and the size
of /dev/shm, 64 MiB in many containers, does not bound it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import weakref
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class MemoryHandle(NamedTuple):
    """Where another process finds the memory; device and inode prove that it is the same.

    Attributes:
        path: of the open file in /proc.
        device, inode: of that file.
        size: bytes.
    """

    path: str
    device: int
    inode: int
    size: int


class SharedBytes:
    """Bytes in memory. Processes that are forked share them, and so does a worker process that gets this object.

    Args:
        descriptor: an open file of `size` bytes; it is closed with this object.
        size: in bytes.

    Attributes:
        array: (size,) uint8.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor, self.size = descriptor, size
        weakref.finalize(self, os.close, descriptor)
        self.array = np.frombuffer(mmap.mmap(descriptor, max(size, 1)), np.uint8)[:size]

    @classmethod
    def new(cls, size: int) -> SharedBytes:
        """New memory, zero."""
        if hasattr(os, "memfd_create"):  # Linux
            descriptor = os.memfd_create("cfat")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, max(size, 1))
        return cls(descriptor, size)

    def handle(self) -> MemoryHandle:
        status = os.fstat(self.descriptor)
        return MemoryHandle(f"/proc/{os.getpid()}/fd/{self.descriptor}", status.st_dev, status.st_ino, self.size)

    @classmethod
    def attach(cls, handle: MemoryHandle) -> SharedBytes:
        """The memory of another process.

        Raises:
            OSError: it cannot be reached from here: not Linux, other containers or another user.
        """
        descriptor = os.open(handle.path, os.O_RDWR)
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) != (handle.device, handle.inode):
            os.close(descriptor)
            raise FileNotFoundError(f"{handle.path}: another file")
        return cls(descriptor, handle.size)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.descriptor), self.size)


def _received(duplicate: Any, size: int) -> SharedBytes:
    return SharedBytes(duplicate.detach(), size)


def available_memory(root: str | Path = "/") -> int | None:
    """Bytes that processes can still have: of the machine, or what the container's limit leaves.

    Args:
        root: directory with proc and sys.

    Returns:
        None where the system does not say.
    """
    found = []
    with contextlib.suppress(OSError, ValueError):
        found.append(1024 * _number(Path(root, "proc/meminfo"), "MemAvailable:"))
    for directory, limit, used, prefix in (  # of control groups, version 2 and 1
        ("sys/fs/cgroup", "memory.max", "memory.current", ""),
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
    ):
        group = Path(root, directory)
        with contextlib.suppress(OSError, ValueError):  # no such group, or its limit is "max"
            left = int((group / limit).read_text(encoding="ascii")) - int((group / used).read_text(encoding="ascii"))
            # Pages of files count as used and can be taken back.
            files = [_number(group / "memory.stat", f"{prefix}{state}_file") for state in ("inactive", "active")]
            found.append(left + sum(files))
    return max(min(found), 0) if found else None


def _number(path: Path, name: str) -> int:
    """The number after `name` in a file of lines that begin with names."""
    lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    for words in lines:
        if words[:1] == [name]:
            return int(words[1])
    raise ValueError(f"{path}: no {name}")
