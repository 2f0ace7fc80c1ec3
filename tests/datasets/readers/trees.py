"""Fixture trees: images in the published layouts of data sets, a few pixels each."""

from pathlib import Path

import numpy as np
from PIL import Image

from config import load_cfg
from datasets.readers.file_errors import FileErrors
from datasets.readers.registry import read_unchecked


def write_images(directory, names):
    """Writes an image of its own noise under each name below `directory`, in the format of its suffix."""
    for number, name in enumerate(names):
        path = Path(directory) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (20, 10, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)


def configure(root, name, *opts):
    """A configuration that reads the set `name` below `root`, whatever its counts."""
    return load_cfg(
        opts=["DATASETS.ROOT_DIR", str(root), "DATASETS.NAMES", name, "DATASETS.CHECK_COUNTS", "False", *opts]
    )


def read(root, name, *opts):
    """The splits of the set `name` below `root`; UserError for the first error of a file."""
    errors = FileErrors()
    splits = read_unchecked(configure(root, name, *opts), errors)
    errors.raise_if_errors("error")
    return splits


def labels(records):
    """(pid, camid) of records."""
    return [(record.pid, record.camid) for record in records]
