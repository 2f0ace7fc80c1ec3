"""A user id that the password database does not know, as a container's: everything works."""

import ast
import os
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY

UID = 54321
# The effective user stays root, who alone may be able to read the interpreter; names go by the real one.
BECOME_UNKNOWN = f"import os; os.setreuid({UID}, 0)\n"
HELP = """
import runpy, sys
for script in ("test.py", "train.py"):
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        assert ended.code in (0, None), script
for module in ("corruption", "datasets"):
    sys.argv = [module, "--help"]
    try:
        runpy.run_module(module, run_name="__main__")
    except SystemExit as ended:
        assert ended.code in (0, None), module
import torch._inductor.runtime.cache_dir_utils as inductor
print("caches:", inductor.default_cache_dir())
"""
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user that does not exist")


def run_unknown(program, temporary, **home):
    variables = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", BECOME_UNKNOWN + program],
        cwd=REPOSITORY,
        env={**variables, **home, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@as_root
def test_every_command_starts(tmp_path):
    """Docker gives such a user the home directory /, which he cannot write; others give him none."""
    done = run_unknown(HELP, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: ") == 4
    assert f"caches: {tmp_path}/torchinductor_uid{UID}" in done.stdout
    assert not (REPOSITORY / "~").exists()


@pytest.mark.parametrize("package", ["corruption", "datasets", "loss", "model", "processor", "solver"])
def test_every_package_completes_the_environment_before_it_imports_a_library(package):
    tree = ast.parse((REPOSITORY / package / "__init__.py").read_text())
    imported = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    assert set(imported) <= {"os", "lazy_loader", "utils"}  # lazy_loader imports nothing by itself
    assert "utils" in imported
    assert not any(isinstance(node, ast.ImportFrom) for node in tree.body)


@as_root
def test_home_and_name(tmp_path):
    program = (
        "import getpass, stat, utils\n"
        "home = os.path.expanduser('~')\n"
        "print(getpass.getuser(), home, oct(stat.S_IMODE(os.lstat(home).st_mode)), os.environ.get('MPLCONFIGDIR'))\n"
        "import matplotlib\n"
    )
    ours = tmp_path / f"home-of-uid-{UID}"
    done = run_unknown(program, tmp_path)
    assert done.stdout.split()[:3] == [f"uid{UID}", str(ours), "0o700"]
    done = run_unknown(program, tmp_path, HOME="/proc")  # known, not to be written: it stays, for what lies in it
    assert done.stdout.split()[1] == "/proc"
    assert done.stdout.split()[3] == str(ours / "matplotlib")


@as_root
def test_a_home_that_someone_else_made_is_not_used(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"home-of-uid-{UID}").symlink_to(tmp_path / "theirs")
    done = run_unknown("import utils; print(os.environ['HOME'], os.path.isdir(os.environ['HOME']))", tmp_path)
    home, there = done.stdout.split()
    assert home.startswith(f"{tmp_path}/home-of-uid-{UID}-")
    assert there == "True"
    assert not list((tmp_path / "theirs").iterdir())
