"""Finds directories that hold the images of another directory once more: thumbnails, previews, backups."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from scipy.spatial import cKDTree

# A signature is the image shrunk to this height and width, RGB.
HEIGHT, WIDTH = 16, 8
# Two signatures are of one image where they differ by at most this much, on average and anywhere (of 255). Measured on
# the synthetic set: thumbnails of half the size as JPEG of quality 75 differ by up to 3 and 22, of a quarter as
# quality 85 by 6 and 46; different images by at least 17 and 62.
MEAN_DIFFERENCE, MAX_DIFFERENCE = 6.0, 48
MIN_CONTRAST = 4.0  # standard deviation below which a signature says nothing
SHARE = 0.9  # of a directory's images
NEIGHBOURS = 8  # compared with each image


class Repeated(NamedTuple):
    """A directory of which `number` of `total` images are images of `other` once more, `example` of `source`."""

    directory: str
    other: str
    number: int
    total: int
    example: str
    source: str


def signature(image: np.ndarray) -> bytes:
    """Bytes that scaling and compression keep of an image, (H, W, 3) uint8; b"" for one without contrast."""
    shrunk = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return shrunk.tobytes() if shrunk.std() >= MIN_CONTRAST else b""


def find_repeated(signatures: dict[str, bytes], sizes: dict[str, tuple[int, int]]) -> list[Repeated]:
    """Finds directories that repeat others, in the order of their names.

    Args:
        signatures: path -> its `signature`.
        sizes: path -> (height, width).
    """
    paths = [path for path, found in signatures.items() if found]
    if len(paths) < 2:
        return []
    pairs: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for path, other in _pairs(paths, signatures):
        pairs[os.path.dirname(path), os.path.dirname(other)].setdefault(path, other)
    totals = Counter(os.path.dirname(path) for path in signatures)
    best: dict[str, Repeated] = {}
    for (directory, other), found in sorted(pairs.items()):
        pair = Repeated(directory, other, len(found), totals[directory], *next(iter(found.items())))
        back = pairs.get((other, directory), {})
        if len(found) >= SHARE * totals[directory] and _is_copy(found, back, sizes, totals):
            best[directory] = max(best.get(directory, pair), pair, key=lambda repeated: repeated.number)
    return list(best.values())


def _pairs(paths: list[str], signatures: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    """Pairs of files in different directories that show one image."""
    groups: dict[bytes, list[str]] = defaultdict(list)  # of the same signature
    for path in paths:
        groups[signatures[path]].append(path)
    members = list(groups.values())
    shrunk = np.stack([np.frombuffer(found, np.uint8) for found in groups]).reshape(-1, HEIGHT, WIDTH, 3)
    # Means over quarters of the height and halves of the width: eight numbers, to find the nearest few.
    coarse = shrunk.reshape(-1, 4, HEIGHT // 4, 2, WIDTH // 2, 3).mean((2, 4, 5), dtype=np.float32).reshape(-1, 8)
    number = min(NEIGHBOURS, len(members))
    tree, limit = cKDTree(coarse), MEAN_DIFFERENCE
    _, near = tree.query(coarse, k=range(1, number + 1), p=np.inf, distance_upper_bound=limit, workers=-1)
    for index, neighbours in enumerate(near):
        for other in neighbours[neighbours < len(members)].tolist():
            difference = np.abs(shrunk[index].astype(np.int16) - shrunk[other])
            if difference.mean() <= MEAN_DIFFERENCE and difference.max() <= MAX_DIFFERENCE:
                heads = {os.path.dirname(path): path for path in reversed(members[other])}  # one of each directory
                for path in members[index]:
                    found = (head for directory, head in heads.items() if directory != os.path.dirname(path))
                    yield from ((path, head) for head in islice(found, NEIGHBOURS))


def _is_copy(
    found: dict[str, str], back: dict[str, str], sizes: dict[str, tuple[int, int]], totals: Counter[str]
) -> bool:
    """Whether the directory of `found` is the copy: of two that repeat each other, it has the smaller images, else the
    later name."""
    path, other = next(iter(found.items()))
    directory, source = os.path.dirname(path), os.path.dirname(other)
    if len(back) < SHARE * totals[source]:
        return True
    own = sum(sizes[name][0] * sizes[name][1] for name in found)
    theirs = sum(sizes[name][0] * sizes[name][1] for name in found.values())
    return (own, source) < (theirs, directory)
