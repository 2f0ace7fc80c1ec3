"""A directory in which the blocks of documents run as a user would type them, by bash.

`python`, `torchrun`, `make` and `pip` are scripts there that ask this process what to do with their arguments:
it records or runs them. All other programs are those of PROGRAMS; any other name is "command not found".
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.helpers import REPOSITORY

ASKING = ("python", "torchrun", "make", "pip")
PROGRAMS = ("cp", "mkdir", "ls", "head", "touch", "bash", "rm", "cat")
LINKED = ("corruption", "datasets", "model", "loss", "solver", "processor", "utils", "config", "tests")
COPIED = ("configs", "docs", "Makefile", "README.md", "requirements.txt", "setup.py")
REAL = 200  # the answer that lets a script run the program that it stands for
ASK = """#!/bin/bash
printf '%s\\0' "{name}" "$@" > "$DOC_REQUESTS"
read -r status < "$DOC_ANSWERS"
[ "$status" = {real} ] && exec /usr/bin/{name} "$@"
exit "$status"
"""


class Sandbox:
    """A copy of the repository's top level, with links to the packages.

    Args:
        directory: made; commands run in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / ".venv" / "bin"
        self.bin.mkdir(parents=True)
        for name in LINKED:
            (directory / name).symlink_to(REPOSITORY / name)
        for name in COPIED:
            source = REPOSITORY / name
            shutil.copytree(source, directory / name) if source.is_dir() else shutil.copy(source, directory / name)
        for name in ("train.py", "test.py"):
            (directory / name).symlink_to(REPOSITORY / name)
        for name in ASKING:
            (self.bin / name).write_text(ASK.format(name=name, real=REAL))
            (self.bin / name).chmod(0o755)
        for name in PROGRAMS:
            (self.bin / name).symlink_to(shutil.which(name))
        (self.bin / "activate").touch()
        (self.bin.parent / ".ready").touch()  # make setup has nothing to do
        os.utime(self.bin.parent / ".ready", (time.time() + 60,) * 2)

    def run(self, text: str, answer: Callable[[list[str]], int]) -> tuple[int, str]:
        """Runs a block; `answer` gets each command that asks and returns its status. Returns bash's status and stderr.

        A block ends at the first command that fails.
        """
        pipes = {name: self.directory / ".venv" / name for name in ("DOC_REQUESTS", "DOC_ANSWERS")}
        for path in pipes.values():
            path.unlink(missing_ok=True)
            os.mkfifo(path)
        block = self.directory / ".venv" / "block.sh"
        block.write_text(f"set -euo pipefail\n{text}\n")
        script = f"bash {block}\nprintf 'end\\0%s\\0' $? > $DOC_REQUESTS\n"
        process = subprocess.Popen(
            ["/bin/bash", "-c", script],
            cwd=self.directory,
            env={"PATH": str(self.bin), "HOME": str(self.directory), **{name: str(pipes[name]) for name in pipes}},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while True:
            request = pipes["DOC_REQUESTS"].read_bytes().decode().split("\0")[:-1]
            if request[0] == "end":
                return int(request[1]), process.communicate()[1]
            try:
                status = answer(request)
            except BaseException:
                process.kill()
                raise
            pipes["DOC_ANSWERS"].write_text(f"{status}\n")
