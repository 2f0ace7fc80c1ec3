"""A small CUHK03 as it is released: cuhk-03.mat in MATLAB 7.3's HDF5, and the new protocol's two files."""

from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

PEOPLE = (4, 3, 2, 2, 2)  # per camera pair
NUM_SPLITS = 20
TEST_SIZE = 3  # identities of a classic test set
BOXES = ("detected", "labeled")
BLOCK = 512  # MATLAB's own head, before that of HDF5
KEYS = [(pair, person) for pair, people in enumerate(PEOPLE, 1) for person in range(1, people + 1)]
TRAINED = 7  # of KEYS, in the new protocol


def image_name(pair: int, person: int, number: int) -> str:
    return f"{pair}_{person:03d}_{1 if number <= 5 else 2}_{number:02d}.png"


def key_of(name: str) -> tuple[int, int]:
    return int(name[0]), int(name[2:5])


def make_images(boxes: str, seed: int = 0) -> dict[str, np.ndarray]:
    """File name -> (H, W, 3) uint8. Images 4, 5 and 10 of some people are missing, more of the labeled ones."""
    rng = np.random.default_rng([seed, BOXES.index(boxes)])
    every = 3 if boxes == "detected" else 2
    return {
        image_name(*key, number): rng.integers(0, 256, (*rng.integers(5, 12, 2), 3), dtype=np.uint8)
        for index, key in enumerate(KEYS)
        for number in range(1, 11)
        if number not in (4, 5, 10) or index % every
    }


def make_testsets(seed: int = 0) -> list[list[tuple[int, int]]]:
    rng = np.random.default_rng(seed)
    return [[KEYS[index] for index in rng.permutation(len(KEYS))[:TEST_SIZE]] for _ in range(NUM_SPLITS)]


def write_mat(path: Path, images: dict[str, dict[str, np.ndarray]], testsets: list[list[tuple[int, int]]]) -> None:
    """Writes cuhk-03.mat: cells are references into #refs#, and every array lies with its dimensions turned round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=BLOCK) as file:
        references = file.create_group("#refs#")

        def put(array: np.ndarray, **options) -> h5py.Reference:
            return references.create_dataset(f"r{len(references)}", data=array, **options).ref

        def cell(rows: list[list[h5py.Reference]], name: str | None = None) -> h5py.Reference | None:
            array = np.empty((len(rows[0]), len(rows)), dtype=h5py.ref_dtype)
            for row, line in enumerate(rows):
                array[:, row] = line
            if name is None:
                return put(array, dtype=h5py.ref_dtype)
            return file.create_dataset(name, data=array.T if len(rows) > 1 else array.reshape(1, -1)).ref

        empty = put(np.zeros(2, dtype=np.uint64))
        references["r0"].attrs["MATLAB_empty"] = np.uint8(1)
        for boxes, arrays in images.items():
            pairs = []
            for pair, people in enumerate(PEOPLE, 1):
                names = [[image_name(pair, person, n) for n in range(1, 11)] for person in range(1, people + 1)]
                pairs.append(
                    cell(
                        [[put(arrays[n].T, compression="gzip") if n in arrays else empty for n in row] for row in names]
                    )
                )
            cell([pairs], boxes)
        cell([[put(np.array(testset, dtype=np.float64).T) for testset in testsets]], "testsets")
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def protocol_arrays(images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The new protocol's variables: the first TRAINED identities train; one query per test identity and camera."""
    names = sorted(images)
    labels = np.array([KEYS.index(key_of(name)) + 1 for name in names])
    views = np.array([int(name[6]) for name in names])
    queries = [
        np.flatnonzero((labels == pid) & (views == view))[0]
        for pid in range(TRAINED + 1, len(KEYS) + 1)
        for view in (1, 2)
    ]
    gallery = sorted({*np.flatnonzero(labels > TRAINED)} - {*queries})
    filelist = np.empty((len(names), 1), dtype=object)
    filelist[:, 0] = names
    columns = {
        "labels": labels,
        "camId": views,
        "train_idx": np.flatnonzero(labels <= TRAINED) + 1,
        "query_idx": np.array(queries) + 1,
        "gallery_idx": np.array(gallery) + 1,
    }
    return {"filelist": filelist, **{key: column[:, None].astype(np.uint16) for key, column in columns.items()}}


def protocol_file(directory: Path, boxes: str) -> Path:
    return directory / f"cuhk03_new_protocol_config_{boxes}.mat"


def make_cuhk03(root: Path, *, mat: str = "cuhk03", protocols: str = "cuhk03") -> dict[str, dict[str, np.ndarray]]:
    """Writes the release below `root`, its parts in the directories `mat` and `protocols`; returns the images."""
    images = {boxes: make_images(boxes) for boxes in BOXES}
    write_mat(root / mat / "cuhk-03.mat", images, make_testsets())
    (root / protocols).mkdir(parents=True, exist_ok=True)
    for boxes in BOXES:
        savemat(protocol_file(root / protocols, boxes), protocol_arrays(images[boxes]))
    return images
