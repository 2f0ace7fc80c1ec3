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
before, more = threads(), 0
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
with sharing_cores():
    end = time.monotonic() + 60
    while more < 1 and time.monotonic() < end:
        matrix @ matrix
        more = threads() - before - 1
for process in busy:
    process.kill()
print(more, threads() - before)
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


def count(name):
    return [thread.name for thread in threading.enumerate()].count(name)


def test_idle_threads_are_kept_beside_busy_processes():
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", BESIDE], cwd=REPOSITORY, env=variables, capture_output=True, text=True, timeout=120
    )
    kept, left = map(int, done.stdout.split())
    assert kept >= 1, done.stderr
    assert left == 0


def test_they_are_kept_for_as_long_as_threads_wait_for_cores(unchosen, monkeypatch):
    share, waited, then = [0.0], 0.0, time.monotonic()

    def seconds_waited():
        nonlocal waited, then
        before, then = then, time.monotonic()
        waited += share[0] * (then - before)
        return waited

    monkeypatch.setattr(openmp, "PERIOD", 0.01)
    monkeypatch.setattr(openmp, "seconds_waited", seconds_waited)
    with openmp.sharing_cores():
        for share[0], expected in ((0.9, 1), (0.1, 0), (0.5, 1), (0.0, 0), (0.9, 1)):
            end = time.monotonic() + 30
            while count("idle threads") != expected and time.monotonic() < end:
                time.sleep(0.01)
            assert count("idle threads") == expected
    assert count("idle threads") == 0


def test_one_watches(unchosen):
    @openmp.sharing_cores()
    def nested():
        return count("sharing cores")

    with openmp.sharing_cores():
        assert nested() == 1
    assert count("sharing cores") == 0
    assert nested() == 1


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


def test_seconds_waited_grow_where_two_processes_have_one_core():
    program = """
import os
from utils.openmp import seconds_waited
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
before = seconds_waited()
other = os.fork()
if other == 0:
    sum(range(10**7))
    os._exit(0)
sum(range(10**7))
os.wait()
print(seconds_waited() > before)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True", done.stderr
