"""Makes a corrupted copy of a data set: `python -m corruption export`. copy_format.py describes the copy.

An image is corrupted as testing on the fly does with the same seed, types, severities and repeat. Every file is written
beside its place and renamed, so an existing file is complete, and the manifest comes last. The bytes do not depend on
the number of processes, nor on whether an export was interrupted and run again.
"""

import importlib.metadata
import io
import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from PIL import Image

from corruption import CorruptionPolicy, apply_condition, test_generator
from datasets.copy_format import (
    CORRUPTED_SPLITS,
    MANIFEST,
    SETTINGS,
    SPLIT_OF,
    list_copied_images,
    read_if_exists,
    read_manifest,
    sha256,
)
from utils.errors import UserError
from utils.files import MIB, read_bytes, read_json_object, remove_leftovers, written_beside
from utils.image_listing import is_machine_made
from utils.images import MAX_BYTES, read_image
from utils.locks import LOCK, lock
from utils.progress import ProgressBar
from utils.structures import Condition
from utils.workers import worker_pool

RESUME_ADVICE = "run the same command again with fewer --workers: it resumes where it stopped"
# Raised with every change that changes an image or a file: a copy that another version began is not resumed.
FORMAT_VERSION = 1
MAX_SETTINGS = MIB  # of export.json
# A third of the time of zlib's usual level, 6, and files of the same size.
PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
# What decodes, corrupts and encodes beside OpenCV: another version may round a value differently.
PACKAGES = ("numpy", "scipy", "scikit-image", "pillow", "imagecorruptions")


@dataclass(frozen=True)
class Export:
    """What a copy is made of and how: `data` is copied to `out`, `repeat` is the index of the repeat, from 0."""

    data: Path
    out: Path
    policy: CorruptionPolicy
    seed: int = 0
    repeat: int = 0


class CopiedFile(NamedTuple):
    """A file of the copy: `source` and `target` are relative to the two data sets, with forward slashes."""

    split: str
    source: str
    target: str
    expected: str = ""  # its sha256 sum, where that is known before it is made


class ExportReport(NamedTuple):
    """Images of the whole copy by split, and how many files this run wrote; the others existed."""

    images: dict[str, int]
    num_written: int


def export_copy(export: Export, *, workers: int | None = None) -> ExportReport:
    """Makes a copy, resumes an interrupted one, or checks a complete one and repairs it.

    Args:
        export: what to make.
        workers: processes; None: one per processor. The files do not depend on it.

    Raises:
        UserError: no data set in `export.data`, other content in `export.out`, an image that cannot be read, a file
            that cannot be written. Existing files stay, and the same call resumes.
    """
    data, out = export.data, export.out
    _check_places(data, out)
    files = _list_files(data)
    # 0, not 1 thread: with 1, OpenCV would wait for threads that the parent had and a forked worker has not
    with worker_pool(workers, len(files), init=partial(cv2.setNumThreads, 0), advice=RESUME_ADVICE) as pool:
        sources = [data / file.source for file in files]
        sums = list(ProgressBar("reading", len(files), pool.map(_sha256_of_source, sources)))
        settings = _describe(export, files, sums)
        _make_directory(out)
        targets = [file.target for file in files]
        _find_earlier(out, settings, targets)  # other content gets no lock file either
        with lock(out / LOCK, wait_for=f"another process that exports to {out}") as held:
            manifest = _find_earlier(out, settings, targets)
            if manifest is not None:
                settings["versions"] = manifest["versions"]
            for directory in (out, *(out / folder for folder in SPLIT_OF)) if held else ():
                remove_leftovers(directory)
            if not (out / SETTINGS).exists():
                _write(out / SETTINGS, _to_json(settings))
            for folder in {file.target.split("/")[0] for file in files}:
                _make_directory(out / folder)
            known = {} if manifest is None else manifest["files"]
            files = [
                file._replace(expected=known.get(file.target, digest if file.split == "train" else ""))
                for file, digest in zip(files, sums, strict=True)
            ]
            make = partial(_make_file, export, settings["versions"])
            made = list(ProgressBar("exporting", len(files), pool.map(make, files)))
            if manifest is None:
                listed = {file.target: digest for file, (digest, _) in zip(files, made, strict=True)}
                _write(out / MANIFEST, _to_json({**settings, "files": dict(sorted(listed.items()))}))
    return ExportReport(settings["pictures"], sum(written for _, written in made))


def _check_places(data: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file; expected a directory, one that is empty or does not exist")
    if (data / SETTINGS).exists():
        raise UserError(f"--data {data} is a corrupted copy already (it holds {SETTINGS}); give the original")
    source, copy = data.resolve(), out.resolve()
    if copy == source or source in copy.parents or copy in source.parents:
        raise UserError(
            f"--out {out} and --data {data}: one lies in the other; expected a directory of its own for the copy, "
            f"e.g. --out {source.with_name(source.name + '-C')}"
        )


def _list_files(data: Path) -> list[CopiedFile]:
    """The files of the copy.

    Raises:
        UserError: no images to corrupt, or two of them for one place.
    """
    files: dict[str, CopiedFile] = {}
    for source in list_copied_images(data):
        split = SPLIT_OF[source.split("/")[0]]
        target = f"{source.rpartition('.')[0]}.png" if split in CORRUPTED_SPLITS else source
        if target in files:
            raise UserError(
                f"--data {data}: {files[target].source} and {source} would both become {target}; rename or remove one"
            )
        files[target] = CopiedFile(split, source, target)
    present = {file.split for file in files.values()}
    for folder, split in SPLIT_OF.items():
        if split in CORRUPTED_SPLITS and split not in present:
            found = "holds no images" if (data / folder).is_dir() else "does not exist"
            raise UserError(
                f"--data {data}: {data / folder} {found}; expected a data set in Market-1501's layout: query/, "
                "bounding_box_test/ and, optionally, bounding_box_train/, with .jpg or .png images (of VeRi-776: "
                "image_query/, image_test/, image_train/)"
            )
    return list(files.values())


def _versions() -> dict[str, str]:
    return {"opencv": cv2.__version__, **{package: importlib.metadata.version(package) for package in PACKAGES}}


def _describe(export: Export, files: list[CopiedFile], sums: list[str]) -> dict[str, Any]:
    """The content of export.json: nothing of the machine or the time, so that equal copies have equal files."""
    sources = "".join(f"{file.source}\0{digest}\n" for file, digest in zip(files, sums, strict=True))
    return {
        "format_version": FORMAT_VERSION,
        "source": os.path.basename(os.path.abspath(export.data)),
        "pictures": dict(Counter(file.split for file in files)),
        "source_sha256": sha256(sources.encode("utf-8", "surrogateescape")),
        "seed": export.seed,
        "repeat": export.repeat,
        "corruptions": list(export.policy.names),
        "severities": list(export.policy.severities),
        "backend": export.policy.backend,
        "versions": _versions(),
    }


def _find_earlier(out: Path, settings: dict[str, Any], targets: list[str]) -> dict[str, Any] | None:
    """The manifest of the complete copy in `out`; None where it is empty or holds an interrupted export.

    Raises:
        UserError: `out` holds other content.
    """
    entries = sorted(path.name for path in out.iterdir() if not is_machine_made(path.name))  # partial files are hidden
    if not entries:
        return None
    manifest = _load_whole_manifest(out, targets)
    if manifest is None:  # an interrupted export is resumed by the same versions only
        found = _read_settings(out, entries)
    else:
        found = {key: value for key, value in manifest.items() if key != "files"}
        settings = {**settings, "versions": found.get("versions")}
    if found != settings:
        raise UserError(
            f"--out {out} holds another export: {_name_differences(found, settings)}. Nothing was changed; choose "
            "another directory, or delete this one first"
        )
    foreign = sorted(set(list_copied_images(out)) - set(targets))
    if foreign:
        raise UserError(
            f"--out {out} holds {foreign[0]}, which is no image of this export ({len(foreign)} such). Nothing was "
            "changed; remove what does not belong there, or choose another directory"
        )
    return manifest


def _load_whole_manifest(out: Path, targets: list[str]) -> dict[str, Any] | None:
    """The manifest in `out`; None where it is missing or damaged, and is to be written again."""
    try:
        manifest = read_manifest(out)
    except UserError:
        return None
    is_whole = manifest["files"].keys() == set(targets) and isinstance(manifest.get("versions"), dict)
    return manifest if is_whole else None


def _read_settings(out: Path, entries: list[str]) -> dict[str, Any]:
    try:
        return read_json_object(out / SETTINGS, max_bytes=MAX_SETTINGS)
    except UserError as error:
        raise UserError(
            f"--out {out} does not hold an export: it holds {', '.join(entries[:3])}, and no {SETTINGS} that can be "
            "read. Nothing was changed; choose another directory, one that is empty or does not exist"
        ) from error


def _name_differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    return "; ".join(
        "its source images were others (some added, removed or changed since)"
        if key == "source_sha256"
        else f"{key} is {str(found.get(key))[:200]} there, {str(expected.get(key))[:200]} here"
        for key in sorted({*found, *expected})
        if found.get(key) != expected.get(key)
    )


def _make_file(export: Export, versions: dict[str, str], file: CopiedFile) -> tuple[str, bool]:
    """Makes one file unless it exists; its sha256 sum, and whether it was written."""
    path = export.out / file.target
    existing = read_if_exists(path)
    if existing is not None:
        digest = sha256(existing)
        if digest == file.expected if file.expected else _is_whole_png(existing):
            return digest, False
    source = export.data / file.source
    content = _read(source) if file.split == "train" else _corrupt(export, file)
    digest = sha256(content)
    if file.expected not in ("", digest):
        raise UserError(
            f"{path}: missing or damaged, and what {source} gives now has another sha256 sum than before: "
            f"{_name_differences(versions, _versions()) or 'the source has changed'}. Nothing was written; continue "
            "with the versions and the images that the copy was made with, or export to another directory"
        )
    _write(path, content)
    return digest, True


def _corrupt(export: Export, file: CopiedFile) -> bytes:
    """The corrupted image as PNG, as TestImages corrupts it on the fly."""
    rng = test_generator(export.seed, file.split, file.source, export.repeat)
    image = apply_condition(read_image(export.data / file.source), Condition("random"), export.policy, rng)
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), PNG_OPTIONS)[1].tobytes()


def _is_whole_png(content: bytes) -> bool:
    """Whether the checksums inside a PNG hold: a power cut may leave a renamed file without its content."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, max_bytes=MAX_BYTES)
    except UserError as error:
        raise UserError(f"image {error}; repair it or download it again") from error


def _sha256_of_source(path: Path) -> str:
    return sha256(_read(path))


def _to_json(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    try:
        with written_beside(path) as beside:
            beside.write_bytes(content)
            os.replace(beside, path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be written ({error.strerror}). The copy is not complete; free some space or change the "
        "permissions, and run the same command again: it resumes where it stopped"
    )
