"""VeRi-776: vehicles.

Liu, Liu, Mei, Ma, A Deep Learning-Based Approach to Progressive Vehicle Re-identification for Urban Surveillance,
ECCV 2016, https://vehiclereid.github.io/VeRi/

    data/VeRi/, data/veri/, data/VeRi-776/ or data/VeRi_with_plate/
        image_train/    37,778 images of 576 identities
        image_query/     1,678 images of 200 other identities
        image_test/     11,579 images of these, the gallery
        keypoint_train.txt, keypoint_test.txt    with MODEL.SIE_VIEW alone

Any other directory up to three levels below data/ is recognised by this content.

Names are <pid>_c<camera>_<time>_<number>.jpg, e.g. 0001_c001_00016450_0.jpg, cameras 1 to 20.

Viewpoints are those of Wang et al., Orientation Invariant Feature Embedding and Spatial Temporal Regularization for
Vehicle Re-identification, ICCV 2017, https://github.com/Zhongdao/VehicleReIDKeyPointData, whose two files the
TransReID codebase carries: a line is the path of an image, 20 pairs of coordinates, and the viewpoint, 0 to 7. They do
not list every image. With MODEL.SIE_VIEW, which needs viewpoints, the others are left out of all three sets, as that
code does; without it every image counts, and the files are not read.
"""

import logging
import re
from dataclasses import replace
from pathlib import Path

from yacs.config import CfgNode

from datasets.copy_format import SETTINGS
from datasets.readers.file_errors import FileErrors
from datasets.readers.image_lists import parse_lines
from datasets.readers.locate import find_directory
from datasets.readers.market_layout import VERI_DIRECTORIES, FileNames, has_names, read_market_layout
from utils.errors import UserError
from utils.structures import Counts, DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

DIRECTORIES = ("VeRi", "veri", "VeRi-776", "VeRi_with_plate")
SPLIT_DIRECTORIES = VERI_DIRECTORIES
PUBLISHED = {"train": Counts(37778, 576), "query": Counts(1678, 200), "gallery": Counts(11579, 200)}
NUM_CAMERAS, LAST_PID = 20, 776
FILE_NAMES = FileNames(
    re.compile(r"(?P<pid>-?\d+)_c(?P<camera>\d+)_\d+_\d+\.(jpg|png)", re.IGNORECASE | re.ASCII),
    "<pid>_c<camera>_<time>_<number>.jpg, e.g. 0001_c001_00016450_0.jpg",
    last_pid=LAST_PID,
    num_cameras=NUM_CAMERAS,
)
VIEWPOINTS = ("keypoint_train.txt", "keypoint_test.txt")
VIEWPOINT = re.compile(r"(?:\S*/)?(?P<name>[^/\s]+)(?:\s+-?\d+)*\s+(?P<viewid>[0-7])", re.ASCII)
EXAMPLE = "VeRi/image_train/0001_c001_00016450_0.jpg 25 63 ... -1 -1 3, which ends in a viewpoint of 0 to 7"
KEYPOINT_URL = "https://github.com/Zhongdao/VehicleReIDKeyPointData"


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    return complete(cfg, read_veri(root, errors), errors)


def complete(cfg: CfgNode, splits: DatasetSplits, errors: FileErrors) -> DatasetSplits:
    """The splits with viewpoints where the model uses them."""
    return add_viewpoints(splits, errors) if cfg.MODEL.SIE_VIEW else splits


def read_veri(root: str | Path, errors: FileErrors) -> DatasetSplits:
    """Reads VeRi-776 below `root`, the directory that holds the data set's own; `errors` are of single files.

    Raises:
        UserError: the data set is missing or incomplete.
    """
    directory = find_directory(
        root,
        DIRECTORIES,
        tuple(SPLIT_DIRECTORIES.values()),
        title="VeRi-776",
        download=f"Request it at https://vehiclereid.github.io/VeRi/ and unpack it into {root}/ (or point "
        "DATASETS.ROOT_DIR to where it is)",
        fits=lambda place: not (place / SETTINGS).exists() and has_names(place, FILE_NAMES, SPLIT_DIRECTORIES),
    )
    return read_market_layout(
        directory,
        errors,
        name="veri",
        names=FILE_NAMES,
        directories=SPLIT_DIRECTORIES,
        has_distractors=False,
        published=PUBLISHED,
        cameras=NUM_CAMERAS,
    )


def add_viewpoints(splits: DatasetSplits, errors: FileErrors) -> DatasetSplits:
    """The images that have a viewpoint, with it; images of a corrupted copy are PNG and listed as JPEG.

    Raises:
        UserError: a file with viewpoints is missing.
    """
    directory = Path(splits.root)
    missing = [name for name in VIEWPOINTS if not (directory / name).is_file()]
    if missing:
        raise UserError(
            f"MODEL.SIE_VIEW True: VeRi-776: {directory} holds no {' and no '.join(missing)}, which give the "
            f"viewpoints ({KEYPOINT_URL}; also in datasets/ of the TransReID codebase). Put them there, or set "
            "MODEL.SIE_VIEW False"
        )
    viewids = {
        Path(line["name"]).stem: int(line["viewid"])
        for name in VIEWPOINTS
        for _, line in parse_lines(directory / name, VIEWPOINT, EXAMPLE, errors)
    }

    def seen(records: tuple[ImageRecord, ...]) -> tuple[ImageRecord, ...]:
        named = ((record, viewids.get(Path(record.path).stem)) for record in records)
        return tuple(replace(record, viewid=viewid) for record, viewid in named if viewid is not None)

    kept = replace(splits, train=seen(splits.train), query=seen(splits.query), gallery=seen(splits.gallery))
    left_out = sum(len(side) for side in (splits.train, splits.query, splits.gallery)) - sum(
        len(side) for side in (kept.train, kept.query, kept.gallery)
    )
    if not left_out:
        return kept
    logger.warning(
        "VeRi-776: left out %d images without a viewpoint in %s, as the TransReID codebase does; counts are not "
        "compared with the published ones. MODEL.SIE_VIEW False reads every image",
        left_out,
        " and ".join(VIEWPOINTS),
    )
    return replace(kept, version="images with a viewpoint", published={}, published_cameras=0)
