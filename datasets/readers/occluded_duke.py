"""Occluded-Duke, DukeMTMC-reID split anew so that every query is occluded.

Miao, Wu, Liu, Ding, Yang, Pose-Guided Feature Alignment for Occluded Person Re-identification, ICCV 2019,
https://github.com/lightas/Occluded-DukeMTMC-Dataset

    data/Occluded_Duke/, data/occluded_duke/, data/Occluded-Duke/ or data/Occluded-DukeMTMC/
        bounding_box_train/    15,618 images of 702 identities
        query/                  2,210 images of 519 other identities
        bounding_box_test/     17,661 images of 1,110 identities

Any other directory up to three levels below data/ is recognised by this content if "occ" is in its name, or in that of
a directory above it.

Names and cameras are those of DukeMTMC-reID (dukemtmc.py).
"""

from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.dukemtmc import read_duke
from datasets.readers.file_errors import FileErrors
from utils.structures import Counts, DatasetSplits

DIRECTORIES = ("Occluded_Duke", "occluded_duke", "Occluded-Duke", "Occluded-DukeMTMC")
PUBLISHED = {"train": Counts(15618, 702), "query": Counts(2210, 519), "gallery": Counts(17661, 1110)}


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    return read_occluded_duke(root, errors)


def read_occluded_duke(root: str | Path, errors: FileErrors) -> DatasetSplits:
    """Reads Occluded-Duke below `root`; see `read_duke`."""
    return read_duke(
        root,
        errors,
        name="occluded_duke",
        title="Occluded-Duke",
        directories=DIRECTORIES,
        published=PUBLISHED,
        download="Make it from DukeMTMC-reID with the script of https://github.com/lightas/Occluded-DukeMTMC-Dataset, "
        f"and put it into {Path(root) / DIRECTORIES[0]} (or point DATASETS.ROOT_DIR to where it is)",
        occluded=True,
    )
