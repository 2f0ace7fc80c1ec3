import hashlib
import json
import logging
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from config import get_defaults, load_cfg
from datasets import temporary_sets
from datasets.readers.file_errors import FileErrors
from datasets.readers.market1501 import read_market_layout
from datasets.readers.registry import read_dataset
from datasets.synthetic.generate import (
    DEFAULT_ROOT,
    GENERATOR_VERSION,
    SyntheticSettings,
    ensure_synthetic,
    list_shots,
    synthesize,
)
from datasets.synthetic.render import Shot, render_image
from tests.helpers import REPOSITORY
from utils.errors import UserError
from utils.images import read_image
from utils.metrics.evaluate import evaluate_features
from utils.structures import FeatureSet

SMALL = SyntheticSettings(num_identities=6, num_cameras=3, images_per_camera=2, seed=5)


def digests(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*.*"))
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return synthesize(tmp_path_factory.mktemp("small") / "synthetic", SMALL, workers=1)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    settings = SyntheticSettings(num_identities=60, images_per_camera=2)
    return synthesize(tmp_path_factory.mktemp("sixty") / "synthetic", settings)


@pytest.fixture
def copy(small, tmp_path):
    return shutil.copytree(small, tmp_path / "synthetic")


def test_layout_of_market1501(small):
    splits = read_market_layout(small, FileErrors(), name="synthetic")
    assert len(splits.train) == 3 * 3 * 2
    assert len(splits.query) == 3 * 3  # an image for each test identity and camera
    assert {r.pid for r in splits.train} == {1, 2, 3}
    assert {r.pid for r in splits.query} == {4, 5, 6}
    assert {r.pid for r in splits.gallery} == {0, 4, 5, 6}  # distractors; junk is dropped by the reader
    assert {r.camid for r in splits.gallery} == {0, 1, 2}
    assert any(path.name.startswith("-1_") for path in (small / "bounding_box_test").iterdir())
    image = read_image(splits.query[0].path)
    assert image.shape == (128, 64, 3)


def test_default_size():
    assert 1500 <= len(list_shots(SyntheticSettings())) <= 3000


def test_the_same_bytes_from_any_number_of_workers(small, tmp_path):
    assert digests(synthesize(tmp_path / "two", SMALL, workers=2)) == digests(small)


def test_another_seed_renders_other_images(small, tmp_path):
    other = digests(synthesize(tmp_path / "other", SyntheticSettings(6, 3, 2, seed=6), workers=1))
    own = digests(small)
    assert set(other) == set(own)
    assert not set(other.values()) & set(own.values())


def test_the_manifest_holds_settings_counts_and_digest(small):
    manifest = json.loads((small / "manifest.json").read_text())
    assert manifest["settings"] == {"num_identities": 6, "num_cameras": 3, "images_per_camera": 2, "seed": 5}
    assert manifest["counts"]["bounding_box_train"] == 18
    assert len(manifest["sha256"]) == 64


def test_a_complete_set_is_not_changed(copy):
    before = (copy / "manifest.json").stat().st_mtime_ns
    assert ensure_synthetic(copy.parent, settings=SMALL) == copy
    assert (copy / "manifest.json").stat().st_mtime_ns == before


def test_a_set_in_a_directory_of_another_name_is_read(copy):
    """NAME:DIRECTORY names it; another one below it is not rendered."""
    place = copy.rename(copy.parent / "held_out")
    opts = ["DATASETS.NAMES", "synthetic:held_out", "DATASETS.ROOT_DIR", str(place.parent)]
    splits = read_dataset(load_cfg(opts=[*opts, "DATASETS.CHECK_COUNTS", "False"]))
    assert {Path(record.path).parent.parent for record in splits.query} == {place}
    assert not (place / "synthetic").exists()
    assert ensure_synthetic(place, settings=SMALL) == place


def test_hidden_files_are_ignored(copy):
    for name in ("._0001_c1s1_000601_01.jpg", ".DS_Store"):
        (copy / "query" / name).touch()
    assert ensure_synthetic(copy.parent, settings=SMALL) == copy


def remove_manifest(directory):
    (directory / "manifest.json").unlink()


def remove_image(directory):
    next((directory / "query").iterdir()).unlink()


def damage_manifest(directory):
    (directory / "manifest.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_manifest, "manifest.json cannot be read"),
        (damage_manifest, "manifest.json cannot be read"),
        (remove_image, "is incomplete: found .*'query': 8.* says .*'query': 9"),
    ],
)
def test_an_incomplete_set_is_neither_used_nor_overwritten(copy, small, damage, message):
    damage(copy)
    before = digests(copy)
    with pytest.raises(UserError, match=message) as caught:
        ensure_synthetic(copy.parent, settings=SMALL)
    assert f"python -m datasets synthesize --force --out {copy}" in str(caught.value)
    assert digests(copy) == before
    assert digests(synthesize(copy, SMALL, workers=1, force=True)) == digests(small)


def test_other_settings_are_named(copy):
    with pytest.raises(UserError, match="holds another synthetic set: seed is 5, expected 9"):
        ensure_synthetic(copy.parent, settings=SyntheticSettings(6, 3, 2, seed=9))


def test_other_settings_are_read_without_check_counts(copy):
    opts = ["DATASETS.NAMES", "synthetic", "DATASETS.ROOT_DIR", str(copy.parent)]
    with pytest.raises(UserError, match="read it as it is with DATASETS.CHECK_COUNTS False"):
        read_dataset(load_cfg(opts=opts))
    assert len(read_dataset(load_cfg(opts=[*opts, "DATASETS.CHECK_COUNTS", "False"])).query) == 9


def test_force_replaces_no_other_files(copy):
    (copy / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"was not replaced: it holds thesis\.tex"):
        synthesize(copy, SMALL, force=True)


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the synthetic set"):
        ensure_synthetic(tmp_path / "file" / "data", settings=SMALL)


def test_a_root_that_may_be_misspelt_is_warned_of(small, tmp_path, monkeypatch, caplog):
    (tmp_path / "dat").mkdir()
    ensure_synthetic(tmp_path / "dat", settings=SMALL)
    assert get_defaults().DATASETS.ROOT_DIR == DEFAULT_ROOT
    monkeypatch.chdir(tmp_path)
    assert digests(ensure_synthetic(Path(DEFAULT_ROOT), settings=SMALL)) == digests(small)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert digests(ensure_synthetic(tmp_path / "dtaa", settings=SMALL)) == digests(small)
    (warning,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert re.match(rf"DATASETS.ROOT_DIR: {tmp_path}/dtaa does not exist; .*did you mean data\?", warning)
    assert warning.endswith("The set synthetic is rendered there")


def test_a_set_for_a_while(small, tmp_path):
    """The same one wherever it is read; one that exists is read where it is."""
    with temporary_sets():
        place = ensure_synthetic(tmp_path, settings=SMALL)
        assert digests(place) == digests(small)
        assert ensure_synthetic(f"{tmp_path}/.", settings=SMALL) == place
        assert ensure_synthetic(small.parent, settings=SMALL) == small
    assert not place.parent.exists()
    assert not list(tmp_path.iterdir())
    assert ensure_synthetic(tmp_path, settings=SMALL) == tmp_path / "synthetic"


def test_a_killed_run_leaves_no_set_and_the_next_one_completes_it(tmp_path):
    program = (
        "from datasets.synthetic.generate import *; "
        f"synthesize({str(tmp_path / 'synthetic')!r}, SyntheticSettings(num_identities=60), workers=1)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob(".synthetic-*/bounding_box_train/*.jpg"))) < 20:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "synthetic").exists()
    assert list(tmp_path.glob(".synthetic-*.partial"))
    ensure_synthetic(tmp_path, settings=SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"synthetic", ".synthetic.lock"}


def synthesize_slowly(root, started, results):
    from datasets.synthetic import generate

    render = generate.render_image
    generate.render_image = lambda *arguments: (started.set(), time.sleep(0.02), render(*arguments))[-1]
    os.cpu_count = lambda: 1
    results.put(str(ensure_synthetic(root, settings=SMALL)))


def test_several_processes_at_once(small, tmp_path):
    """The first one synthesizes; the others wait for it and remove nothing."""
    fork = multiprocessing.get_context("fork")
    started, results = fork.Event(), fork.Queue()
    processes = [fork.Process(target=synthesize_slowly, args=(tmp_path, started, results)) for _ in range(3)]
    processes[0].start()
    assert started.wait(30)
    partial_set = next(tmp_path.glob(".synthetic-*.partial"))
    for process in processes[1:]:
        process.start()
    time.sleep(0.2)
    assert partial_set.exists()
    assert [results.get(timeout=60) for _ in processes] == [str(tmp_path / "synthetic")] * 3
    for process in processes:
        process.join()
    assert digests(tmp_path / "synthetic") == digests(small)
    assert {path.name for path in tmp_path.iterdir()} == {"synthetic", ".synthetic.lock"}


def test_a_complete_set_needs_no_lock(copy):
    """A read-only disk gives none."""
    ensure_synthetic(copy.parent, settings=SMALL)
    assert [path.name for path in copy.parent.iterdir()] == ["synthetic"]


def test_changed_images_need_a_new_version():
    """A set on disk is accepted by its version: a change of an image needs a new GENERATOR_VERSION and digest."""
    digest = hashlib.sha256()
    for pid in (1, 2, 3, 0, -1):
        for camera in range(6):
            image = cv2.imdecode(np.frombuffer(render_image(1, Shot(pid, camera, 0)), np.uint8), cv2.IMREAD_COLOR)
            # means of blocks, coarsely rounded: another machine may round a pixel differently
            blocks = image.reshape(8, 16, 4, 16, 3).mean(axis=(1, 3))
            digest.update(np.round(blocks / 16).astype(np.uint8).tobytes())
    assert (GENERATOR_VERSION, digest.hexdigest()[:16]) == (1, "2f56668f65d19d3a")


def grey_world_thumbnail(path):
    """16 x 8 pixels, each channel divided by its mean, which removes the camera's colour cast."""
    image = cv2.resize(read_image(path), (8, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    image = image / image.mean(axis=(0, 1))
    return (image / np.linalg.norm(image)).ravel()


def colour_histogram(path):
    hsv = cv2.cvtColor(read_image(path), cv2.COLOR_RGB2HSV)
    histogram = cv2.calcHist([hsv], [0, 1, 2], None, [12, 6, 6], [0, 180, 0, 256, 0, 256]).ravel()
    return np.sqrt(histogram / histogram.sum())  # Euclidean distance of roots: the Hellinger distance


@pytest.mark.parametrize("describe", [colour_histogram, grey_world_thumbnail])
def test_colours_alone_do_not_solve_it(sixty, describe):
    splits = read_market_layout(sixty, FileErrors(), name="synthetic")
    sets = []
    for records in (splits.query, splits.gallery):
        features = torch.tensor(np.stack([describe(record.path) for record in records]), dtype=torch.float32)
        sets.append(FeatureSet(features, np.array([r.pid for r in records]), np.array([r.camid for r in records])))
    assert evaluate_features(*sets).mAP < 0.35
