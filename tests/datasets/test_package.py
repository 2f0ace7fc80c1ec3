"""What the package hands out, and what importing it costs."""

import subprocess
import sys

import pytest

import datasets
from tests.helpers import REPOSITORY

HEAVY = ("torch", "cv2", "albumentations", "scipy", "h5py", "PIL", "numpy", "yacs")


def test_public_names():
    assert {"check", "make_dataloader", "make_image_loader", "read_dataset", "read_training_set"} <= set(dir(datasets))
    for name in datasets.__all__:
        assert callable(getattr(datasets, name))


@pytest.mark.parametrize("arguments", [[], ["check"], ["synthesize"]])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['datasets', *{arguments}, '--help']\n"
        "try:\n"
        "    runpy.run_module('datasets', run_name='__main__')\n"
        "except SystemExit as end:\n"
        f"    print(end.code, [name for name in {HEAVY} if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("0 []\n")
