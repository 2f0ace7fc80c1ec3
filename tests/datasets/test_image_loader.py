"""Any images below a directory: which are found, in which order, and what becomes of their pixels."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from config import load_cfg
from datasets import make_image_loader
from utils.errors import UserError


def make_cfg(*opts):
    return load_cfg(
        opts=[
            "INPUT.SIZE_TRAIN",
            "[64, 32]",
            "INPUT.SIZE_TEST",
            "[64, 32]",
            "DATALOADER.NUM_WORKERS",
            "0",
            "TEST.IMS_PER_BATCH",
            "3",
            *opts,
        ]
    )


def write_image(path, size=(40, 90), mode="RGB", seed=0):
    """An image of smooth colours, which survive JPEG."""
    corners = np.random.default_rng(seed).integers(30, 225, (3, 2, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(corners).resize(size, Image.Resampling.BICUBIC)
    image.convert(mode).save(path)
    return path


@pytest.fixture
def directory(tmp_path):
    root = tmp_path / "images"
    write_image(root / "b" / "2.JPG", seed=1)
    write_image(root / "a.png", (7, 300), "RGBA", seed=2)
    write_image(root / "b.jpeg", (300, 20), "L", seed=3)
    write_image(root / "b" / "deep er" / "größe.bmp", seed=4)
    write_image(root / "b" / "10.jpg", (32, 64), "CMYK", seed=5)
    write_image(root / "z.png", mode="P", seed=6)
    write_image(root / ".hidden.jpg")
    (root / "notes.txt").write_text("no image")
    return root


PATHS = ("a.png", "b.jpeg", "b/10.jpg", "b/2.JPG", "b/deep er/größe.bmp", "z.png")


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_comes_once_resized_and_in_the_order_of_paths(directory, workers):
    images = make_image_loader(make_cfg("DATALOADER.NUM_WORKERS", str(workers)), str(directory))
    assert images.paths == PATHS
    assert (images.directory, images.queries, images.query_loader) == (str(directory), (), None)
    batches = list(images.loader)
    assert [len(batch["paths"]) for batch in batches] == [3, 3]
    assert [path for batch in batches for path in batch["paths"]] == [str(directory / path) for path in PATHS]
    images = torch.cat([batch["images"] for batch in batches])
    for path, image in zip(PATHS, images, strict=True):
        with Image.open(directory / path) as file:
            plain = np.asarray(file.convert("RGB").resize((32, 64), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), plain, err_msg=path)
    assert {int(value) for key in ("camids", "viewids") for batch in batches for value in batch[key]} == {0}


def test_the_query_may_lie_anywhere(directory, tmp_path):
    query = write_image(tmp_path / "elsewhere.webp", seed=9)
    images = make_image_loader(make_cfg(), str(directory), queries=[str(query)])
    (batch,) = images.query_loader
    assert (images.queries, batch["paths"]) == ((str(query),), [str(query)])
    assert batch["images"].shape == (1, 3, 64, 32)
    assert images.paths == PATHS


def damage(path):
    path.write_bytes(path.read_bytes()[:60])
    return path


def test_the_first_damaged_image_is_an_error(directory):
    damage(directory / "z.png")
    first = damage(directory / "b" / "2.JPG")
    with pytest.raises(UserError, match=f"^\\w+ {first}: cannot be read .*\n1 more such.*\n.*ON_BAD_IMAGE skip"):
        make_image_loader(make_cfg(), str(directory))


def test_damaged_images_are_left_out_counted_and_logged(directory, caplog):
    damage(directory / "z.png")
    damage(directory / "b" / "2.JPG")
    images = make_image_loader(make_cfg("DATASETS.ON_BAD_IMAGE", "skip"), str(directory))
    assert images.paths == ("a.png", "b.jpeg", "b/10.jpg", "b/deep er/größe.bmp")
    assert sum(len(batch["paths"]) for batch in images.loader) == 4
    assert "left out 2, " in caplog.text
    for path in images.paths:
        damage(directory / path)
    with pytest.raises(UserError, match=r"no image below it that can be read \(6 are damaged\)"):
        make_image_loader(make_cfg("DATASETS.ON_BAD_IMAGE", "skip"), str(directory))


def test_without_the_check_a_damaged_image_is_found_when_it_is_read(directory):
    damage(directory / "z.png")
    images = make_image_loader(make_cfg("DATASETS.CHECK_IMAGES", "False"), str(directory))
    assert images.paths == PATHS
    with pytest.raises(UserError, match=r" .*z\.png: cannot be read"):
        list(images.loader)


def test_a_damaged_query_is_an_error_even_where_others_are_skipped(directory):
    query = damage(directory / "z.png")
    with pytest.raises(UserError, match=f" {query}: cannot be read"):
        make_image_loader(make_cfg("DATASETS.ON_BAD_IMAGE", "skip"), str(directory), queries=[str(query)])
    for wrong in (directory / "notes.txt", directory):
        with pytest.raises(UserError, match=f" {wrong}: cannot be read"):
            make_image_loader(make_cfg(), str(directory), queries=[str(wrong)])
    for wrong in (str(directory / "nothing.jpg"), ""):
        with pytest.raises(UserError, match=f"query image '{wrong}': no such file"):
            make_image_loader(make_cfg(), str(directory), queries=[wrong])


def test_links_are_followed_and_a_loop_of_them_is_an_error(directory, tmp_path):
    write_image(tmp_path / "other" / "c.png")
    (directory / "linked").symlink_to(tmp_path / "other")
    assert "linked/c.png" in make_image_loader(make_cfg(), str(directory)).paths
    (directory / "linked" / "up").symlink_to(directory)
    with pytest.raises(UserError, match=r"linked/up: a symbolic link that leads back"):
        make_image_loader(make_cfg(), str(directory))
    skipping = make_cfg("DATASETS.ON_BAD_IMAGE", "skip")
    assert set(make_image_loader(skipping, str(directory)).paths) == {*PATHS, "linked/c.png"}


def test_no_directory_no_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    (tmp_path / "file.jpg").touch()
    for name, message in (
        ("empty", r"no image below it; expected files that end in \.jpg, "),
        ("file.jpg", "is a file; expected a directory"),
        ("nowhere", "does not exist; expected a directory"),
    ):
        with pytest.raises(UserError, match=f"{tmp_path / name}.*{message}"):
            make_image_loader(make_cfg(), str(tmp_path / name))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_name_that_is_not_utf_8(tmp_path, workers):
    name = os.fsdecode(b"caf\xe9.png")
    write_image(tmp_path / "plain.png").rename(tmp_path / name)
    images = make_image_loader(make_cfg("DATALOADER.NUM_WORKERS", str(workers)), str(tmp_path))
    (batch,) = images.loader
    assert images.paths == (name,)
    assert os.fsencode(batch["paths"][0]) == os.fsencode(tmp_path) + b"/caf\xe9.png"
