"""Decoded pictures in shared memory: one copy for all worker processes, each picture decoded once."""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from utils.distributed import local_world_size
from utils.errors import UserError
from utils.images import image_size, read_image

logger = logging.getLogger(__name__)

SHARED_MEMORY = "/dev/shm"  # where Linux keeps it; containers often have 64 MiB
CHANNELS = 3


class PictureCache:
    """Reads the pictures that it was made of from shared memory; the arrays are not to be written to.

    Args:
        paths: the pictures; all are decoded at once, by one thread per processor.

    Raises:
        UserError: more than there is shared memory for, or a picture that cannot be read.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        paths = list(dict.fromkeys(paths))
        Image.init()  # its list of formats is filled on first use, which threads must not do at a time
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self.shapes = dict(zip(paths, pool.map(image_size, paths), strict=True))
            counts = [height * width * CHANNELS for height, width in self.shapes.values()]
            ends = list(accumulate(counts))
            self.starts = dict(zip(paths, (end - count for end, count in zip(ends, counts, strict=True)), strict=True))
            size = ends[-1] if ends else 0
            logger.info("cache: %d pictures, %.0f MiB in shared memory, in each process", len(paths), size / 2**20)
            _check_room(size)
            self.memory = torch.empty(size, dtype=torch.uint8).share_memory_()
            list(tqdm(pool.map(self._fill, paths), "filling the cache", len(paths), leave=False, disable=None))

    def _view(self, path: str) -> np.ndarray:
        (height, width), start = self.shapes[path], self.starts[path]
        flat = self.memory.numpy()[start : start + height * width * CHANNELS]
        return flat.reshape(height, width, CHANNELS)

    def _fill(self, path: str) -> None:
        view, picture = self._view(path), read_image(path)
        if picture.shape != view.shape:
            raise UserError(
                f"picture {path}: {picture.shape[:2]} decoded, {view.shape[:2]} (height, width) by its head; it was "
                "changed just now, or is damaged. Start again, fetch it anew, or set DATALOADER.CACHE none"
            )
        view[...] = picture

    def __call__(self, path: str) -> np.ndarray:
        """The picture as utils.images.read_image gives it, (H, W, 3) uint8 RGB, read-only."""
        view = self._view(path)
        view.flags.writeable = False
        return view


def _check_room(size: int) -> None:
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return  # not Linux: the system tells where it is full
    free, processes = status.f_bavail * status.f_frsize, local_world_size()
    if size * processes > free:
        raise UserError(
            f"DATALOADER.CACHE ram: the decoded pictures take {size / 2**20:.0f} MiB in each of {processes} processes, "
            f"{SHARED_MEMORY} has {free / 2**20:.0f} MiB left; give the machine or the container more (docker run "
            "--shm-size), or set DATALOADER.CACHE none"
        )


@lru_cache(maxsize=1)
def cached(paths: tuple[str, ...]) -> PictureCache:
    """The cache of these pictures; the stages of a run share the last one."""
    return PictureCache(paths)
