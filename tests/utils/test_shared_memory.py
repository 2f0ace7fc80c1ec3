"""Memory of several processes: forked, started anew, and without a common parent."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY
from utils.shared_memory import MemoryHandle, SharedBytes, available_memory


def _add_one(memory: SharedBytes) -> None:
    memory.array[:] += 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_child_process_writes_into_it(method):
    memory = SharedBytes.new(1000)
    assert memory.array.shape == (1000,)
    assert not memory.array.any()
    child = multiprocessing.get_context(method).Process(target=_add_one, args=(memory,))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert (memory.array == 1).all()


def test_nothing_at_all():
    assert SharedBytes.new(0).array.shape == (0,)


def test_another_process_finds_it_until_its_last_holder_ends():
    script = """
from utils.shared_memory import SharedBytes
memory = SharedBytes.new(5)
memory.array[:] = 7
print(*memory.handle(), flush=True)
input()
"""
    command = [sys.executable, "-c", script]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as owner:
        path, *numbers = owner.stdout.readline().split()
        handle = MemoryHandle(path, *map(int, numbers))
        mine = SharedBytes.attach(handle)
        owner.send_signal(signal.SIGKILL)
    assert mine.array.tolist() == [7] * 5
    assert not os.path.exists(path)
    with pytest.raises(FileNotFoundError):
        SharedBytes.attach(handle)


def test_another_file_in_its_place_is_not_taken():
    memory, before = SharedBytes.new(8), _open_files()
    with pytest.raises(FileNotFoundError, match="another file"):
        SharedBytes.attach(memory.handle()._replace(inode=memory.handle().inode + 1))
    assert _open_files() == before


def test_freed_with_the_last_array_of_it():
    before = _open_files()
    memory = SharedBytes.new(8)
    array = memory.array
    del memory
    array[:] = 3
    assert array.sum() == 24
    del array
    assert _open_files() == before


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  5 kB\n"}, 5 * 1024),
        ({"proc/meminfo": "MemTotal: 9 kB\n"}, None),
        (
            {
                "proc/meminfo": "MemAvailable: 5 kB\n",
                "sys/fs/cgroup/memory.max": "3000\n",
                "sys/fs/cgroup/memory.current": "2500\n",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 700\nactive_file 40\n",
            },
            1240,
        ),
        (
            {
                "proc/meminfo": "MemAvailable: 5 kB\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": "2500\n",
            },
            5 * 1024,
        ),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "4000\n",
                "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 10\ntotal_active_file 20\n",
            },
            0,
        ),
    ],
)
def test_available_memory(files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == expected


def test_available_memory_of_this_machine():
    assert available_memory() > 2**20
