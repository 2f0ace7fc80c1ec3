"""Custom images in a CSV file: docs/own-data.md."""

import csv
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from yacs.config import CfgNode

from datasets.readers.custom import ALL, TEST, make_splits
from datasets.readers.file_errors import FileErrors
from datasets.readers.locate import explain_missing
from datasets.readers.numbering import CustomImage
from utils.errors import UserError
from utils.escaping import read_cell
from utils.files import MIB, read_text
from utils.structures import SPLIT_NAMES, DatasetSplits

logger = logging.getLogger(__name__)

DELIMITERS = ",;\t"
NEEDED, OPTIONAL = ("path", "pid"), ("camid", "viewid", "split")
QUOTED = 500  # characters that a message quotes of a field
LONGEST_HEADER = 10_000  # characters; the csv module refuses the fields of a file that is no CSV at all
MAX_LIST = 512 * MIB  # five million rows
SPLITS = (*SPLIT_NAMES, TEST)


def read(cfg: CfgNode, root: Path, errors: FileErrors) -> DatasetSplits:
    split = cfg.DATASETS.SPLIT
    return read_csv(root, errors, file=cfg.DATASETS.CSV.FILE, seed=split.SEED, train_share=split.TRAIN_SHARE)


def read_csv(root: str | Path, errors: FileErrors, *, file: str, seed: int, train_share: float) -> DatasetSplits:
    """Reads the images of a list, in the order of its rows.

    Args:
        root: directory that `file` and the paths in it are relative to; absolute paths stay.
        errors: collects wrong rows.
        file: UTF-8, a header with the columns path, pid and, optionally, camid, viewid and split, in any order;
            separated by commas, semicolons or tabs; other columns are not read. Without split, training identities and
            queries are sampled; the rows of split test are sampled into query and gallery.
        seed, train_share: see make_splits.

    Raises:
        UserError: the file is missing, is not UTF-8 or not CSV, or lacks a column.
    """
    root, path = Path(root), Path(root) / file
    if not path.exists() or path.is_dir():
        raise UserError(f"DATASETS.CSV.FILE {file}: {explain_missing(path)}")
    try:
        text = read_text(path, max_bytes=MAX_LIST)
    except UserError as error:
        raise UserError(f"DATASETS.CSV.FILE {error}") from error
    rows = ((row, f"{path}, line {line}") for row, line in _rows(path, text, errors))
    images = [image for row, where in rows if (image := _read_row(root, row, where, errors))]
    images = list(_without_repeats(images, errors))
    given = {image.split for image in images} & {"query", "gallery"}
    if given and any(image.split == TEST for image in images):
        raise UserError(
            f"{path}: split {TEST} stands beside {' and '.join(sorted(given))}; expected query and gallery, or {TEST}, "
            "which is sampled into both"
        )
    return make_splits(
        images, errors, name="csv", version=path.stem, root=str(root), seed=seed, train_share=train_share
    )


def _rows(path: Path, text: str, errors: FileErrors) -> Iterator[tuple[dict[str, str], int]]:
    """Column -> field of every row with as many fields as the header, and the number of its line."""
    delimiter, line = _find_delimiter(path, text), 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.lower() for name in _fields(next(reader))]
        if unused := [name for name in names if name and name not in (*NEEDED, *OPTIONAL)]:
            logger.info("%s: columns that are not read: %s", path, ", ".join(unused)[:QUOTED])
        line = reader.line_num
        for row in reader:
            fields, line = _fields(row), reader.line_num
            if len(fields) == len(names):
                yield dict(zip(names, fields, strict=True)), line
            elif any(fields):
                errors.add(f"{path}, line {line}: {len(fields)} fields, expected {len(names)}: {', '.join(names)}")
    except csv.Error as error:
        raise UserError(
            f"{path}: no CSV from line {line + 1} on ({error}); a quotation mark may lack its partner"
        ) from error


def _fields(row: list[str]) -> list[str]:
    return [read_cell(field.strip()) for field in row]


def _find_delimiter(path: Path, text: str) -> str:
    first = text.splitlines()[0][:LONGEST_HEADER] if text else ""
    for delimiter in DELIMITERS:
        names = [name.lower() for name in _fields(next(csv.reader([first], delimiter=delimiter), []))]
        if set(NEEDED) <= set(names):
            twice = sorted(name for name in {*NEEDED, *OPTIONAL} if names.count(name) > 1)
            if twice:
                raise UserError(f"{path}: column {', '.join(twice)} twice in the header: {first[:QUOTED]}")
            return delimiter
    raise UserError(
        f"{path}: the first line is '{first[:QUOTED]}'; expected a header with the columns {', '.join(NEEDED)} and, "
        f"optionally, {', '.join(OPTIONAL)}, separated by commas, semicolons or tabs"
    )


def _read_row(root: Path, row: dict[str, str], where: str, errors: FileErrors) -> CustomImage | None:
    if not any(row.values()):
        return None  # spreadsheets leave such rows at the end
    split = row.get("split", ALL).lower()
    path = str(root / row["path"])
    if missing := [name for name in (*NEEDED, "split") if not row.get(name, ALL)]:
        errors.add(f"{where}: no {' and no '.join(missing)}; fill it in, or remove the row")
    elif split not in SPLITS and "split" in row:
        errors.add(f"{where}: split {row['split'][:QUOTED]}; expected {', '.join(SPLITS)}")
    elif not os.path.isfile(path):
        slashes = "write its path with forward slashes, or " if "\\" in row["path"] else ""
        errors.add(f"{where}: image {path[:QUOTED]} does not exist; {slashes}correct or remove the row")
    else:
        return CustomImage(path, split, row["pid"], row.get("camid", ""), row.get("viewid", ""), where)
    return None


def _without_repeats(images: list[CustomImage], errors: FileErrors) -> Iterator[CustomImage]:
    """The images, each path once in a split, with one pid in all."""
    first_in_split: dict[tuple[str, str], CustomImage] = {}
    first_of_all: dict[str, CustomImage] = {}
    for image in images:
        path = os.path.normpath(image.path)
        first = first_of_all.setdefault(path, image)
        before = first_in_split.setdefault((image.split, path), image)
        if first.pid != image.pid:
            errors.add(
                f"{image.where}: {image.path} is pid {image.pid[:QUOTED]}, in {first.where} it is "
                f"{first.pid[:QUOTED]}; correct or remove one of the rows"
            )
        elif before is not image:
            errors.add(
                f"{image.where}: {image.path} a second time in split {image.split}, as in {before.where}; remove one "
                "of the rows"
            )
        else:
            yield image
