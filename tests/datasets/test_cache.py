import hashlib
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import decoding
from datasets.decoding import ImageCache
from tests.datasets.test_loaders import collect, data_root, make  # noqa: F401 - a fixture
from tests.processor.test_distributed import run_processes
from utils.errors import UserError
from utils.images import read_image
from utils.structures import Condition


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate([(20, 10), (7, 9), (31, 3)]):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 1 else 1  # lies on its side
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg", exif=exif)
    return [str(tmp_path / f"{number}.jpg") for number in (2, 0, 1, 0)]


def test_images_are_those_of_the_files_and_outlive_them(paths, caplog):
    caplog.set_level(logging.INFO)
    expected = {path: read_image(path) for path in paths}
    images = ImageCache(paths)
    assert "cache: 3 images, 0 MiB in shared memory" in caplog.text
    assert images.memory.array.size == 3 * (20 * 10 + 7 * 9 + 31 * 3)
    for path, image in expected.items():
        Path(path).write_bytes(b"")  # what is read now can only come from memory
        assert np.array_equal(images(path), image)
        with pytest.raises(ValueError, match="read-only"):
            images(path)[0] = 0


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_images_that_lie_on_their_side(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 10, 3)).save(tmp_path / name, exif=exif)
    path = str(tmp_path / name)
    assert np.array_equal(ImageCache([path])(path), read_image(path))


def test_a_damaged_image_is_named(paths):
    content = Path(paths[0]).read_bytes()
    Path(paths[0]).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f" {paths[0]}: cannot be read"):
        ImageCache(paths)


def test_too_little_memory_is_reported_before_it_is_filled(paths, monkeypatch):
    monkeypatch.setattr(decoding, "available_memory", lambda: 1000)
    with pytest.raises(
        UserError, match="ram: the decoded images take 0 MiB, 0 MiB of memory are available; .*DATALOADER.CACHE none"
    ):
        ImageCache(paths)


def test_the_processes_of_a_machine_share_it(paths, tmp_path):
    outputs = run_processes(tmp_path, 2, tmp_path, script=Path(__file__).with_name("shared_cache.py"))
    assert [status for status, _ in outputs] == [0, 0], outputs
    first, second = (re.search("found (.*)", text)[1] for _, text in outputs)
    assert first == second
    expected = b"".join(read_image(path).tobytes() for path in sorted(set(paths)))
    assert first.split()[-2:] == [hashlib.sha256(expected).hexdigest(), "True"]
    assert sum("cache: 3 images" in text for _, text in outputs) == 1


def test_memory_for_each_of_several_copies(paths, monkeypatch):
    size = ImageCache(paths).size
    monkeypatch.setattr(decoding, "available_memory", lambda: 3 * size)
    assert ImageCache(paths, copies=3).size == size
    with pytest.raises(UserError, match="of memory are available"):
        ImageCache(paths, copies=4)


def test_a_process_that_cannot_reach_it_decodes_its_own(paths, caplog, monkeypatch):
    other = ImageCache(paths)
    answer = (np.array([*other.shapes.values()]), other.memory.handle()._replace(path="/proc/0/fd/0"))
    monkeypatch.setattr(decoding, "once_per_node", lambda make: answer)
    monkeypatch.setattr(decoding, "local_world_size", lambda: 2)
    monkeypatch.setattr(decoding, "_last_cache", None)
    found = decoding.cached(paths)
    assert np.array_equal(found(paths[0]), other(paths[0]))
    assert found.memory is not other.memory
    assert "cannot reach the images that another process of this machine has decoded" in caplog.text


@pytest.mark.parametrize("workers", ["0", "2"])
def test_batches_do_not_depend_on_the_cache(data_root, workers):  # noqa: F811
    options = ["DATALOADER.NUM_WORKERS", workers, "INPUT.AUGMIX", "True"]
    plain, cached = (make(data_root, "DATALOADER.CACHE", kind, *options) for kind in ("none", "ram"))
    first, second = collect(plain.train), collect(cached.train)
    assert all(torch.equal(first[key], second[key]) for key in first)
    for condition in (Condition(), Condition("random")):
        first, second = (collect(data.test_loader("query", condition, 1)) for data in (plain, cached))
        assert torch.equal(first["images"], second["images"])
        images = [data.read_test_image("gallery", 3, condition, 0) for data in (plain, cached)]
        assert np.array_equal(*images)


def test_stages_share_a_cache(data_root):  # noqa: F811
    first, second = (make(data_root, "DATALOADER.CACHE", "ram", stage=stage) for stage in ("clean", "align"))
    assert first.train.dataset.read is second.train.dataset.read
    assert make(data_root).train.dataset.read is read_image


def test_the_test_shares_the_cache_of_training(data_root):  # noqa: F811
    first = make(data_root, "DATALOADER.CACHE", "ram")
    second = make(data_root, "DATALOADER.CACHE", "ram", with_train=False)
    assert first.test_loader.read is second.test_loader.read
