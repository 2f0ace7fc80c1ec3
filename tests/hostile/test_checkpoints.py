"""Hostile checkpoints end in one clear error, within seconds and bounded memory."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import REPOSITORY
from tests.hostile.checkpoints import KINDS
from tests.hostile.checkpoints import load as load_file

SECONDS = 5  # of one core, a file; usually 0.1
MIB = 150  # more resident memory at any time, a file, usually none

# What a file is must be said by these words.
NAMED = {
    "torchscript": "its names begin with weight, bias: no known model",
    "npz": ".npz",
    "npz_compressed": ".npz",
    "hdf5": "HDF5",
    "lfs": "Git LFS",
    "html": "web page",
    "html_lower": "web page",
    "xml": "web page",
    "json": "JSON",
    "text": "a text",
    "onnx": "ONNX",
    "empty": "empty",
    "zeros": "zeros",
    "gzip": "gzip",
    "xz": "xz",
    "png": "PNG",
    "pdf": "PDF",
    "tar_legacy": "tar",
    "zip_of_checkpoint": "zip archive of weights/model.pth",
    "pickle_0": "plain pickle",
    "pickle_2": "plain pickle",
    "pickle_5": "plain pickle",
    "pickle_evil": "plain pickle",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One row a file, by kind; all are loaded in one process, whose memory is measured."""
    directory = tmp_path_factory.mktemp("hostile")
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.checkpoints", str(directory), "0"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_one_error_in_bounded_time_and_memory(results, kind):
    rows = results[kind]
    assert len(rows) >= 8
    for row in rows:
        assert row["seconds"] < SECONDS, row
        assert row["mib"] < MIB, row
        assert ("" if kind == "harmless" else ".pth") in row["text"], row
        assert (row["text"] == "") == (kind == "harmless"), row
        assert "TRACEBACK" not in row["text"], row
        assert "weights_only" not in row["text"], row


def test_no_command_of_a_file_ran(results):
    assert len(results["namespaces"]) > 15
    assert not (REPOSITORY / "ran").exists()


def test_files_of_other_kinds_are_named(results):
    texts = {row["name"].removeprefix("foreign-"): row["text"] for row in results["foreign"]}
    for name, words in NAMED.items():
        assert words in texts[name], name
        assert "damaged" not in texts[name], name
        assert ("fetch it anew" in texts[name]) == (name in ("empty", "zeros")), name


def test_a_flipped_bit_is_found(results):
    texts = [row["text"] for row in results["damaged"] if "-bit_" in row["name"]]
    assert len(texts) == 7
    assert all("the check sum of archive/data" in text for text in texts)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()])
def test_what_is_no_file_never_blocks(make, tmp_path):
    make(tmp_path / "a.pth")
    text = load_file(tmp_path / "a.pth")
    assert "a.pth: is no regular file" in text or "is a directory" in text


@pytest.mark.parametrize("name", ["a\0b.pth", "a" * 5000 + ".pth", "none.pth", "/proc/self/environ"])
def test_odd_names(name, tmp_path):
    assert load_file(tmp_path / name) if name[0] != "/" else load_file(name)
