"""Data sets of a few small images in the published layouts, for the commands of the documents."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.synthetic.generate import MANIFEST, SyntheticSettings, synthesize

CAMERAS = 3


def write_synthetic(directory: Path) -> None:
    """A synthetic set that is smaller than its manifest says, so that a training takes seconds."""
    synthesize(directory, SyntheticSettings(num_identities=16, num_cameras=CAMERAS, images_per_camera=2), workers=1)
    path = directory / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": asdict(SyntheticSettings())}))


def write_images(directory: Path, pattern: str, pids: range, **numbers: range) -> list[str]:
    """Writes an image for each pid, camera and number; returns their names below `directory`."""
    names = []
    for pid in pids:
        for camera in numbers.get("cameras", range(1, CAMERAS + 1)):
            for number in numbers.get("numbers", range(2)):
                name = pattern.format(pid=pid, camera=camera, number=number)
                path = directory / name
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng([pid, camera, number]).integers(0, 256, (64, 32, 3), dtype=np.uint8)
                Image.fromarray(noise).save(path)
                names.append(name)
    return names


def write_market_layout(directory: Path, pattern: str) -> None:
    """Eight identities to train; eight others, with a query by the first camera."""
    write_images(directory / "bounding_box_train", pattern, range(1, 9))
    write_images(directory / "query", pattern, range(9, 17), cameras=range(1, 2), numbers=range(1))
    write_images(directory / "bounding_box_test", pattern, range(9, 17), cameras=range(2, CAMERAS + 1))


def write_msmt17(directory: Path) -> None:
    pattern = "{pid:04d}/{pid:04d}_00{number}_0{camera}_0303morning_0008_0.jpg"
    train = write_images(directory / "train", pattern, range(8))
    query = write_images(directory / "test", pattern, range(8), cameras=range(1, 2))
    gallery = write_images(directory / "test", pattern, range(8), cameras=range(2, CAMERAS + 1))
    for split, names in {"train": train, "val": [], "query": query, "gallery": gallery}.items():
        lines = [f"{name} {int(name[:4])}\n" for name in names]
        (directory / f"list_{split}.txt").write_text("".join(lines))


def write_data_sets(data: Path) -> None:
    """Every data set that a command of the documents reads."""
    write_synthetic(data / "synthetic")
    synthesize(
        data / "market1501", SyntheticSettings(num_identities=16, num_cameras=CAMERAS, images_per_camera=2), workers=1
    )
    (data / "market1501" / MANIFEST).unlink()
    write_images(data / "market1501" / "images", "0000_c{camera}s1_00000{number}_01.jpg", range(1))
    write_market_layout(data / "cuhk03", "{pid:04d}_c{camera}_{number}.png")
    write_msmt17(data / "MSMT17_V1")
    write_market_layout(data / "DukeMTMC-reID", "{pid:04d}_c{camera}_f004698{number}.jpg")
    for side in ("occluded_body_images", "whole_body_images"):
        write_images(data / "Occluded_REID" / side, "{pid:03d}/{pid:03d}_0{number}.tif", range(1, 5), cameras=range(1))
    for camera in ("cam_a", "cam_b"):
        pattern = f"{camera}/{{pid:03d}}_45.bmp"
        write_images(data / "VIPeR", pattern, range(32), cameras=range(1), numbers=range(1))
