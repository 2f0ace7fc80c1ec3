"""How OpenMP's threads wait while other processes need the cores."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from tests.helpers import REPOSITORY
from utils import openmp

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="Linux counts how long threads wait")
HOG = "import time\nend = time.monotonic() + 90\nwhile time.monotonic() < end: pass"
# Prints how many threads there are beyond torch's and the watching one, beside busy processes, and afterwards.
BESIDE = """
import os, subprocess, sys, time
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import torch
from utils.openmp import sharing_cores
torch.set_num_threads(2)
matrix = torch.randn(300, 300)
matrix @ matrix
def threads():
    return len(os.listdir("/proc/self/task"))
before, more, end = threads(), 0, time.monotonic() + 60
busy = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(3)]
try:
    with sharing_cores():
        while more < 2 and time.monotonic() < end:
            matrix @ matrix
            more = threads() - before - 1
finally:
    for process in busy:
        process.kill()
        process.wait()
while threads() > before and time.monotonic() < end:  # a thread of OpenMP ends a little after its team
    time.sleep(0.01)
print(more, threads() - before)
"""
# Prints for how long the one thread, which never sleeps, had no core, and for how long it says that it waited.
WAITING = """
import os, subprocess, sys, time
from utils.openmp import seconds_waited
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
others = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(2)]
try:
    before, start, used = sum(seconds_waited().values()), time.perf_counter(), time.process_time()
    while time.perf_counter() < start + 2:
        pass
    print(time.perf_counter() - start - (time.process_time() - used), sum(seconds_waited().values()) - before)
finally:
    for other in others:
        other.kill()
        other.wait()
"""


@pytest.fixture
def unchosen(monkeypatch):
    """Two threads, and no variable says how they wait."""
    for name in openmp.WAIT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def run(program):
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", f"HOG = {HOG!r}\n{program}"]
    done = subprocess.run(command, cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return map(float, done.stdout.split())


def count(name):
    return [thread.name for thread in threading.enumerate()].count(name)


def soon(condition):
    end = time.monotonic() + 30
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.005)
    return found


def test_idle_threads_are_kept_beside_busy_processes():
    """One of OpenMP and its owner, in a process that has two threads and two cores."""
    kept, left = run(BESIDE)
    assert kept >= 2
    assert left == 0


def test_they_are_kept_for_as_long_as_threads_wait_for_cores(unchosen, monkeypatch):
    share, waited, then = [0.0], 0.0, time.monotonic()

    def seconds_waited():
        nonlocal waited, then
        before, then = then, time.monotonic()
        waited += share[0] * (then - before)
        return {"1": waited}

    monkeypatch.setattr(openmp, "PERIOD", 0.05)
    monkeypatch.setattr(openmp, "seconds_waited", seconds_waited)
    with openmp.sharing_cores():
        for share[0], expected in ((0.9, 1), (0.0, 0), (0.6, 1), (0.1, 0), (0.9, 1)):
            assert soon(lambda expected=expected: count("idle threads") == expected)
    assert count("idle threads") == 0


def test_a_thread_that_has_ended_hides_no_waiting(unchosen, monkeypatch):
    looks = iter([{"1": 0.0, "2": 100.0}] + [{"1": 1.0 + look} for look in range(100_000)])
    monkeypatch.setattr(openmp, "PERIOD", 0.01)
    monkeypatch.setattr(openmp, "seconds_waited", lambda: next(looks))
    with openmp.sharing_cores():
        assert soon(lambda: count("idle threads") == 1)


def test_one_watches(unchosen):
    @openmp.sharing_cores()
    def nested():
        return count("sharing cores")

    with openmp.sharing_cores():
        assert nested() == 1
    assert count("sharing cores") == 0
    assert nested() == 1


def test_an_error_ends_it(unchosen):
    @openmp.sharing_cores()
    def fail():
        assert count("sharing cores") == 1
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert count("sharing cores") == 0


def test_without_more_threads_or_files_all_goes_on(unchosen, monkeypatch):
    def no_more(*args):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with openmp.sharing_cores():
            assert count("sharing cores") == 0
    monkeypatch.setattr(openmp, "PERIOD", 0.01)
    looks = iter([{"1": 0.0}])
    monkeypatch.setattr(openmp, "seconds_waited", lambda: next(looks, None) or no_more())
    with openmp.sharing_cores():
        assert soon(lambda: count("sharing cores") == 0)


@pytest.mark.parametrize(
    ("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "1000"), ("number of threads", 1)]
)
def test_none_watches_where_the_user_has_chosen_or_one_thread_computes(unchosen, monkeypatch, name, value):
    if name in openmp.WAIT_VARIABLES:
        monkeypatch.setenv(name, value)
    else:
        torch.set_num_threads(value)
    with openmp.sharing_cores():
        assert count("sharing cores") == 0


def test_a_thread_without_a_core_waits():
    without_core, waited = run(WAITING)
    assert without_core > 0.2
    assert waited == pytest.approx(without_core, rel=0.3)


def test_paths_of_loaded_libraries():
    maps = (
        b"7f00-7f01 r--p 00000000 fd:00 123   /a b/torch/lib/libgomp.so.1\n"
        b"7f01-7f02 r-xp 00000000 fd:00 123   /a b/torch/lib/libgomp.so.1\n"
        b"7f02-7f03 r-xp 00000000 fd:00 124   /x.libs/libgomp-a34b3233.so.1.0.0\n"
        b"7f03-7f04 r-xp 00000000 fd:00 125   /x/libgomp-plugin-nvptx.so.1\n"
        b"7f03-7f04 r-xp 00000000 fd:00 125   /x/libgomp-data/\xff.npy\n"
        b"7f03-7f04 rw-p 00000000 00:00 0     [heap]\n"
    )
    assert set(openmp.LIBRARY.findall(maps)) == {
        b"/a b/torch/lib/libgomp.so.1",
        b"/x.libs/libgomp-a34b3233.so.1.0.0",
    }
