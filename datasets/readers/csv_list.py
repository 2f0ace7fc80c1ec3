"""Pictures of one's own in a CSV file: docs/own-data.md."""

import csv
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from datasets.readers.custom import ALL, TEST, OwnPicture, explain_missing, make_splits
from datasets.readers.file_errors import FileErrors
from utils.errors import UserError
from utils.files import MIB, read_text
from utils.structures import SPLIT_NAMES, DatasetSplits
from utils.text import read_cell

logger = logging.getLogger(__name__)

DELIMITERS = ",;\t"
NEEDED, OPTIONAL = ("path", "pid"), ("camid", "viewid", "split")
QUOTED = 500  # characters that a message quotes of a field
LONGEST_HEADER = 10_000  # characters; the csv module refuses the fields of a file that is no CSV at all
MAX_LIST = 512 * MIB  # five million rows
SPLITS = (*SPLIT_NAMES, TEST)


def read_csv(root_dir: str | Path, faults: FileErrors, *, file: str, seed: int, train_share: float) -> DatasetSplits:
    """The pictures of a list, in the order of its rows.

    Args:
        root_dir: directory that `file` and the paths in it are relative to; absolute paths stay.
        faults: takes up bad rows.
        file: UTF-8, a header with the columns path, pid and, optionally, camid, viewid and split, in any order;
            separated by commas, semicolons or tabs; other columns are not read. Without split everything is drawn, the
            people who train and the queries; the rows of split test are drawn into query and gallery.
        seed, train_share: see make_splits.

    Raises:
        UserError: the file is missing, is no UTF-8 or no CSV, or lacks a column.
    """
    root, path = Path(root_dir), Path(root_dir) / file
    if not path.exists() or path.is_dir():
        raise UserError(f"DATASETS.CSV.FILE {file}: {explain_missing(path)}")
    try:
        text = read_text(path, max_bytes=MAX_LIST)
    except UserError as error:
        raise UserError(f"DATASETS.CSV.FILE {error}") from error
    rows = ((row, f"{path}, line {line}") for row, line in _rows(path, text, faults))
    pictures = [picture for row, where in rows for picture in _read_row(root, row, where, faults)]
    pictures = list(_once(pictures, faults))
    mixed = {picture.split for picture in pictures} & {"query", "gallery"}
    if mixed and any(picture.split == TEST for picture in pictures):
        raise UserError(
            f"{path}: split {TEST} stands beside {' and '.join(sorted(mixed))}; expected query and gallery, or {TEST}, "
            "which is drawn into both"
        )
    return make_splits(
        pictures, faults, name="csv", version=path.stem, root=str(root), seed=seed, train_share=train_share
    )


def _rows(path: Path, text: str, faults: FileErrors) -> Iterator[tuple[dict[str, str], int]]:
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
                faults.add(f"{path}, line {line}: {len(fields)} fields, expected {len(names)}: {', '.join(names)}")
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


def _read_row(root: Path, row: dict[str, str], where: str, faults: FileErrors) -> Iterator[OwnPicture]:
    if not any(row.values()):
        return  # spreadsheets leave such rows at the end
    split = row.get("split", ALL).lower()
    if missing := [name for name in (*NEEDED, "split") if not row.get(name, ALL)]:
        faults.add(f"{where}: no {' and no '.join(missing)}; fill it in, or remove the row")
        return
    if split not in SPLITS and "split" in row:
        faults.add(f"{where}: split {row['split'][:QUOTED]}; expected {', '.join(SPLITS)}")
        return
    picture = str(root / row["path"])
    if os.path.isfile(picture):
        yield OwnPicture(picture, split, row["pid"], row.get("camid", ""), row.get("viewid", ""), where)
    else:
        slashes = "write its path with forward slashes, or " if "\\" in row["path"] else ""
        faults.add(f"{where}: picture {picture[:QUOTED]} does not exist; {slashes}correct or remove the row")


def _once(pictures: list[OwnPicture], faults: FileErrors) -> Iterator[OwnPicture]:
    """The pictures, each path once in a split, of one person in all."""
    first: dict[tuple[str, str], OwnPicture] = {}
    person: dict[str, OwnPicture] = {}
    for picture in pictures:
        path = os.path.normpath(picture.path)
        before, elsewhere = first.setdefault((picture.split, path), picture), person.setdefault(path, picture)
        if elsewhere.pid != picture.pid:
            faults.add(
                f"{picture.where}: {picture.path} is pid {picture.pid[:QUOTED]}, in {elsewhere.where} it is "
                f"{elsewhere.pid[:QUOTED]}; "
                "correct or remove one of the rows"
            )
        elif before is picture:
            yield picture
        else:
            faults.add(
                f"{picture.where}: {picture.path} a second time in split {picture.split}, as in {before.where}; "
                "remove one of the rows"
            )
