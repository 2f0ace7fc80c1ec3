"""The progress bar on a pseudo-terminal: width, what stays, log lines above it, signals; nothing in a pipe."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import REPOSITORY
from tests.terminal import opened
from utils.progress import fit

PROGRAM = """
import logging, signal, sys, time
from utils.logging import on_console, setup_logging
from utils.progress import ProgressBar

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores Ctrl-C for tests in the background
setup_logging()
logger = logging.getLogger("tests")
logger.info("words that %s", "wrap " * 30)
with ProgressBar("align 120/120", 4, leave=True) as bar:
    bar.show("loss 3.214", "coarse 0.512", "acc 87%", "lr 3.5e-4", "812 img/s")
    for number in range(4):
        bar.update()
        logger.info("in full", extra=on_console(None if bar.is_drawn else "short line"))
        logger.warning("step %d", number)
        with ProgressBar("test", 2, range(2)) as inner:
            for _ in inner:
                inner.refresh()
    if sys.argv[1:] == ["wait"]:
        logger.info("waiting")
        time.sleep(60)
logger.info("done")
"""


def start(*arguments, **options):
    variables = {key: value for key, value in os.environ.items() if key != "TQDM_DISABLE"}
    variables |= {"PYTHONIOENCODING": "utf-8", **options.pop("environment", {})}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], cwd=REPOSITORY, env=variables, **options)


def start_on(terminal, *arguments, **options):
    device = os.open(terminal.path, os.O_WRONLY)
    try:
        return start(*arguments, stdout=device, stderr=device, **options)
    finally:
        os.close(device)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (100, "loss 3.214 coarse 0.512 acc 87% lr 3.5e-4 812 img/s"),
        (80, "loss 3.214 coarse 0.512 acc 87% lr 3.5e-4 812 img/s"),
        (40, "loss 3.214"),
        (30, ""),
    ],
)
def test_one_line_stays_and_none_is_wider_than_the_terminal(columns, shown):
    with opened(columns) as terminal:
        assert start_on(terminal).wait(60) == 0
    lines = terminal.lines()
    assert max(map(len, lines)) <= columns
    (bar,) = (line for line in lines if "|" in line)
    assert bar.startswith("align 120/120 |")
    assert bar.endswith(f"| 00:00 {shown}".rstrip())
    assert [line[9:] for line in lines if "step" in line] == [f"WARNING step {number}" for number in range(4)]
    assert "in full" not in terminal.text
    assert lines[-2].endswith("done")
    assert lines[-1] == ""
    wrapped = lines[: next(number for number, line in enumerate(lines) if "step" in line)]
    assert " ".join(line[9:].strip() for line in wrapped if line).split() == ["words", "that", *["wrap"] * 30]


def test_a_pipe_gets_lines_alone():
    out, _ = start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT).communicate(timeout=60)
    assert b"\r" not in out
    assert b"\x1b" not in out
    assert b"|" not in out
    lines = out.decode().splitlines()
    assert [line[9:] for line in lines[1:3]] == ["short line", "WARNING step 0"]
    assert len(lines) == 1 + 2 * 4 + 1  # nothing is wrapped


@pytest.mark.parametrize(("value", "drawn"), [("1", False), ("0", True)])
def test_tqdm_disable_is_respected(value, drawn):
    with opened(80) as terminal:
        assert start_on(terminal, environment={"TQDM_DISABLE": value}).wait(60) == 0
    assert ("|" in terminal.text) == drawn
    assert ("short line" in terminal.text) != drawn


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, None)])
def test_signals_leave_the_prompt_a_line_of_its_own(number, status):
    with opened(80) as terminal:
        process = start_on(terminal, "wait")
        deadline = time.time() + 60
        while "waiting" not in terminal.written() and time.time() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        ended = process.wait(60)
    assert ended == status if status is not None else ended != 0
    assert terminal.lines()[-1] == ""


def test_fit_leaves_out_the_last_fields():
    assert [fit(("ab", "cd", "e"), width) for width in (1, 2, 4, 5, 6, 7)] == [
        "",
        "ab",
        "ab",
        "ab cd",
        "ab cd",
        "ab cd e",
    ]
