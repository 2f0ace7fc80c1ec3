"""train.py and test.py in processes of their own, forked from one that has imported them: imports take seconds."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from tests.helpers import REPOSITORY

# Read once, when torch is loaded or first looks for a GPU, whose bits would differ.
ENVIRONMENT = {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}
TIMEOUT = 300  # seconds

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["train", "test"])


def run(script, *arguments) -> subprocess.CompletedProcess:
    """What `python script arguments`, in the repository, leaves on its way: status, stdout and stderr."""
    arguments = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory)
        process = _context.Process(target=_be, args=(script, arguments, output, {**os.environ, **ENVIRONMENT}))
        with mock.patch.dict(os.environ, ENVIRONMENT):
            process.start()
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([script, *arguments], TIMEOUT)
        texts = [(output / name).read_text() for name in ("1", "2")]
    return subprocess.CompletedProcess([script, *arguments], process.exitcode, *texts)


def _be(script: str, arguments: list[str], output: Path, environment: dict[str, str]) -> None:
    """Turns this process into the command."""
    for descriptor in (1, 2):
        os.dup2(os.open(output / str(descriptor), os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(REPOSITORY)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
