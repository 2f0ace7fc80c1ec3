"""The format of a corrupted copy on disk, and its checks.

    export.json           written first: what the copy is made of and how
    query/                corrupted, as lossless PNG
    bounding_box_test/    corrupted, as lossless PNG
    bounding_box_train/   unchanged, where the source has it
    manifest.json         written last: the same as export.json, and the sha256 sum of every file

The directories are those of Market-1501, or of VeRi-776. A copy is complete once it has its manifest.
"""

import hashlib
import re
from pathlib import Path

from datasets.readers.market_layout import IMAGE_SUFFIXES, SPLIT_DIRECTORIES, VERI_DIRECTORIES
from utils.errors import UserError
from utils.files import MIB, read_bytes, read_json_object
from utils.image_listing import is_machine_made, list_images
from utils.images import MAX_BYTES
from utils.progress import ProgressBar

SETTINGS, MANIFEST = "export.json", "manifest.json"
SPLIT_OF = {directory: split for layout in (SPLIT_DIRECTORIES, VERI_DIRECTORIES) for split, directory in layout.items()}
CORRUPTED_SPLITS = ("query", "gallery")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_MANIFEST = 512 * MIB  # a million files
RERUN = "run the same export command again"


def list_copied_images(directory: Path) -> list[str]:
    """Images in the directories of Market-1501's layout, relative to `directory`, with forward slashes.

    Raises:
        UserError: the name of an image that is no file.
    """

    def refuse(message: str) -> None:
        raise UserError(message)

    return [
        f"{folder}/{name}"
        for folder in SPLIT_OF
        if (directory / folder).is_dir()
        for name in list_images(directory / folder, refuse, suffixes=IMAGE_SUFFIXES, recursive=False)
    ]


def read_manifest(directory: Path) -> dict:
    """Reads the manifest of the copy in `directory`; "files" has the sha256 sum of every file.

    Raises:
        UserError: it is missing, so the copy is incomplete, or it cannot be read or has invalid entries.
    """
    path = directory / MANIFEST
    if not path.exists():
        raise UserError(
            f"{directory}: the copy is not complete, it has no {MANIFEST}, which is written last; {RERUN} "
            "(python -m corruption export): it resumes where it stopped"
        )
    try:
        manifest = read_json_object(path, max_bytes=MAX_MANIFEST)
    except UserError as error:
        raise UserError(f"{error}; {RERUN}: it writes a new one") from error
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise UserError(f"{path}: not the manifest of a copy made by python -m corruption export")
    wrong = next((item for item in files.items() if not _is_entry(*item)), None)
    if wrong is not None:
        raise UserError(
            f'{path}: {str(wrong)[:200]} in "files"; expected names like query/0001_c1s1_001051_00.png with their '
            f"sha256 sums; {RERUN}: it writes a new one"
        )
    return manifest


def _is_entry(name: str, digest: object) -> bool:
    """Whether an entry of a manifest is a file of the copy, and nothing outside of it, with a sha256 sum."""
    folder, _, file = name.partition("/")
    is_inside = folder in SPLIT_OF and file not in ("", ".", "..") and not {"/", "\0"} & set(file)
    return is_inside and isinstance(digest, str) and SHA256.fullmatch(digest) is not None


def check_files(directory: Path) -> None:
    """Raises UserError unless the copy in `directory` is complete and holds the images of its manifest, no others."""
    found = set(list_copied_images(directory))
    # Exports of earlier versions copied machine-made files, which are skipped now.
    listed = {name for name in read_manifest(directory)["files"] if not is_machine_made(name.rpartition("/")[2])}
    missing, foreign = sorted(listed - found), sorted(found - listed)
    if missing:
        raise UserError(
            f"{directory}: {missing[0]} is missing ({len(missing)} of the {len(listed)} files of {MANIFEST} are); "
            f"{RERUN}: it makes what is missing"
        )
    if foreign:
        raise UserError(
            f"{directory}: {foreign[0]} is not in {MANIFEST} ({len(foreign)} such); remove what is no part of the copy"
        )


def find_damaged(directory: Path) -> list[str]:
    """Files of the copy in `directory` that are missing, or have another sha256 sum than its manifest says."""
    progress = ProgressBar("sha256", iterable=read_manifest(directory)["files"].items())
    return [name for name, expected in progress if sha256(read_if_exists(directory / name)) != expected]


def read_if_exists(path: Path) -> bytes | None:
    """The content of a file, None where there is no regular file that can be read."""
    try:
        return read_bytes(path, max_bytes=MAX_BYTES)
    except UserError:
        return None


def sha256(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()
