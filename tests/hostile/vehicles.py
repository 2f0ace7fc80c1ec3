"""Hostile lists of VehicleID and viewpoints of VeRi-776; see tests/hostile/datasets.py."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.hostile.datasets import Hostile, Options, options, sparse, write_image

NAMES = ("0000001", "0000002", "0000003", "0000004")


def vehicleid(spoil: Callable[[Path], object]) -> Callable[[Path, np.random.Generator], Options]:
    """VehicleID with four images, then `spoil` in its directory."""

    def make(root: Path, rng: np.random.Generator) -> Options:
        directory = root / "VehicleID_V1.0"
        for name in NAMES:
            write_image(directory / "image" / f"{name}.jpg", rng)
        (directory / "train_test_split").mkdir()
        (directory / "train_test_split" / "train_list.txt").write_text("0000001 1\n0000002 1\n")
        (directory / "train_test_split" / "test_list_800.txt").write_text("0000003 2\n0000004 2\n")
        spoil(directory)
        return options(root, "vehicleid")

    return make


def train_list(content: bytes | Callable[[Path], object]) -> Callable[[Path, np.random.Generator], Options]:
    def spoil(directory: Path) -> None:
        path = directory / "train_test_split" / "train_list.txt"
        path.unlink()
        path.write_bytes(content) if isinstance(content, bytes) else content(path)

    return vehicleid(spoil)


def viewpoints(content: bytes | Callable[[Path], object]) -> Callable[[Path, np.random.Generator], Options]:
    """VeRi-776 with viewpoints, of which those of training have `content`."""

    def make(root: Path, rng: np.random.Generator) -> Options:
        for folder in ("image_train", "image_query", "image_test"):
            for camera in (1, 2):
                write_image(root / "VeRi" / folder / f"0001_c00{camera}_00016450_0.jpg", rng)
        (root / "VeRi" / "keypoint_test.txt").touch()
        path = root / "VeRi" / "keypoint_train.txt"
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
        return options(root, "veri", "MODEL.SIE_VIEW", "True")

    return make


VEHICLES = [
    Hostile("list: a FIFO", train_list(os.mkfifo), "no regular file"),
    Hostile("list: /dev/zero", train_list(lambda path: path.symlink_to("/dev/zero")), "no regular file"),
    Hostile("list: a directory", train_list(Path.mkdir), "no regular file"),
    Hostile("list: 10 GB", train_list(sparse(10**10)), "larger than|too large|MiB|GiB|bytes"),
    Hostile("list: not UTF-8", train_list(b"0000001 \xff\n"), "UTF-8"),
    Hostile("list: one line of 30 MB", train_list(b"0" * 30_000_000), "does not parse"),
    Hostile("list: a path", train_list(b"../../etc/passwd 1\n"), "does not parse"),
    Hostile("list: many digits", train_list(b"0000001 " + b"9" * 5000), "does not parse"),
    Hostile("list: a negative pid", train_list(b"0000001 -1\n"), "does not parse"),
    Hostile("list: empty", train_list(b""), "no images for the train set"),
    Hostile(
        "an image that is a FIFO",
        vehicleid(lambda d: ((d / "image/0000001.jpg").unlink(), os.mkfifo(d / "image/0000001.jpg"))),
        r"0000001\.jpg does not exist",
    ),
    Hostile("viewpoints: a FIFO", viewpoints(os.mkfifo), "holds no keypoint_train.txt"),
    Hostile("viewpoints: a directory", viewpoints(Path.mkdir), "holds no keypoint_train.txt"),
    Hostile("viewpoints: not UTF-8", viewpoints(b"a.jpg \xff 1\n"), "UTF-8"),
    Hostile("viewpoints: spaces", viewpoints(b"a.jpg" + b" " * 10_000_000 + b"x"), "does not parse"),
    Hostile("viewpoints: slashes", viewpoints(b"a/" * 5_000_000 + b" 9"), "does not parse"),
    Hostile("viewpoints: of no image", viewpoints(b"VeRi/image_train/none.jpg 1 2 3\n"), "no images for the train set"),
]
