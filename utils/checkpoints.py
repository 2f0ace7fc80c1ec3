"""Reading and writing checkpoints: dicts of tensors and plain values, so that they load without unpickling code."""

import errno
import logging
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves, tree_map_only

from utils.errors import UserError
from utils.files import MIB, write_files

logger = logging.getLogger(__name__)

State = dict[str, torch.Tensor]

WRAPPERS = ("model", "state_dict", "model_state_dict", "net")  # keys under which projects keep the state dict
PREFIXES = ("module", "_orig_mod")  # what DataParallel and torch.compile put into names
SHOWN_FILES = 8  # in an error


def save_checkpoint(path: str | Path, states: dict[str, Any], meta: dict, *, replace: bool = False) -> None:
    """Writes {**states, "meta": meta} beside `path` and renames it; a file of an earlier run is kept under a number.

    Args:
        path: file.
        states: state dicts by part, "model" and perhaps "bridge".
        replace: an earlier file is one of this run, out of date, and goes.
        meta: plain values: stage, epoch, num_classes, num_cameras, num_views, dataset, seed, versions, config text.
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

    for kept in write_files({path: write}, replace=replace):
        logger.info("%s of an earlier run is kept as %s", path, kept.name)


def _save(content: dict, path: Path) -> None:
    """torch.save, which turns every error of writing into one about positions; here it is the system's own."""

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
    with path.open("wb") as handle:  # by its name, torch would put that into the file: other bytes every time
        try:
            torch.save(content, recorded)
        except RuntimeError:
            if recorded.error is None:
                raise
            raise recorded.error from None


def check_is_file(path: str | Path) -> None:
    """Raises UserError where `path` is no file; names the checkpoints near it."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"checkpoint {path}: is a directory; give a file in it{_files_in(path)}")
    if not path.is_file():
        hint = _files_in(path.parent)
        raise UserError(f"checkpoint {path}: no such file{hint}; train first, or give the path of a downloaded one")


def load_checkpoint(path: str | Path, *, check: bool = False) -> dict:
    """Reads a checkpoint, of torch.save or safetensors, onto the CPU without running code from it.

    Args:
        path: file.
        check: compare the check sums in it first, which torch.load does not; for files of our own.

    Returns:
        The file's dict: ours has "model", perhaps "bridge", and "meta".

    Raises:
        UserError: no such file, not a checkpoint, damaged, or one that would need arbitrary unpickling.
    """
    path = Path(path)
    check_is_file(path)
    try:
        if check and (broken := zipfile.ZipFile(path).testzip()) is not None:
            raise ValueError(f"the check sum of {broken} is wrong")
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"(?i)unsupported (?:global|class):?\s+(?:global\s+)?(\S+)", str(error))
        if foreign is None:
            raise UserError(
                f"checkpoint {path}: damaged, or no checkpoint at all; it begins with {path.read_bytes()[:16]!r}; "
                "fetch it anew"
            ) from error
        raise UserError(
            f"checkpoint {path}: holds more than tensors and plain values ({foreign[1]}) and needs arbitrary "
            "unpickling, which is refused because it can run any code; where the file comes from, save its "
            "state_dict() with torch.save, and load that"
        ) from error
    except Exception as error:  # whatever the bytes make torch.load run into
        reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f"checkpoint {path}: cannot be read ({reason}); it is damaged or incomplete, fetch it anew"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path}: holds a {type(content).__name__}, expected a dict of tensors")
    return content


def model_state(content: dict, path: str | Path) -> State:
    """The model's state dict in a checkpoint: bare, or wrapped under one of WRAPPERS; the prefixes that
    DataParallel and torch.compile give to names are removed.

    Raises:
        UserError: there are no tensors, or two of the same name.
    """
    while inner := next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None):
        content = inner
    state: State = {}
    for name, value in content.items():
        if isinstance(name, str) and isinstance(value, torch.Tensor):
            name = ".".join(part for part in name.split(".") if part not in PREFIXES)
            if name in state:
                raise UserError(f"checkpoint {path}: holds {name} twice, with and without {' or '.join(PREFIXES)}")
            state[name] = value
    if not state:
        raise UserError(
            f"checkpoint {path}: no tensors found; expected a state dict, bare or under {', '.join(WRAPPERS)}; found "
            f"{', '.join(map(str, list(content)[:8])) or 'nothing'}"
        )
    return state


def _files_in(directory: Path) -> str:
    """Checkpoints in a directory, for a message."""
    files = sorted(str(file) for file in directory.glob("*.pth") if file.is_file()) if directory.is_dir() else []
    more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
    return f"; {directory} holds {', '.join(files[:SHOWN_FILES])}{more}" if files else ""
