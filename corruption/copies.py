"""What a corrupted copy of a data set looks like on disk, and how one is read and checked.

    export.json           written first: what the copy is made of and how
    query/                corrupted, as lossless PNG
    bounding_box_test/    corrupted, as lossless PNG
    bounding_box_train/   as it is, where the source has it
    manifest.json         written last: the same as export.json, and the sha256 sum of every file

The directories are those of Market-1501. A copy is complete once it has its manifest.
"""

import hashlib
import json
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.files import read_bytes
from utils.images import MAX_BYTES

SETTINGS, MANIFEST = "export.json", "manifest.json"
SPLITS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
CORRUPTED_SPLITS = ("query", "gallery")
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def list_pictures(directory: Path) -> list[str]:
    """Pictures in the directories of Market-1501's layout, relative to `directory`, with forward slashes."""
    return [
        f"{folder}/{path.name}"
        for folder in SPLITS
        if (directory / folder).is_dir()
        for path in sorted((directory / folder).iterdir())
        if path.suffix.lower() in PICTURE_SUFFIXES
    ]


def read_manifest(directory: Path) -> dict:
    """The manifest of the copy in `directory`; "files" has the sha256 sum of every file.

    Raises:
        UserError: there is none, so the copy is not complete, or it cannot be read.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{directory}: the copy is not complete, it has no {MANIFEST}, which is written last; "
            "run the same export command (python -m corruption export) again: it goes on where it stopped"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); run the same export command again: it writes it anew"
        ) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise UserError(f"{path}: not the manifest of a copy made by python -m corruption export")
    return manifest


def check_files(directory: Path) -> None:
    """Raises UserError unless the copy in `directory` is complete and holds the pictures of its manifest, no others."""
    listed, found = set(read_manifest(directory)["files"]), set(list_pictures(directory))
    missing, foreign = sorted(listed - found), sorted(found - listed)
    if missing:
        raise UserError(
            f"{directory}: {missing[0]} is missing ({len(missing)} of the {len(listed)} files of {MANIFEST} are); "
            "run the same export command again: it makes what is missing"
        )
    if foreign:
        raise UserError(
            f"{directory}: {foreign[0]} is not in {MANIFEST} ({len(foreign)} such); remove what is no part of the copy"
        )


def find_damaged(directory: Path) -> list[str]:
    """Files of the copy in `directory` that are missing, or have another sha256 sum than its manifest says."""
    progress = tqdm(read_manifest(directory)["files"].items(), "sha256", leave=False, disable=None)
    return [name for name, expected in progress if sha256(read_if_there(directory / name)) != expected]


def read_if_there(path: Path) -> bytes | None:
    """The content of a file, None where there is none to be read."""
    try:
        return read_bytes(path, max_bytes=MAX_BYTES)
    except UserError:
        return None


def sha256(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
