"""Looks for the data sets of a configuration without rendering or opening any image."""

import os
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.registry import read_dataset, reader_name
from datasets.synthetic.generate import NAME, place_of
from utils.errors import UserError


def find_missing(cfg: CfgNode) -> str:
    """What is missing of the data sets of DATASETS.NAMES and TEST; "" where they can be read.

    The synthetic set, which its first use renders, counts as missing until then.

    Args:
        cfg: configuration; with DATASETS.CHECK_IMAGES False, images are not opened.
    """
    for given in dict.fromkeys((*cfg.DATASETS.NAMES, *cfg.DATASETS.TEST)):
        place = place_of(Path(cfg.DATASETS.ROOT_DIR, os.path.expanduser(given.partition(":")[2])))
        if reader_name(given) == NAME and not place.exists():
            return (
                f"{given} not found: {os.path.abspath(place)} does not exist; the first job renders it, or python -m "
                f"datasets synthesize --out {place}; a set elsewhere needs another DATASETS.ROOT_DIR"
            )
    try:
        read_dataset(cfg)
    except UserError as error:
        return str(error)
    return ""
