"""Which rows of a model's side table (SIE: a vector for each camera and viewpoint) are those of a test set."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

from yacs.config import CfgNode

from model.weights.model_file import ModelFile
from utils.errors import UserError
from utils.side_numbers import find_sides
from utils.structures import SetNumbers, Sides

logger = logging.getLogger(__name__)

MEAN = "set MODEL.SIE_CAMERA and SIE_VIEW to False: every image then gets the mean of the file's vectors"


class SideTable(NamedTuple):
    """Cameras and viewpoints of a side table, and where those of each test set begin; None: they are not in it."""

    num_cameras: int
    num_views: int
    sides: tuple[Sides | None, ...]


def match_sides(cfg: CfgNode, file: ModelFile, rows: int, sets: Sequence[SetNumbers]) -> SideTable:
    """Finds the cameras and viewpoints of test sets in the table of a file.

    A file that was trained on several data sets tells which rows are whose. The table of any other file is that of the
    one test set that must fit it by number; a warning says where the file names another one. A test set that
    DATASETS.TEST alone names may be in none; a warning says so.

    Args:
        cfg: configuration of the model in the file, with SIE.
        file: the file.
        rows: of its table.
        sets: the test sets.

    Raises:
        UserError: a data set has other cameras or viewpoints than the table, or DATASETS.NAMES names one that the file
            was not trained on.
    """
    found = [find_sides(numbers.name, file.sets) for numbers in sets]
    unknown = [
        numbers.name for numbers, one in zip(sets, found, strict=True) if one is None and not numbers.is_training
    ]
    if unknown:
        logger.warning(
            "checkpoint %s: not trained on %s, whose images all get the mean of the file's %d side vectors",
            *(file.path, ", ".join(unknown), rows),
        )
    known = [numbers for numbers in sets if numbers.name not in unknown]
    if len(file.sets) < 2:
        for numbers in known:
            _check_rows(cfg, file.path, rows, numbers)
        claimed = [numbers.name for numbers, one in zip(sets, found, strict=True) if one is None and numbers in known]
        if claimed and file.sets:
            logger.warning(
                "checkpoint %s: trained on %s, not on %s, whose images get the side vectors of %s by the numbers of "
                "their cameras; if they are not the same cameras, %s",
                *(file.path, file.sets[0].name, ", ".join(claimed), file.sets[0].name, MEAN),
            )
        of_table = known[0] if known else _shape_of_table(cfg, file, rows)
        sides = tuple(None if numbers.name in unknown else Sides() for numbers in sets)
        return SideTable(of_table.num_cameras, of_table.num_views, sides)
    whole = SetNumbers("", sum(one.num_cameras for one in file.sets), sum(one.num_views for one in file.sets))
    _check_rows(cfg, file.path, rows, whole)
    trained_on = ", ".join(one.name for one in file.sets)
    for numbers, one in zip(sets, found, strict=True):
        if one is None and numbers.is_training:
            raise UserError(
                f"checkpoint {file.path}: trained on {trained_on}, not on {numbers.name}, whose cameras it does not "
                f"know; name it in DATASETS.TEST, or {MEAN}"
            )
        if one is not None:
            _check_numbers(cfg, file.path, numbers, one.numbers)
    return SideTable(whole.num_cameras, whole.num_views, tuple(one and one.sides for one in found))


def _shape_of_table(cfg: CfgNode, file: ModelFile, rows: int) -> SetNumbers:
    """Cameras and viewpoints of a table of which no test set is: as the file tells, else as many as it has rows."""
    if file.sets and _expected_rows(cfg, file.sets[0]) == rows:
        return file.sets[0]
    return SetNumbers("", rows, 1) if cfg.MODEL.SIE_CAMERA else SetNumbers("", 1, rows)


def _expected_rows(cfg: CfgNode, numbers: SetNumbers) -> int:
    return (numbers.num_cameras if cfg.MODEL.SIE_CAMERA else 1) * (numbers.num_views if cfg.MODEL.SIE_VIEW else 1)


def _check_rows(cfg: CfgNode, path: str, rows: int, numbers: SetNumbers) -> None:
    expected = _expected_rows(cfg, numbers)
    if rows != expected:
        raise UserError(
            f"checkpoint {path}: side information for {rows} camera/viewpoint combinations, but the data set has "
            f"{expected}{matching_keys(rows, numbers)}; test on the data set that the file was trained on, or {MEAN}"
        )


def _check_numbers(cfg: CfgNode, path: str, here: SetNumbers, there: SetNumbers) -> None:
    if _expected_rows(cfg, here) != _expected_rows(cfg, there):
        raise UserError(
            f"checkpoint {path}: trained on {there.name} with {there.num_cameras} cameras and {there.num_views} "
            f"viewpoints, found {here.num_cameras} and {here.num_views} in {here.name}; test on the same data set, or "
            f"{MEAN}"
        )


def matching_keys(rows: int, numbers: SetNumbers) -> str:
    """Which keys would make a side table of that many rows, for a message; "" where none would."""
    sizes = {
        "MODEL.SIE_CAMERA True": numbers.num_cameras,
        "MODEL.SIE_VIEW True": numbers.num_views,
        "MODEL.SIE_CAMERA True and SIE_VIEW True": numbers.num_cameras * numbers.num_views,
    }
    keys = next((keys for keys, size in sizes.items() if size == rows), "")
    return f"; {keys} would fit, if that is how it was trained" if keys else ""
