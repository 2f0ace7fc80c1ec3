"""Writes the synthetic set to disk, in the layout and with the file names of Market-1501.

Each image is a pure function of (seed, pid, camera, index). A set is written to a temporary directory, its
manifest.json last, and renamed, so a set that exists is complete. How hard the set is depends on the constants of
appearance.py (what tells identities apart), camera.py (domain shift) and render.py (occlusion, framing); a change of
one needs a new GENERATOR_VERSION.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2

from datasets.made_sets import place_to_make
from datasets.readers.locate import explain_missing
from datasets.readers.market1501 import SPLIT_DIRECTORIES as DIRECTORIES
from datasets.synthetic.render import Shot, render_image
from utils.errors import UserError
from utils.image_listing import list_images
from utils.locks import lock
from utils.workers import worker_pool

logger = logging.getLogger(__name__)

# Raised with every change of an image: a set of an older generator is refused.
GENERATOR_VERSION = 1
NAME = "synthetic"
DEFAULT_ROOT = "data"  # of DATASETS.ROOT_DIR
MANIFEST = "manifest.json"
# Distractors (pid 0) and junk (pid -1), as fractions of the gallery images of known identities.
DISTRACTOR_FRACTION = 0.05
JUNK_FRACTION = 0.02
# File names keep Market-1501's four digits of identity and one digit of camera.
MAX_IDENTITIES, MAX_CAMERAS = 9999, 9
FEWER_WORKERS = "run `python -m datasets synthesize` with fewer --workers"


@dataclass(frozen=True)
class SyntheticSettings:
    """Size and seed of a set. Half of the identities, from pid 1, are for training, the rest for testing."""

    num_identities: int = 100
    num_cameras: int = 6
    images_per_camera: int = 4
    seed: int = 1

    def __post_init__(self) -> None:
        bounds = {
            "num_identities": (2, MAX_IDENTITIES),
            "num_cameras": (2, MAX_CAMERAS),
            "images_per_camera": (2, 1000),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UserError(f"synthetic set: {name} is {value}, expected {low} to {high}")


def ensure_synthetic(root: str | os.PathLike, *, settings: SyntheticSettings | None = None) -> Path:
    """Returns the directory with the set of `settings`, see `place_of`, and synthesizes the set if it does not exist.

    Args:
        root: directory of the data sets.
        settings: of the set; None: the defaults.

    Returns:
        The directory, with bounding_box_train, query, bounding_box_test and manifest.json; a temporary one for a set
        that does not exist, within `temporary_sets`.

    Raises:
        UserError: the set is incomplete, has other settings, or cannot be written.
    """
    place = place_of(root)
    if not place.exists():
        if not os.path.isdir(root) and os.path.abspath(root) != os.path.abspath(DEFAULT_ROOT):
            logger.warning("DATASETS.ROOT_DIR: %s. The set %s is rendered there", explain_missing(Path(root)), NAME)
        place = place_to_make(place)
    return synthesize(place, settings or SyntheticSettings())


def place_of(root: str | os.PathLike) -> Path:
    """Where the synthetic set below `root` is, or will be: `root` itself if that holds one, else ROOT/synthetic."""
    return Path(root) if settings_of(Path(root)) else Path(root) / NAME


def synthesize(
    directory: str | os.PathLike, settings: SyntheticSettings, *, workers: int | None = None, force: bool = False
) -> Path:
    """Writes a set to `directory`, unless it is there already.

    Args:
        directory: the set's own directory, e.g. data/synthetic.
        settings: of the set.
        workers: processes that render; None: one per processor. The files do not depend on it.
        force: replace the set at `directory`, complete or not; a directory with other files is never replaced.

    Returns:
        `directory`.

    Raises:
        UserError: as for `ensure_synthetic`; with `force`, `directory` holds other files; or a worker was killed.
    """
    directory = Path(directory)
    if directory.exists() and not force:  # needs no lock, so a read-only disk will do
        check_synthetic(directory, settings)
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        other = f"another process that synthesizes {directory}"
        with lock(directory.with_name(f".{directory.name}.lock"), wait_for=other) as held:
            if held:
                _remove_leftovers(directory)
            return _synthesize(directory, settings, workers, force=force)
    except OSError as error:
        raise UserError(
            f"cannot write the synthetic set to {directory}: {error}. No incomplete set was left there; "
            "make the directory writable, free some space, or choose another DATASETS.ROOT_DIR"
        ) from error


def _synthesize(directory: Path, settings: SyntheticSettings, workers: int | None, *, force: bool) -> Path:
    """Writes a set to a temporary directory and renames it, unless another process was faster."""
    if directory.exists():
        if not force:
            return _use_existing(directory, settings)
        _refuse_foreign(directory)
    partial_set = directory.with_name(f".{directory.name}-{secrets.token_hex(8)}.partial")
    replaced = partial_set.with_suffix(".old")
    started = time.perf_counter()
    logger.info("rendering %d identities to %s", settings.num_identities, directory)
    try:
        counts = _write_set(partial_set, settings, workers)
        if force and directory.exists():
            directory.rename(replaced)
        try:
            partial_set.rename(directory)
        except OSError:  # where locks do not work, another process may have been faster
            if not directory.exists():
                raise
            return _use_existing(directory, settings)
    finally:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)
        for leftover in (partial_set, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
    logger.info("synthesized %s: %d images in %.1f s", directory, sum(counts.values()), time.perf_counter() - started)
    return directory


def _use_existing(directory: Path, settings: SyntheticSettings) -> Path:
    check_synthetic(directory, settings)
    logger.info("using %s, which another process has synthesized", directory)
    return directory


def settings_of(directory: Path) -> SyntheticSettings | None:
    """The settings of the set in `directory`; None if there is no readable manifest."""
    try:
        return SyntheticSettings(**json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_synthetic(directory: Path, settings: SyntheticSettings) -> None:
    """Raises UserError unless `directory` holds a complete set of this generator and these settings."""
    expected = {"generator_version": GENERATOR_VERSION, **asdict(settings)}
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        found = {"generator_version": manifest["generator_version"], **manifest["settings"]}
        counts = dict(manifest["counts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{directory} exists, but its {MANIFEST} cannot be read ({type(error).__name__}: {error}): it is no "
            "complete synthetic set. It was left as it is; delete it, or replace it with "
            f"`python -m datasets synthesize --force --out {directory}`"
        ) from error
    differences = [
        f"{key} is {found.get(key)}, expected {expected.get(key)}"
        for key in sorted({*found, *expected})
        if found.get(key) != expected.get(key)
    ]
    if differences:
        raise UserError(
            f"{directory} holds another synthetic set: {'; '.join(differences)}. It was left as it is; replace it with "
            f"`python -m datasets synthesize --force --out {directory}`, read it as it is with DATASETS.CHECK_COUNTS "
            "False, or choose another DATASETS.ROOT_DIR"
        )
    found_counts = {name: _count_jpegs(directory / name) for name in DIRECTORIES.values()}
    if found_counts != counts:
        raise UserError(
            f"{directory} is incomplete: found {found_counts} images, its {MANIFEST} says {counts}. It was left as it "
            f"is; delete it, or replace it with `python -m datasets synthesize --force --out {directory}`"
        )


def _count_jpegs(directory: Path) -> int:
    """Number of a set's images; what cannot be listed counts as missing."""
    return sum(1 for _ in list_images(directory, lambda error: None, suffixes=(".jpg",), recursive=False))


def list_shots(settings: SyntheticSettings) -> list[tuple[str, Shot]]:
    """All images of a set: path relative to its directory, and shot."""
    cameras, per_camera = range(settings.num_cameras), range(settings.images_per_camera)
    train_pids = settings.num_identities // 2
    shots = []
    for pid in range(1, settings.num_identities + 1):
        for camera in cameras:
            for index in per_camera:
                split = "train" if pid <= train_pids else "query" if index == 0 else "gallery"
                shots.append((split, Shot(pid, camera, index)))
    num_gallery = sum(split == "gallery" for split, _ in shots)
    for pid, fraction in ((0, DISTRACTOR_FRACTION), (-1, JUNK_FRACTION)):
        count = max(1, round(fraction * num_gallery))
        shots += [("gallery", Shot(pid, index % settings.num_cameras, index)) for index in range(count)]
    return [(f"{DIRECTORIES[split]}/{_file_name(shot)}", shot) for split, shot in shots]


def _file_name(shot: Shot) -> str:
    """Market-1501's pattern: identity, camera and sequence, frame, bounding box."""
    pid = f"{shot.pid:04d}" if shot.pid >= 0 else str(shot.pid)
    frame = (601 * max(shot.pid, 0) + 97 * shot.camera + 25 * shot.index) % 10**6
    return f"{pid}_c{shot.camera + 1}s{1 + max(shot.pid, 0) % 3}_{frame:06d}_01.jpg"


def _write_set(directory: Path, settings: SyntheticSettings, workers: int | None) -> dict[str, int]:
    """Writes all images and then the manifest; returns the number of images by folder."""
    shots = list_shots(settings)
    directory.mkdir()
    for name in DIRECTORIES.values():
        (directory / name).mkdir()
    digest = hashlib.sha256()
    # 0, not 1 thread: with 1, OpenCV would wait for threads that the parent had and a forked worker has not
    with worker_pool(workers, len(shots), init=partial(cv2.setNumThreads, 0), advice=FEWER_WORKERS) as pool:
        images = pool.map(partial(render_image, settings.seed), [shot for _, shot in shots])
        for (path, _), data in zip(shots, images, strict=True):
            (directory / path).write_bytes(data)
            digest.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    counts = dict(Counter(path.split("/")[0] for path, _ in shots))
    manifest = {
        "generator_version": GENERATOR_VERSION,
        "settings": asdict(settings),
        "counts": counts,
        "sha256": digest.hexdigest(),
    }
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return counts


def _refuse_foreign(directory: Path) -> None:
    """Raises UserError if `directory` holds anything that is not part of a set."""
    foreign = sorted({path.name for path in directory.iterdir()} - {MANIFEST, *DIRECTORIES.values()})
    if foreign:
        raise UserError(
            f"{directory} was not replaced: it holds {', '.join(foreign[:3])}, which is not part of a synthetic set. "
            "Move it away, or choose another directory"
        )


def _remove_leftovers(directory: Path) -> None:
    """Removes what killed runs left next to `directory`; call it with its lock held.

    Earlier versions put a process id into the name.
    """
    for path in directory.parent.glob(f".{directory.name}-*"):
        if re.fullmatch(rf"\.{re.escape(directory.name)}-([0-9a-f]{{16}}|\d+)\.(partial|old)", path.name):
            logger.info("removing %s, left by a killed run", path)
            shutil.rmtree(path, ignore_errors=True)
