"""What a corrupted copy of a data set looks like on disk, and how one is read and checked.

    export.json           written first: what the copy is made of and how
    query/                corrupted, as lossless PNG
    bounding_box_test/    corrupted, as lossless PNG
    bounding_box_train/   as it is, where the source has it
    manifest.json         written last: the same as export.json, and the sha256 sum of every file

The directories are those of Market-1501. A copy is complete once it has its manifest.
"""

import hashlib
import re
from pathlib import Path

from tqdm import tqdm

from utils.errors import UserError
from utils.files import MIB, read_bytes
from utils.images import MAX_BYTES
from utils.json_files import read_json_object
from utils.listing import is_machine_made, list_images

SETTINGS, MANIFEST = "export.json", "manifest.json"
SPLITS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
CORRUPTED_SPLITS = ("query", "gallery")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_MANIFEST = 512 * MIB  # a million files
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png"}


def list_pictures(directory: Path) -> list[str]:
    """Pictures in the directories of Market-1501's layout, relative to `directory`, with forward slashes.

    Raises:
        UserError: the name of an image that is no file.
    """

    def refuse(message: str) -> None:
        raise UserError(message)

    return [
        f"{folder}/{name}"
        for folder in SPLITS
        if (directory / folder).is_dir()
        for name in list_images(directory / folder, refuse, suffixes=IMAGE_SUFFIXES, recursive=False)
    ]


def read_manifest(directory: Path) -> dict:
    """The manifest of the copy in `directory`; "files" has the sha256 sum of every file.

    Raises:
        UserError: there is none, so the copy is not complete, or it cannot be read or has entries of other kinds.
    """
    path = directory / MANIFEST
    if not path.exists():
        raise UserError(
            f"{directory}: the copy is not complete, it has no {MANIFEST}, which is written last; "
            "run the same export command (python -m corruption export) again: it goes on where it stopped"
        )
    try:
        manifest = read_json_object(path, max_bytes=MAX_MANIFEST)
    except UserError as error:
        raise UserError(f"{error}; run the same export command again: it writes it anew") from error
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{path}: not the manifest of a copy made by python -m corruption export")
    wrong = next((item for item in files.items() if not _is_entry(*item)), None)
    if wrong is not None:
        raise UserError(
            f"{path}: {str(wrong)[:200]} in \"files\"; expected names like query/0001_c1s1_001051_00.png with their "
            "sha256 sums; run the same export command again: it writes it anew"
        )
    return manifest


def _is_entry(name: str, digest: object) -> bool:
    """Whether an entry of a manifest is a file of the copy, and nothing outside of it, with a sha256 sum."""
    folder, _, file = name.partition("/")
    return (
        folder in SPLITS
        and file not in ("", ".", "..")
        and not {"/", "\0"} & set(file)
        and isinstance(digest, str)
        and SHA256.fullmatch(digest) is not None
    )


def check_files(directory: Path) -> None:
    """Raises UserError unless the copy in `directory` is complete and holds the pictures of its manifest, no others."""
    found = set(list_pictures(directory))
    # Exports of earlier versions copied what is passed over now.
    listed = {name for name in read_manifest(directory)["files"] if not is_machine_made(name.rpartition("/")[2])}
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
    """The content of a file, None where there is no regular file to be read."""
    try:
        return read_bytes(path, max_bytes=MAX_BYTES)
    except UserError:
        return None


def sha256(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
