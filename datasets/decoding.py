"""Decodes images in threads: one loop for the check before training, the cache, validation and the fingerprint."""

import logging
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

import numpy as np
from PIL import Image

from utils.distributed import barrier, local_world_size, once_per_node, rank
from utils.errors import UserError
from utils.images import image_size, read_image
from utils.progress import ProgressBar
from utils.shared_memory import MemoryHandle, SharedBytes, available_memory
from utils.structures import DatasetSplits, ImageRecord

logger = logging.getLogger(__name__)

CHANNELS = 3

T = TypeVar("T")


def map_images(function: Callable[[str], T], paths: Iterable[str], title: str) -> dict[str, T]:
    """Calls `function(path)` for each path once, in one thread per processor, and shows the progress as `title`.

    Returns:
        path -> result, in the order of `paths`.
    """
    Image.init()  # PIL fills its list of formats on first use, which is not safe in threads
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(ProgressBar(title, len(unique), pool.map(function, unique)))
    return dict(zip(unique, results, strict=True))


def find_unreadable(paths: Iterable[str]) -> dict[str, str]:
    """Decodes images; returns path -> error message of those that cannot be decoded."""
    return {path: error for path, error in map_images(_decoding_error, paths, "checking images").items() if error}


def _decoding_error(path: str) -> str:
    try:
        read_image(path)
    except UserError as error:
        return str(error)
    return ""


def leave_out(splits: DatasetSplits, paths: Collection[str]) -> DatasetSplits:
    """The data set without the images at `paths`."""

    def kept(records: tuple[ImageRecord, ...]) -> tuple[ImageRecord, ...]:
        return tuple(record for record in records if record.path not in paths)

    return replace(splits, train=kept(splits.train), query=kept(splits.query), gallery=kept(splits.gallery))


class ImageCache:
    """Decoded images in shared memory: one copy for all processes of a machine, each image decoded once.

    Args:
        paths: the images; all are decoded at once.
        copies: caches of this size that processes of this machine make at the same time.

    Raises:
        UserError: too little memory, or an image that cannot be read.
    """

    def __init__(self, paths: Iterable[str], *, copies: int = 1) -> None:
        self._lay_out(map_images(image_size, paths, "reading sizes"))
        logger.info("cache: %d images, %.0f MiB in shared memory", len(self.shapes), self.size / 2**20)
        _check_memory(copies * self.size)
        self.memory = SharedBytes.new(self.size)
        map_images(self._fill, self.shapes, "filling the cache")

    @classmethod
    def of_another_process(cls, shapes: dict[str, tuple[int, int]], handle: MemoryHandle) -> "ImageCache":
        """The cache that another process has filled; OSError where its memory cannot be reached from here."""
        cache = cls.__new__(cls)
        cache._lay_out(shapes)
        cache.memory = SharedBytes.attach(handle)
        return cache

    def _lay_out(self, shapes: dict[str, tuple[int, int]]) -> None:
        self.shapes = shapes  # path -> (height, width)
        counts = [height * width * CHANNELS for height, width in shapes.values()]
        self.starts = dict(zip(shapes, accumulate(counts, initial=0), strict=False))  # the last one is the end
        self.size = sum(counts)

    def _view(self, path: str) -> np.ndarray:
        (height, width), start = self.shapes[path], self.starts[path]
        flat = self.memory.array[start : start + height * width * CHANNELS]
        return flat.reshape(height, width, CHANNELS)  # (H W 3,) -> (H, W, 3)

    def _fill(self, path: str) -> None:
        view, image = self._view(path), read_image(path)
        if image.shape != view.shape:
            raise UserError(
                f"image {path}: its header says {view.shape[:2]} (height, width), decoding gives {image.shape[:2]}; it "
                "is damaged, or changed during reading. Start again, download it again, or set DATALOADER.CACHE none"
            )
        view[...] = image

    def __call__(self, path: str) -> np.ndarray:
        """The image as utils.images.read_image returns it, (H, W, 3) uint8 RGB, read-only."""
        view = self._view(path)
        view.flags.writeable = False
        return view


def _check_memory(size: int) -> None:
    available = available_memory()
    if available is not None and size > available:
        raise UserError(
            f"DATALOADER.CACHE ram: the decoded images take {size / 2**20:.0f} MiB, {available / 2**20:.0f} MiB of "
            "memory are available; give the machine or the container more, or set DATALOADER.CACHE none"
        )


_last_cache: ImageCache | None = None


def cached(paths: Collection[str]) -> ImageCache:
    """A cache that holds these images: the last one made, where it does; the stages of a run and its test share it.

    In a distributed run, every process calls it with the same paths, and one of each machine decodes the images.
    """
    global _last_cache
    if _last_cache is None or not _last_cache.shapes.keys() >= set(paths):
        _last_cache = None  # frees its memory first
        _last_cache = _made_once_per_node(paths)
    return _last_cache


def _made_once_per_node(paths: Collection[str]) -> ImageCache:
    made: ImageCache | None = None

    def make() -> tuple[np.ndarray, MemoryHandle]:
        nonlocal made
        made = ImageCache(paths)
        return np.array([*made.shapes.values()], np.int32), made.memory.handle()

    sizes, handle = once_per_node(make)
    if made is None:
        try:
            shapes = {
                path: (int(height), int(width))
                for path, (height, width) in zip(dict.fromkeys(paths), sizes, strict=True)
            }
            made = ImageCache.of_another_process(shapes, handle)
        except OSError as error:
            logger.warning(
                "DATALOADER.CACHE ram: process %d cannot reach the images that another process of this machine has "
                "decoded (%s), and decodes its own",
                *(rank(), error),
            )
            made = ImageCache(paths, copies=local_world_size() - 1)
    barrier()  # until all have it, none may drop it
    return made
