"""Scripts in processes of their own, forked from one that has imported the project: imports take seconds."""

import multiprocessing
import os
import resource
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
_context.set_forkserver_preload(["tests.preloaded"])


class Command:
    """A running `python script arguments`, in the repository.

    Args:
        script: file to run, or -m, with the module as first argument.
        arguments: converted to str.
        stdout, stderr: files that its output is appended to.
        environment: variables beside this process's own.
        directory: where it runs.
        max_file_bytes: writing fails where a file would become larger, as on a full disk; None: no limit.
    """

    def __init__(
        self,
        script,
        *arguments,
        stdout: Path,
        stderr: Path,
        environment=None,
        directory: Path = REPOSITORY,
        max_file_bytes: int | None = None,
    ) -> None:
        self.command = [str(script), *map(str, arguments)]
        variables = {**os.environ, **ENVIRONMENT, **(environment or {})}
        options = (self.command, (stdout, stderr), variables, directory, max_file_bytes)
        self._process = _context.Process(target=_become, args=options)
        with mock.patch.dict(os.environ, ENVIRONMENT):
            self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, minus the number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = TIMEOUT) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.command, timeout)
        return self.returncode


def run(script, *arguments) -> subprocess.CompletedProcess:
    """Runs `python script arguments` to its end."""
    with tempfile.TemporaryDirectory() as directory:
        outputs = {name: Path(directory) / name for name in ("stdout", "stderr")}
        command = Command(script, *arguments, **outputs)
        status = command.wait()
        texts = {name: path.read_text() for name, path in outputs.items()}
    return subprocess.CompletedProcess(command.command, status, **texts)


def _become(
    command: list[str], outputs: tuple[Path, Path], environment: dict[str, str], directory: Path, max_file_bytes
) -> None:
    """Turns this process into the command."""
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))  # a terminal, perhaps
    if max_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    multiprocessing.set_start_method(None, force=True)  # the default again, for workers of loaders
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
