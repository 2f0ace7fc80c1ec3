"""Digests of a data set's images, recorded once and compared later: `python -m datasets check --deep`.

The record is a JSON file: the name of each image (`validation.seed_label`: its path below the data set's root, or its
absolute path) -> the sha256 sum of the file. A replaced image may keep its size and time, so neither is used.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from datasets.copy_format import SHA256
from datasets.readers.validation import seed_label
from utils.errors import UserError
from utils.files import MIB, read_json_object, write_files

RECORD = ".digests.json"  # in the data set's root; hidden, so that no reader lists it
FORMAT_VERSION = 1
MAX_RECORD = 1024 * MIB  # ten million images


@dataclass(frozen=True)
class Comparison:
    """Images compared with their record, by name.

    Attributes:
        file: the record.
        changed: recorded with another digest.
        gone: recorded, and the file no longer exists.
        added: not recorded before; they are now.
        num_same: number of images with the recorded digest.
    """

    file: Path
    changed: tuple[str, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]
    num_same: int


def compare_digests(root: str, digests: dict[str, str], *, file: Path | None = None, renew: bool = False) -> Comparison:
    """Compares images with their record, and adds those that it lacks.

    Args:
        root: of the data set.
        digests: path -> sha256 sum of each image.
        file: the record, created where it does not exist; None: RECORD in `root`.
        renew: discard what was recorded before.

    Raises:
        UserError: the record cannot be read, or written.
    """
    file = file or Path(root) / RECORD
    recorded = {} if renew or not os.path.lexists(file) else _read(file)
    here = {seed_label(path, root): digest for path, digest in digests.items()}
    gone = (name for name in recorded.keys() - here.keys() if not os.path.lexists(os.path.join(root, name)))
    comparison = Comparison(
        file=file,
        changed=tuple(sorted(name for name in recorded.keys() & here.keys() if recorded[name] != here[name])),
        gone=tuple(sorted(gone)),
        added=tuple(sorted(here.keys() - recorded.keys())),
        num_same=sum(recorded.get(name) == digest for name, digest in here.items()),
    )
    if comparison.added:
        _write(file, {**here, **recorded})
    return comparison


def _write(file: Path, files: dict[str, str]) -> None:
    text = json.dumps({"format_version": FORMAT_VERSION, "files": dict(sorted(files.items()))}, indent=0) + "\n"

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    try:
        write_files({file: write}, replace=True)
    except UserError as error:
        raise UserError(f"{error}. Give a place for the digests that can be written: --digests FILE") from error


def _read(file: Path) -> dict[str, str]:
    advice = "Find out what changed it, or record the digests again with --record"
    try:
        content = read_json_object(file, max_bytes=MAX_RECORD)
    except UserError as error:
        raise UserError(f"{error}. {advice}") from error
    files = content.get("files")
    if content.get("format_version") != FORMAT_VERSION or not isinstance(files, dict):
        raise UserError(f"{file}: not a record of digests from `python -m datasets check --deep`. {advice}")
    for name, digest in files.items():
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise UserError(f"{file}: {name[:200]!r} has {str(digest)[:200]!r}; expected its sha256 sum. {advice}")
    return files
