"""Reads the file of CUHK03's new protocol: the training and the test identities.

Zhong, Zheng, Cao, Li, Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from datasets.readers.cuhk03_images import IMAGE_NAME
from datasets.readers.locate import find_by_content
from utils.errors import UserError
from utils.files import MIB, read_bytes
from utils.structures import SPLIT_NAMES

URL = "https://github.com/zhunzhong07/person-re-ranking"
MAX_FILE, MAX_CONTENT = 16 * MIB, 64 * MIB  # the published ones have 0.2 and 2 MB
MAX_CONTAINERS = 8
# Of MATLAB 5 files: bytes of the header and of a tag, types of elements, and classes of arrays that hold no others.
HEAD, TAG, MATRIX, COMPRESSED = 128, 8, 14, 15
PLAIN = range(4, 16)
# Exceptions of scipy for files that are damaged or hold something else.
_BROKEN = (
    *(OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, ArithmeticError, EOFError),
    *(MemoryError, NameError, MatReadError, zlib.error),
)


def _check_variables(content: bytes) -> None:
    """Raises ValueError where the variables of a MATLAB 5 file decompress to more than MAX_CONTENT bytes, or nest cell
    arrays, at whose depth scipy would crash."""
    order, position, left, containers = ">" if content[126:128] == b"MI" else "<", HEAD, MAX_CONTENT, 0
    while position + TAG <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, position)
        variable = content[position : position + TAG + size]
        if kind == COMPRESSED:
            variable = zlib.decompressobj().decompress(variable[TAG:], left + 1)
        left -= len(variable)
        if left < 0:
            raise ValueError(f"its variables hold more than {MAX_CONTENT} bytes")
        containers += _count_containers(variable, order)
        position += TAG + size
    if containers > MAX_CONTAINERS:
        raise ValueError(f"it holds {containers} cell arrays or structures, expected one, filelist")


def _count_containers(variable: bytes, order: str) -> int:
    """Counts the arrays that hold arrays, in a variable and within them."""
    position = containers = 0
    while position + TAG <= len(variable):
        kind, size = struct.unpack_from(f"{order}II", variable, position)
        position += TAG
        if kind == MATRIX:  # its flags, with its class, then its other parts
            if size and position + 12 <= len(variable):
                containers += struct.unpack_from(f"{order}I", variable, position + 8)[0] & 0xFF not in PLAIN
                position += 16
        elif kind < 2**16:  # small elements have their data in the tag
            position += size + -size % 8
    return containers


def find_protocol(root: Path, places: Sequence[str], boxes: str) -> Path:
    """The file for `boxes`, in the first of `places` below `root` that has it, or in another one."""
    name = f"cuhk03_new_protocol_config_{boxes}.mat"
    found = next((path for place in places if (path := root / place / name).is_file()), None)
    if found is None and (place := find_by_content(root, (name,), title="CUHK03", name=places[0])):
        return place / name
    if found is None:
        raise UserError(
            f"CUHK03: {name} not found in {', '.join(str(root / place) for place in places)}: it holds the "
            f"training and the test identities. Download it from {URL} into {root / 'cuhk03'}/"
        )
    return found


def load_protocol(path: Path) -> dict[str, list[tuple[str, int]]]:
    """Reads the (file name, pid) of the images of each split.

    Raises:
        UserError: not a MATLAB file, not the new protocol's, or contradictory.
    """
    advice = f"Download it again from {URL} (the raw file, not the page that shows it)"
    try:
        content = read_bytes(path, max_bytes=MAX_FILE)
        _check_variables(content)
        loaded = loadmat(io.BytesIO(content))
        names = [str(cell.item()) for cell in loaded["filelist"].ravel()]
        labels = loaded["labels"].ravel()
        pids = np.nan_to_num(labels).astype(np.int64)
        indexes = {split: loaded[f"{split}_idx"].ravel().astype(np.int64) - 1 for split in SPLIT_NAMES}
    except _BROKEN as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); expected a MATLAB 5 file with filelist, "
            f"labels, train_idx, query_idx and gallery_idx. {advice}"
        ) from error
    if len(names) != len(pids):
        raise UserError(f"{path}: {len(names)} names in filelist, {len(pids)} labels; expected as many. {advice}")
    for split, index in indexes.items():
        if outside := index[(index < 0) | (index >= len(names))].tolist():
            raise UserError(
                f"{path}: {split}_idx has {outside[0] + 1}; expected 1 to {len(names)}, one per name in filelist. "
                f"{advice}"
            )
    if unknown := [name for name in names if not IMAGE_NAME.fullmatch(name)]:
        raise UserError(
            f"{path}: filelist has {unknown[0]!r}, a name that does not parse; expected "
            f"<pair>_<person>_<view>_<number>.png, e.g. 1_001_1_01.png. {advice}"
        )
    if wrong := labels[(pids != labels) | (pids < 0)].tolist():
        raise UserError(f"{path}: labels has {wrong[0]}; expected numbers of people, from 0. {advice}")
    twice = set(indexes["train"].tolist()) & {*indexes["query"].tolist(), *indexes["gallery"].tolist()}
    if twice:
        raise UserError(f"{path}: {names[min(twice)]} is in train_idx and tested; expected one of the two. {advice}")
    return {split: [(names[i], int(pids[i])) for i in index] for split, index in indexes.items()}
