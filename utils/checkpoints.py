"""Loads and saves checkpoints: dicts of tensors and plain values, which load without running code from the file."""

import argparse
import contextlib
import errno
import logging
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves, tree_map_only

from utils.checkpoint_integrity import check_legacy, check_zip, kind_of
from utils.errors import UserError
from utils.files import MIB, open_regular, write_files
from utils.torchscript import read_torchscript

logger = logging.getLogger(__name__)

MAX_BYTES = 32 * 2**30  # of a file; the largest vision transformers with their optimizer take less
SHOWN_FILES = 8  # in an error


def save_checkpoint(path: str | Path, states: dict[str, Any], meta: dict, *, replace: bool = False) -> None:
    """Saves {**states, "meta": meta}; see utils.files.write_files. In a distributed run only rank 0 writes.

    Args:
        path: file. An earlier file there is backed up.
        states: state dicts by name, "model" and perhaps "bridge".
        meta: plain values: stage, epoch, num_classes, num_cameras, num_views, dataset, seed, versions, config text.
        replace: an earlier file is an older state of this run; it is overwritten.

    Raises:
        UserError: the file could not be written; the earlier file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**tree_map_only(torch.Tensor, lambda value: value.detach().cpu(), states), "meta": meta}

    def write(partial: Path) -> None:
        try:
            _save(content, partial)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            needed = sum(value.nbytes for value in tree_leaves(content) if isinstance(value, torch.Tensor))
            partial.unlink(missing_ok=True)
            free = shutil.disk_usage(path.parent).free
            raise OSError(
                error.errno,
                f"the disk is full: the file takes about {needed / MIB:.1f} MiB, {free / MIB:.1f} MiB are free in "
                f"{path.parent}; free some, or choose another OUTPUT_DIR",
            ) from error

    for backup in write_files({path: write}, replace=replace):
        logger.info("%s of an earlier run is backed up as %s", path, backup.name)


def _save(content: dict, path: Path) -> None:
    """torch.save that raises the system's error where writing fails, not torch's error about file positions."""

    class Handle:
        error: OSError | None = None

        def write(self, data: bytes) -> int:
            try:
                return handle.write(data)
            except OSError as error:
                self.error = error
                raise

        def flush(self) -> None:
            handle.flush()

    recorded = Handle()
    with path.open("wb") as handle:  # with a path, torch writes its name into the file: other bytes every time
        try:
            torch.save(content, recorded)  # type: ignore[arg-type]  # it calls write and flush alone
        except RuntimeError:
            if recorded.error is None:
                raise
            raise recorded.error from None


def check_is_file(path: str | Path) -> None:
    """Raises UserError where `path` does not exist or is a directory; the message lists checkpoints near it."""
    path = Path(path)
    if os.path.isdir(path):
        raise UserError(f"checkpoint {path}: is a directory; give a file in it{_files_in(path)}")
    if not os.path.exists(path):
        hint = _files_in(path.parent)
        raise UserError(f"checkpoint {path}: no such file{hint}; train first, or give the path of a downloaded one")


def check_checkpoint(path: str | Path) -> None:
    """Checks that a file is there, is a checkpoint and is whole, as far as `load_checkpoint` does before it reads it.

    Raises:
        UserError: it is not.
    """
    with _opened(Path(path)):
        pass


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    """The open file and its kind, a key of _READERS, after its checks."""
    check_is_file(path)
    with open_regular(path, max_bytes=MAX_BYTES) as handle:
        kind = kind_of(handle, str(path))
        if kind == "zip" and check_zip(handle, str(path)):
            kind = "torchscript"
        elif kind == "legacy":
            check_legacy(handle, str(path))
        yield handle, kind


def load_checkpoint(path: str | Path) -> dict:
    """Loads a checkpoint of torch.save or safetensors onto the CPU, without running code from it; of a TorchScript
    archive, its parameters.

    The checksums in a file of torch.save are verified first; safetensors and torch before 1.6 have none. Of classes, an
    argparse.Namespace is read, in which DINO, iBOT and MAE keep their settings: it holds values and does nothing.

    Args:
        path: file.

    Returns:
        The file's dict. This project's checkpoints have "model", perhaps "bridge", and "meta".

    Raises:
        UserError: no such file, no checkpoint, damaged, or it needs arbitrary unpickling.
    """
    path = Path(path)
    with _opened(path) as (handle, kind):
        try:
            content = _READERS[kind](handle, path)
        except Exception as error:  # damaged files make the readers raise almost anything
            raise UserError(_why_unreadable(path, error)) from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, expected a dict of tensors")
    return content


def _load_saved(handle: BinaryIO, path: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(handle, "cpu", weights_only=True)


_READERS: dict[str, Callable[[BinaryIO, Path], Any]] = {
    "zip": _load_saved,
    "legacy": _load_saved,
    "safetensors": lambda handle, path: load_file(path),
    "torchscript": lambda handle, path: read_torchscript(handle),
}


def _why_unreadable(path: Path, error: Exception) -> str:
    """The message for an error of torch.load or safetensors, without torch's advice to allow unpickling."""
    foreign = re.search(r"(?i)unsupported (?:global|class):?\s+(?:global\s+)?([^\s;]+)", str(error))
    if foreign is not None:
        return (
            f"checkpoint {path}: holds more than tensors and plain values ({foreign[1]}) and needs arbitrary "
            "unpickling, which is refused because it can run any code; where the file comes from, save its "
            "state_dict() with torch.save, and load that"
        )
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"checkpoint {path}: needs more memory than there is; its state_dict() alone may need less"
    reason = "" if isinstance(error, pickle.UnpicklingError) else (str(error).strip().splitlines() or [""])[0]
    return (
        f"checkpoint {path}: cannot be read ({reason or 'its list of names makes no sense'}); it is damaged or "
        "incomplete, fetch it anew"
    )


def _files_in(directory: Path) -> str:
    """The end of an error message: the checkpoints in a directory."""
    files = sorted(str(file) for file in directory.glob("*.pth") if file.is_file()) if directory.is_dir() else []
    more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
    return f"; {directory} holds {', '.join(files[:SHOWN_FILES])}{more}" if files else ""
