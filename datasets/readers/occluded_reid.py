"""Occluded-REID, a test set alone: occluded queries, whole bodies as gallery.

Zhuo, Chen, Lai, Wang, Occluded Person Re-identification, ICME 2018,
https://github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets

    data/Occluded_REID/, data/occluded_reid/, data/OccludedREID/ or data/Occluded-REID/
        occluded_body_images/    the queries: 1,000 images, 5 of each of 200 identities
        whole_body_images/       the gallery: 1,000 images, 5 of each of the same identities

Any other directory up to three levels below data/ is recognised by this content.

Names are <pid>/<pid>_<number>.tif, e.g. 001/001_01.tif, or the same as JPEG or PNG. The cameras (mobile ones) are not
given; every gallery image of the query's identity is a match. Published code says the same by numbering all queries
camera 0 and the gallery camera 1.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import find_directory
from utils.image_listing import list_images
from utils.structures import Counts, DatasetSplits, ImageRecord

DIRECTORIES = ("Occluded_REID", "occluded_reid", "OccludedREID", "Occluded-REID")
QUERY, GALLERY = "occluded_body_images", "whole_body_images"
PUBLISHED = {"query": Counts(1000, 200), "gallery": Counts(1000, 200)}
SUFFIXES = {".tif", ".tiff", ".jpg", ".jpeg", ".png"}
NAME = re.compile(r"(?P<directory>\d{1,9})/(?P<pid>\d{1,9})_[^/]+", re.ASCII)


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    return read_occluded_reid(root, errors)


def read_occluded_reid(root: str | Path, errors: FileErrors) -> DatasetSplits:
    """Reads Occluded-REID below `root`, the directory that holds the data set's own; `errors` are of single files.

    Raises:
        UserError: the data set is missing, or incomplete.
    """
    directory = find_directory(
        root,
        DIRECTORIES,
        (QUERY, GALLERY),
        title="Occluded-REID",
        download="Download it from https://github.com/tinajia2012/ICME2018_Occluded-Person-Reidentification_datasets "
        f"and unpack it into {root}/ (or point DATASETS.ROOT_DIR to where it is)",
        fits=lambda place: any(map(NAME.fullmatch, _list(place / QUERY, FileErrors()))),
    )
    return DatasetSplits(
        train=(),
        query=tuple(_read_split(directory / QUERY, errors)),
        gallery=tuple(_read_split(directory / GALLERY, errors)),
        name="occluded_reid",
        root=str(directory),
        has_cameras=False,
        published=PUBLISHED,
    )


def _list(directory: Path, errors: FileErrors) -> Iterator[str]:
    return list_images(directory, errors.add, suffixes=SUFFIXES)


def _read_split(directory: Path, errors: FileErrors) -> Iterator[ImageRecord]:
    for name in _list(directory, errors):
        match = NAME.fullmatch(name)
        if match and int(match["pid"]) == int(match["directory"]):
            yield ImageRecord(str(directory / name), int(match["pid"]), 0)
        else:
            errors.add(
                f"{directory / name}: the name does not parse; expected <pid>/<pid>_<number>.tif, e.g. "
                "001/001_01.tif. Rename or remove the file"
            )
