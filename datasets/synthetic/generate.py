"""Synthetic pedestrians on disk, in the layout and the file names of Market-1501, made on first use.

Each picture is a pure function of (seed, pid, camera, index). A set is written beside its place, its manifest.json
last, and renamed to it, so that a set that exists is a whole one. Difficulty: the constants of wardrobe.py (who),
scenes.py (cameras) and pictures.py (occlusion, framing); whoever turns one raises GENERATOR_VERSION.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2

from datasets.readers.market1501 import SPLIT_DIRECTORIES as DIRECTORIES
from datasets.synthetic.render import Shot, render_image
from utils.errors import UserError
from utils.listing import list_images
from utils.locks import lock

logger = logging.getLogger(__name__)

# Raised with every change that changes a picture: a set on disk that an older generator made is refused.
GENERATOR_VERSION = 1
NAME = "synthetic"
MANIFEST = "manifest.json"
# Distractors (pid 0) and junk (pid -1), as shares of the test pictures of known people.
DISTRACTOR_SHARE = 0.05
JUNK_SHARE = 0.02
# File names keep Market-1501's four digits of identity and one digit of camera.
MAX_IDENTITIES, MAX_CAMERAS = 9999, 9
CHUNK = 16


@dataclass(frozen=True)
class SyntheticSettings:
    """What to draw. The first half of the identities is for training, the rest for testing; pids count from 1."""

    num_identities: int = 100
    num_cameras: int = 6
    images_per_camera: int = 4
    seed: int = 1

    def __post_init__(self):
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
    """The directory ROOT/synthetic with the set of `settings`; it is made where it does not exist.

    Args:
        root: directory that holds the data sets.
        settings: what the set must hold; None: the defaults.

    Returns:
        ROOT/synthetic, with bounding_box_train, query, bounding_box_test and manifest.json.

    Raises:
        UserError: what exists there is not whole, or is another set, or the directory cannot be written.
    """
    return synthesize(Path(root) / NAME, settings or SyntheticSettings())


def synthesize(
    directory: str | os.PathLike, settings: SyntheticSettings, *, workers: int | None = None, force: bool = False
) -> Path:
    """Draws a set to `directory`, unless it is there already.

    Args:
        directory: the set's own directory, e.g. data/synthetic.
        settings: what to draw.
        workers: processes that draw; None: one per processor. The files do not depend on it.
        force: replace the set at `directory`, whole or not; never anything else than such a set.

    Returns:
        `directory`.

    Raises:
        UserError: as for `ensure_synthetic`, or with `force`, `directory` holds more than a set made here.
    """
    directory = Path(directory)
    if directory.exists() and not force:  # on a disk that cannot be written, too
        check_synthetic(directory, settings)
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        other = f"another process that builds the synthetic set {directory}"
        with lock(directory.with_name(f".{directory.name}.lock"), wait_for=other) as held:
            if held:
                _clear_leftovers(directory)
            return _build(directory, settings, workers, force=force)
    except OSError as error:
        raise UserError(
            f"cannot write the synthetic set to {directory}: {error}. Nothing was left half written there; "
            "make the directory writable, free some space, or choose another DATASETS.ROOT_DIR"
        ) from error
    except BrokenProcessPool as error:
        raise UserError(
            f"a process that drew the synthetic set for {directory} was killed, perhaps for lack of memory; "
            "run `python -m datasets synthesize` with fewer workers"
        ) from error


def _build(directory: Path, settings: SyntheticSettings, workers: int | None, *, force: bool) -> Path:
    """Writes a set beside `directory` and renames it, unless another process has made it meanwhile."""
    if directory.exists():
        if not force:
            return _use_made_meanwhile(directory, settings)
        _refuse_foreign(directory)
    beside = directory.with_name(f".{directory.name}-{secrets.token_hex(8)}.partial")
    replaced = beside.with_suffix(".old")
    started = time.perf_counter()
    try:
        counts = _write_set(beside, settings, workers)
        if force and directory.exists():
            directory.rename(replaced)
        try:
            beside.rename(directory)
        except OSError:  # without a lock, another process may have been faster
            if not directory.exists():
                raise
            return _use_made_meanwhile(directory, settings)
    finally:
        if replaced.exists() and not directory.exists():
            replaced.rename(directory)
        for leftover in (beside, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
    logger.info("made %s: %d pictures in %.1f s", directory, sum(counts.values()), time.perf_counter() - started)
    return directory


def _use_made_meanwhile(directory: Path, settings: SyntheticSettings) -> Path:
    check_synthetic(directory, settings)
    logger.info("using %s, which another process made meanwhile", directory)
    return directory


def settings_of(directory: Path) -> SyntheticSettings | None:
    """What the set in `directory` was drawn with; None where there is none that tells."""
    try:
        return SyntheticSettings(**json.loads((directory / MANIFEST).read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_synthetic(directory: Path, settings: SyntheticSettings) -> None:
    """Raises UserError unless `directory` holds a whole set, made by this generator with these settings."""
    expected = _describe(settings)
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        found_made = {"generator_version": manifest["generator_version"], **manifest["settings"]}
        counts = dict(manifest["counts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{directory} exists, but its {MANIFEST} cannot be read ({type(error).__name__}: {error}): it is no whole "
            "synthetic set. It was left as it is; delete it, or replace it with "
            f"`python -m datasets synthesize --force --out {directory}`"
        ) from error
    differences = [
        f"{key} is {found_made.get(key)}, asked for {expected.get(key)}"
        for key in sorted({*found_made, *expected})
        if found_made.get(key) != expected.get(key)
    ]
    if differences:
        raise UserError(
            f"{directory} holds another synthetic set: {'; '.join(differences)}. It was left as it is; replace it with "
            f"`python -m datasets synthesize --force --out {directory}`, read it as it is with DATASETS.CHECK_COUNTS "
            "False, or choose another DATASETS.ROOT_DIR"
        )
    found = {name: len(_list_jpegs(directory / name)) for name in DIRECTORIES.values()}
    if found != counts:
        raise UserError(
            f"{directory} is not whole: found {found} pictures, its {MANIFEST} says {counts}. It was left as it is; "
            f"delete it, or replace it with `python -m datasets synthesize --force --out {directory}`"
        )


def _list_jpegs(directory: Path) -> list[str]:
    """Those of a set; what cannot be listed is missing."""
    return list(list_images(directory, lambda error: None, suffixes=(".jpg",), recursive=False))


def list_shots(settings: SyntheticSettings) -> list[tuple[str, Shot]]:
    """Every picture of a set with its path below the set's directory."""
    cameras, per_camera = range(settings.num_cameras), range(settings.images_per_camera)
    train_pids = settings.num_identities // 2
    shots = []
    for pid in range(1, settings.num_identities + 1):
        for camera in cameras:
            for index in per_camera:
                split = "train" if pid <= train_pids else "query" if index == 0 else "gallery"
                shots.append((split, Shot(pid, camera, index)))
    known = sum(split == "gallery" for split, _ in shots)
    for pid, share in ((0, DISTRACTOR_SHARE), (-1, JUNK_SHARE)):
        count = max(1, round(share * known))
        shots += [("gallery", Shot(pid, index % settings.num_cameras, index)) for index in range(count)]
    return [(f"{DIRECTORIES[split]}/{_file_name(shot)}", shot) for split, shot in shots]


def _file_name(shot: Shot) -> str:
    """Market-1501's pattern: identity, camera and sequence, frame, number of the box."""
    pid = f"{shot.pid:04d}" if shot.pid >= 0 else str(shot.pid)
    frame = (601 * max(shot.pid, 0) + 97 * shot.camera + 25 * shot.index) % 10**6
    return f"{pid}_c{shot.camera + 1}s{1 + max(shot.pid, 0) % 3}_{frame:06d}_01.jpg"


def _describe(settings: SyntheticSettings) -> dict:
    return {"generator_version": GENERATOR_VERSION, **asdict(settings)}


def _write_set(directory: Path, settings: SyntheticSettings, workers: int | None) -> dict[str, int]:
    """Writes every picture and then the manifest; returns the number of pictures per folder."""
    listed = list_shots(settings)
    directory.mkdir()
    for name in DIRECTORIES.values():
        (directory / name).mkdir()
    digest = hashlib.sha256()
    for (path, _), data in zip(listed, _draw_all([shot for _, shot in listed], settings.seed, workers), strict=True):
        (directory / path).write_bytes(data)
        digest.update(f"{path}\0{hashlib.sha256(data).hexdigest()}\n".encode())
    counts = dict(Counter(path.split("/")[0] for path, _ in listed))
    manifest = {
        "generator_version": GENERATOR_VERSION,
        "settings": asdict(settings),
        "counts": counts,
        "sha256": digest.hexdigest(),
    }
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return counts


def _draw_all(shots: list[Shot], seed: int, workers: int | None) -> Iterator[bytes]:
    """The pictures of `shots` in their order."""
    draw = partial(render_image, seed)
    workers = min(workers or os.cpu_count() or 1, -(-len(shots) // CHUNK))
    if workers == 1:
        yield from map(draw, shots)
        return
    with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
        yield from pool.map(draw, shots, chunksize=CHUNK)


def _start_worker() -> None:
    """Keeps OpenCV to the worker's own thread, and ends the worker when the process that started it is killed."""
    cv2.setNumThreads(0)
    parent = multiprocessing.parent_process()

    def follow():
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _refuse_foreign(directory: Path) -> None:
    """Raises UserError if `directory` holds anything that a set does not."""
    foreign = sorted({path.name for path in directory.iterdir()} - {MANIFEST, *DIRECTORIES.values()})
    if foreign:
        raise UserError(
            f"{directory} was not replaced: it holds {', '.join(foreign[:3])}, which is no part of a synthetic set. "
            "Move it away, or choose another directory"
        )


def _clear_leftovers(directory: Path) -> None:
    """Removes what killed builds left beside `directory`, for a process that holds its lock; earlier versions put a
    process id into the name."""
    for path in directory.parent.glob(f".{directory.name}-*"):
        if re.fullmatch(rf"\.{re.escape(directory.name)}-([0-9a-f]{{16}}|\d+)\.(partial|old)", path.name):
            logger.info("removing %s, left by a build that did not end", path)
            shutil.rmtree(path, ignore_errors=True)
