"""Hostile image files end in one error or in an image, within seconds, with bounded memory, and start nothing."""

import os
import re
from pathlib import Path

import pytest

from tests.hostile.images import KINDS, make, read_all

ALL = (*KINDS, "special")
SECONDS, MIB = 3, 300  # an input; all of them
# Of the bombs these are images: what is wrong with them does not have to be read.
FRAMES = {f"frames.{kind}" for kind in ("gif", "webp", "png", "tiff")}
HARMLESS = {"idat.png", "deflate.tif", "own_directory.tif", *FRAMES}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Results of a process that reads all files; a `gs` on its path leaves a file where it is started."""
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "gs").write_text(f"#!/bin/sh\ntouch {directory}/started\n")
    (directory / "gs").chmod(0o755)
    inputs = {kind: make(directory / kind, kind, seed=0) for kind in ALL}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
        found = read_all([path for paths in inputs.values() for path in paths])
    return {**found, "inputs": inputs, "started": (directory / "started").exists()}


@pytest.mark.parametrize("kind", ALL)
def test_every_input_ends_in_time(report, kind):
    paths = report["inputs"][kind]
    assert len(paths) >= 8
    for path in paths:
        seconds, error = report["results"][path]
        assert seconds < SECONDS, path
        if Path(path).name in HARMLESS:
            assert error == ""
        else:
            assert error.startswith(f"image {path}: "), path


def test_memory_and_processes(report):
    assert report["mib"] < MIB
    assert not report["started"]
    assert "Traceback" not in report["stderr"]
    assert report["stderr"].count("holds several frames") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("foreign/postscript.jpg", "cannot identify image file; expected JPEG, PNG"),
        ("huge/one_bit.png", "13000 x 13000 pixels; expected 1 to 64 million pixels"),
        ("huge/head.jpg", "Image size .* expected 1 to 64 million pixels"),
        ("bombs/comment.gif", "more than 1024 KiB before its first frame"),
        ("bombs/exif.png", r"4000 entries of 228\.9 MiB"),
        ("special/fifo.jpg", "is no regular file"),
        ("special/directory.jpg", "is no regular file"),
        ("special/memory.jpg", "is no regular file"),
        ("special/loop.jpg", "Too many levels of symbolic links"),
        ("special/sparse.jpg", r"has 1048576\.0 MiB, expected at most 256\.0"),
    ],
)
def test_messages(report, name, message):
    ((_, error),) = (result for path, result in report["results"].items() if path.endswith(f"/{name}"))
    assert re.search(message, error)
