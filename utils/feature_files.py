"""Features in .npz and .npy files, read by rows: a file may be far larger than the memory.

`test.py --images` and TEST.SAVE_FEATURES write .npz files without compression, as numpy.savez does. Rows are read, not
memory-mapped: what a map has read counts as memory of the process, and a file that another program shortens would end
it with SIGBUS.
"""

import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from utils.errors import UserError
from utils.files import open_regular

SUFFIXES = (".npz", ".npy")
FEATURES = "features"  # name of the array
MAX_BYTES = 2**44  # of a file
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member; lengths of its name and of its extra field


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, of which slices and arrays of indices along the first axis are read.

    Attributes:
        path: the file.
        offset: of the first value, in bytes.
        shape, dtype: as NumPy's.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        with self.path.open("rb", buffering=0) as handle:
            if isinstance(rows, slice):
                start, stop, step = rows.indices(len(self))
                return self._read(handle, start, max(stop - start, 0))[::step]
            indices = np.asarray(rows)
            found = np.empty((len(indices), *self.shape[1:]), self.dtype)
            for place in np.argsort(indices, kind="stable"):  # in the order of the file
                found[place] = self._read(handle, int(indices[place]), 1)[0]
            return found

    def _read(self, handle: Any, start: int, count: int) -> np.ndarray:
        array = np.empty((count, *self.shape[1:]), self.dtype)
        view = array.reshape(-1).view(np.uint8).data
        handle.seek(self.offset + start * (array.nbytes // count if count else 0))
        while len(view):
            read = handle.readinto(view)
            if not read:
                raise UserError(f"{self.path}: ended before its last feature; the file was changed, write it anew")
            view = view[read:]
        return array


@dataclass(frozen=True)
class FeatureFile:
    """Features (N, D) in a file, and the arrays beside them by name: paths, weight, ...; none in a .npy file."""

    path: Path
    features: StoredArray | np.ndarray
    others: Mapping[str, StoredArray | np.ndarray]

    def text(self, name: str) -> str:
        """A text beside the features; "" where the file has none of that name."""
        value = self.others.get(name)
        return "" if value is None else str(np.asarray(value[:1] if value.shape else _scalar(value)).ravel()[0])


def _scalar(array: StoredArray | np.ndarray) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return array
    with array.path.open("rb") as handle:
        handle.seek(array.offset)
        return np.frombuffer(handle.read(array.dtype.itemsize), array.dtype)


def is_feature_file(path: Any) -> bool:
    """Whether a path names a file of features, by its suffix."""
    return isinstance(path, str | os.PathLike) and str(path).lower().endswith(SUFFIXES)


def open_features(path: str | os.PathLike) -> FeatureFile:
    """Opens a .npz file with `features` (N, D), or a .npy file that is them, of float16, float32 or float64.

    Only the headers are read. The arrays of a compressed .npz file are read as a whole, since their rows cannot be.

    Raises:
        UserError: no such file, no array of features in it, or a damaged file.
    """
    place = Path(os.fspath(path))
    try:
        with open_regular(place, max_bytes=MAX_BYTES) as handle:
            arrays = (
                {FEATURES: _array_at(place, handle, 0)} if place.suffix.lower() == ".npy" else _members(place, handle)
            )
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, struct.error, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{place}: cannot be read ({error}); expected a .npz or .npy file of features") from error
    features = arrays.pop(FEATURES, None)
    if features is None:
        held = ", ".join(arrays) or "nothing"
        raise UserError(f"{place}: holds {held}, expected an array named {FEATURES}, as test.py --images writes it")
    if len(features.shape) != 2 or 0 in features.shape or features.dtype.kind != "f":
        raise UserError(
            f"{place}: {FEATURES} are {features.shape} of {features.dtype}, expected (N, D) of float16, float32 or "
            "float64, not empty"
        )
    return FeatureFile(place, features, arrays)


def _members(path: Path, handle: BinaryIO) -> dict[str, StoredArray | np.ndarray]:
    """The arrays of a .npz file by name."""
    arrays: dict[str, StoredArray | np.ndarray] = {}
    with zipfile.ZipFile(handle) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type == zipfile.ZIP_STORED:
                handle.seek(member.header_offset)
                lengths = _LOCAL_HEADER.unpack(handle.read(_LOCAL_HEADER.size))
                arrays[name] = _array_at(path, handle, member.header_offset + _LOCAL_HEADER.size + sum(lengths))
            else:
                with archive.open(member) as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def _array_at(path: Path, handle: BinaryIO, offset: int) -> StoredArray:
    handle.seek(offset)
    version = np.lib.format.read_magic(handle)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(handle)
    if dtype.hasobject or (fortran_order and len(shape) > 1):
        raise UserError(f"{path}: holds Python objects or columns, expected plain values in the order of rows")
    array = StoredArray(path, handle.tell(), shape, dtype)
    needed = array.offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if needed > os.fstat(handle.fileno()).st_size:
        raise UserError(f"{path}: ends before its last value; it is incomplete, write it anew")
    return array
