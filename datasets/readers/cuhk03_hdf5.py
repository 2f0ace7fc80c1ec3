"""Reads cuhk-03.mat, which is MATLAB 7.3's HDF5, safely: sizes are checked first, other files are never read.

HDF5 may refer to bytes of other files: external storage, virtual datasets, external and soft links. MATLAB writes none
of them, and none is followed. It may also declare arrays without storing their bytes.
"""

from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from utils.errors import UserError
from utils.files import MIB, open_regular

MAX_FILE = 16 * 1024 * MIB  # the release has 1.7 GB
MAX_ARRAY = 16 * MIB  # of an image: the largest one of the release has 0.5 MB
MAX_RATIO = 1100  # decoded bytes per stored byte: deflate reaches at most 1032
MAX_TOTAL_RATIO, FREE_TOTAL = 100, 16 * MIB  # of all arrays to the bytes of the file; bytes that any file may decode to
# Exceptions of h5py for files that are damaged or hold something else.
_BROKEN = (OSError, LookupError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError)


class MatFile:
    """An open cuhk-03.mat; closed at the end of its `with` block.

    Raises:
        UserError: from every method: the content cannot be read, is too large, or lies in another file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_regular(path, max_bytes=MAX_FILE) as handle:
            size = handle.seek(0, 2)
        self.bytes_left = FREE_TOTAL + MAX_TOTAL_RATIO * size
        try:
            self.file = h5py.File(path, "r")
        except _BROKEN as error:
            raise UserError(
                f"{path}: cannot be opened as HDF5, which MATLAB 7.3 writes ({error}); {size} bytes. It is "
                "incomplete, or another file: unpack or download it again"
            ) from error

    def __enter__(self) -> "MatFile":
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.file.close()

    def references(self, key: str | h5py.Reference, title: str, *, columns: int = 0) -> np.ndarray:
        """A MATLAB cell array, (rows, columns) of references; any number of columns where none is given."""
        return self._read(key, title, columns=columns, of_references=True)

    def numbers(self, key: str | h5py.Reference, title: str, *, columns: int) -> np.ndarray:
        """A table of numbers, (rows, columns)."""
        return self._read(key, title, columns=columns)

    def image(self, key: h5py.Reference, title: str) -> np.ndarray | None:
        """An image, (H, W, 3) uint8 RGB; None for an empty cell."""
        array = self._read(key, title)
        if array.ndim < 3 or not array.size:
            return None
        if array.dtype != np.uint8 or array.shape[2:] != (3,):
            self._refuse(title, f": {array.dtype} {array.shape}; expected uint8 (height, width, 3)")
        return np.ascontiguousarray(array)

    def _read(
        self, key: str | h5py.Reference, title: str, *, columns: int = 0, of_references: bool = False
    ) -> np.ndarray:
        """The array at `key`, with its dimensions in MATLAB's order, which HDF5 reverses; with `columns`, a table."""
        try:
            if isinstance(key, str) and isinstance(self.file.get(key, getlink=True), h5py.SoftLink | h5py.ExternalLink):
                self._refuse(title, " is a link; expected the array itself")
            dataset = self.file[key]
            if not isinstance(dataset, h5py.Dataset):
                raise TypeError("not an array")
            self._check(dataset, title)
            shape, dtype = dataset.shape[::-1], dataset.dtype
            if columns and (len(shape) != 2 or shape[1] != columns):
                self._refuse(title, f": {shape}, expected {columns} columns")
            is_expected = h5py.check_ref_dtype(dtype) is h5py.Reference if of_references else dtype.kind in "uif"
            if not is_expected:
                self._refuse(title, f": {dtype} {shape}; expected {'references' if of_references else 'numbers'}")
            return dataset[()].T
        except UserError:
            raise
        except _BROKEN as error:
            raise UserError(
                f"{self.path}: {title} cannot be read ({type(error).__name__}: {error}). It is incomplete, or not "
                "CUHK03's: unpack or download it again"
            ) from error

    def _check(self, dataset: h5py.Dataset, title: str) -> None:
        """Refuses arrays that lie in another file, or are larger than the bytes stored for them can decode to."""
        if dataset.external or dataset.is_virtual or dataset.file.id != self.file.id:
            self._refuse(title, " lies in another file (external storage or a virtual dataset); it was not read")
        size, stored = dataset.nbytes, dataset.id.get_storage_size()
        chunk = int(np.prod(dataset.chunks, dtype=object)) * dataset.dtype.itemsize if dataset.chunks else 0
        if max(size, chunk) > MAX_ARRAY or size > MAX_RATIO * stored:
            self._refuse(title, f": {dataset.shape[::-1]}, {size} bytes of which {stored} are stored; it was not read")
        self.bytes_left -= size
        if self.bytes_left < 0:
            self._refuse(title, f": with it, the arrays have over {MAX_TOTAL_RATIO} times the bytes of the file")

    def _refuse(self, title: str, why: str) -> None:
        raise UserError(f"{self.path}: {title}{why}. Unpack or download it again")
