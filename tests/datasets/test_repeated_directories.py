"""Directories that hold the images of another directory once more."""

import shutil

import numpy as np
import pytest
from PIL import Image

from datasets.synthetic.render import Shot, render_image
from datasets.validate import check_repeated_directories, inspect_images

PEOPLE, SHOTS = range(1, 6), range(4)


@pytest.fixture(scope="module")
def rendered():
    return {(pid, shot): render_image(3, Shot(pid, shot, 0)) for pid in PEOPLE for shot in SHOTS}


@pytest.fixture
def root(tmp_path, rendered):
    for (pid, shot), content in rendered.items():
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        (tmp_path / str(pid) / f"{shot}.jpg").write_bytes(content)
    return tmp_path


def found(root):
    findings = check_repeated_directories(inspect_images(sorted(map(str, root.rglob("*.*")))))
    return [finding.text.split(": ")[0] for finding in findings]


def save_scaled(image, path, scale, **options):
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(
        path, **options
    )


@pytest.mark.parametrize(
    ("scale", "options"),
    [
        (1, {"quality": 60}),
        (0.5, {"quality": 75}),
        (0.25, {"quality": 85}),
        (1.5, {"quality": 90}),
        (0.5, {"format": "PNG"}),
    ],
)
def test_thumbnails_of_other_names(root, scale, options):
    place = root / "previews"
    place.mkdir()
    for path in sorted((root / "2").iterdir()):
        with Image.open(path) as image:
            save_scaled(image, place / f"small-{path.stem}.jpg", scale, **options)
    assert found(root) == [str(root / "2") if scale > 1 else str(place)]


def test_one_directory_of_all_thumbnails_and_one_a_person(root):
    for pid in PEOPLE:
        (root / str(pid) / "thumbs").mkdir()
        for path in sorted((root / str(pid)).glob("*.jpg")):
            with Image.open(path) as image:
                save_scaled(image, path.parent / "thumbs" / f"t{path.stem}.jpg", 0.5)
    assert found(root) == [str(root / str(pid) / "thumbs") for pid in PEOPLE]


def test_a_backup(root):
    shutil.copytree(root / "3", root / "3 - Copy")
    assert found(root) == [str(root / "3 - Copy")]


def test_a_part_is_no_repetition(root):
    assert found(root) == []
    shutil.copy(root / "3" / "0.jpg", root / "4" / "again.jpg")  # found by its content, in validation
    assert found(root) == []
    for pid in "67":
        (root / pid).mkdir()
        for number in range(3):  # nothing to tell them apart by
            Image.fromarray(np.full((40, 20, 3), 128, np.uint8)).save(root / pid / f"{number}.png")
    assert found(root) == []
