"""Every command and every Python block of the documents runs, page by page, on small data (see tables.py)."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.commands import Command
from tests.docs.data_sets import write_data_sets
from tests.docs.pages import PAGES, blocks, name_of
from tests.docs.sandbox import REAL, Sandbox
from tests.docs.tables import (
    CHECKPOINTS,
    PLACEHOLDERS,
    TINY_INPUT,
    TINY_MODEL,
    TINY_TEST,
    TINY_TRAINING,
    appended,
    is_run,
)

pytestmark = pytest.mark.documents
COMMAND_SECONDS = 1800  # of one command; on a busy machine, the four stages of CFAT take more than five minutes
RUN = [page for page in PAGES if page.name != "adding.md"]  # tests/test_adding.py runs adding.md


class Runner:
    """Runs blocks in a sandbox; `log` has the commands with what the last one printed to stderr."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.log = sandbox, []

    def bash(self, text: str) -> None:
        status, stderr = self.sandbox.run(text, self.answer)
        assert status == 0, "\n".join([*self.log[-2:], stderr])

    def python(self, text: str) -> None:
        path = self.sandbox.directory / "block.py"
        path.write_text(text)
        assert self.start([str(path)]) == 0, self.log[-1]

    def answer(self, command: list[str]) -> int:
        program, *arguments = command
        text = " ".join(command)
        self.log.append(text)
        if not is_run(text):
            return 0
        if program == "make":
            return REAL
        arguments += shlex.split(appended(text))
        if program == "torchrun":
            return self.start_torchrun(arguments)
        return self.start(arguments)

    def start(self, arguments: list[str]) -> int:
        outputs = {name: self.sandbox.directory / name for name in ("stdout", "stderr")}
        for path in outputs.values():
            path.unlink(missing_ok=True)
        environment = {"OMP_NUM_THREADS": "1"}
        status = Command(*arguments, **outputs, environment=environment, directory=self.sandbox.directory).wait(
            COMMAND_SECONDS
        )
        self.log.append("\n".join(path.read_text()[-2000:] for path in outputs.values() if path.exists()))
        return status

    def start_torchrun(self, arguments: list[str]) -> int:
        command = [sys.executable, "-m", "torch.distributed.run", *arguments]
        done = subprocess.run(command, cwd=self.sandbox.directory, capture_output=True, text=True)
        self.log.append(done.stderr[-2000:])
        return done.returncode


def shorten_study(path: Path) -> None:
    """Leaves two variants with one seed, and makes their trainings short."""
    study = yaml.safe_load(path.read_text())
    words = shlex.split(f"{TINY_INPUT} {TINY_TEST} {TINY_MODEL} {TINY_TRAINING}")
    study["COMMON"] |= {**dict(zip(words[::2], words[1::2], strict=True)), "TEST.PROTOCOLS": ["clean", "corrupted"]}
    study |= {"SEEDS": [1], "BASELINE": "half_clean"}
    variant = {"CFAT.STAGES": ["clean"]}
    study["VARIANTS"] = {"half_clean": variant, "cfat": variant | {"TEST.FEATURE": "neck"}}
    path.write_text(yaml.safe_dump(study))


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """A sandbox with data sets, after `make demo`."""
    sandbox = Sandbox(tmp_path_factory.mktemp("docs") / "repository")
    write_data_sets(sandbox.directory / "data")
    runner = Runner(sandbox)
    runner.bash("make demo")
    for name, original in PLACEHOLDERS.items():
        source = sandbox.directory / original
        (shutil.copytree if source.is_dir() else shutil.copy)(source, sandbox.directory / name)
    shorten_study(sandbox.directory / "configs/Synthetic/ablation.yml")
    for name in CHECKPOINTS:
        path = sandbox.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sandbox.directory / "logs/demo/checkpoints/align.pth", path)
    return runner


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_page(page, runner):
    for block in blocks(page):
        if block.language == "bash":
            runner.bash(block.text)
        elif block.language == "python":
            runner.python(block.text)
        elif block.text.startswith("# configs/"):  # a file that later commands use
            (runner.sandbox.directory / block.text.split()[1]).write_text(block.text)
