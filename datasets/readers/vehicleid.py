"""PKU VehicleID: vehicles, with three test sets.

Liu, Tian, Yang, Pang, Huang, Deep Relative Distance Learning: Tell the Difference Between Similar Vehicles, CVPR 2016,
https://pkuml.org/resources/pku-vehicleid.html

    data/VehicleID_V1.0/, data/VehicleID/ or data/vehicleid/
        image/<name>.jpg
        train_test_split/train_list.txt        113,346 images of 13,164 identities
        train_test_split/test_list_800.txt       6,493 images of 800 other identities (small)
        train_test_split/test_list_1600.txt     13,377 images of 1,600 (medium)
        train_test_split/test_list_2400.txt     19,777 images of 2,400 (large)

Any other directory up to three levels below data/ is recognised by this content. A line of a list is `0195003 3336`:
the image's name and the pid. DATASETS.VEHICLEID.TEST_SIZE names the test set.

Protocol: one random image of each identity is the gallery, the other images are queries; ten times, with means over the
repeats (TEST.REPEATS). So both sets that are read here are all test images, and every repeat samples its gallery from
SEED (datasets/sampled_gallery.py). Cameras are not known: the one image of the query's identity is its match.
"""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.file_errors import FileErrors
from datasets.readers.image_lists import list_files, parse_lines
from datasets.readers.locate import find_directory
from utils.structures import Counts, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

DIRECTORIES = ("VehicleID_V1.0", "VehicleID", "vehicleid")
LISTS, IMAGES, TRAIN = "train_test_split", "image", "train_list.txt"
PUBLISHED_TRAIN = Counts(113346, 13164)
PUBLISHED_TEST = {800: Counts(6493, 800), 1600: Counts(13377, 1600), 2400: Counts(19777, 2400)}
LINE = re.compile(r"(?P<name>\d{1,9})\s+(?P<pid>\d{1,9})", re.ASCII)
EXAMPLE = "0195003 3336"


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    return read_vehicleid(root, errors, test_size=cfg.DATASETS.VEHICLEID.TEST_SIZE)


def read_vehicleid(root: str | Path, errors: FileErrors, *, test_size: int = 800) -> DatasetSplits:
    """Reads VehicleID below `root`, each set in the order of its paths.

    Args:
        root: directory that holds the data set's own.
        errors: collects lines of the lists that are wrong, or whose image is missing.
        test_size: identities of the test set: 800, 1600 or 2400.

    Raises:
        UserError: the data set is missing, or incomplete; a list is not UTF-8.
    """
    test = f"test_list_{test_size}.txt"
    directory = find_directory(
        root,
        DIRECTORIES,
        (IMAGES, *(f"{LISTS}/{name}" for name in (TRAIN, test))),
        title="VehicleID",
        download=f"Request it at https://pkuml.org/resources/pku-vehicleid.html and unpack it into {root}/ (or point "
        "DATASETS.ROOT_DIR to where it is)",
    )
    images = list_files(directory / IMAGES, errors)
    listed_in: dict[str, str] = {}  # name of an image -> its first line

    def read_list(name: str) -> Iterator[ImageRecord]:
        for where, line in parse_lines(directory / LISTS / name, LINE, EXAMPLE, errors):
            path = directory / IMAGES / f"{line['name']}.jpg"
            if listed_in.setdefault(path.name, where) is not where:
                errors.add(f"{where}: {path.name} a second time, as in {listed_in[path.name]}; remove one of the lines")
            elif path.name not in images:
                errors.add(f"{where}: image {path} does not exist; unpack the archive again, or remove the line")
            else:
                yield ImageRecord(str(path), int(line["pid"]), 0)

    train, tested = (tuple(sorted(read_list(name), key=lambda record: record.path)) for name in (TRAIN, test))
    logger.info("VehicleID: every repeat samples one image of each test identity as gallery; the others are queries")
    return DatasetSplits(
        train,
        tested,
        tested,
        name="vehicleid",
        root=str(directory),
        version=f"{test_size} test identities",
        has_cameras=False,
        samples_gallery=True,
        published={"train": PUBLISHED_TRAIN, "query": PUBLISHED_TEST[test_size], "gallery": PUBLISHED_TEST[test_size]},
    )
