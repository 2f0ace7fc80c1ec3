"""What --help needs imports neither torch nor NumPy, which take seconds."""

import subprocess
import sys

from tests.helpers import REPOSITORY

LIGHT = [
    *("command_line", "devices", "distributed", "environment", "errors", "escaping", "extensions", "files"),
    *("image_listing", "locks", "logging", "seeds", "stages", "structures", "yaml_reader"),
]


def test_light_modules():
    program = (
        f"import sys, importlib\nfor name in {LIGHT}: importlib.import_module('utils.' + name)\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert {"torch", "numpy", "scipy", "PIL", "filelock", "matplotlib"} & set(done.stdout.split()) == set()


def test_a_process_alone_needs_no_torch():
    program = (
        "import sys\n"
        "from utils.distributed import is_main, process_group, world_size\n"
        "with process_group():\n"
        "    print(is_main(), world_size(), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "True 1 False\n"
