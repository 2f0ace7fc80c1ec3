"""Makes the cache of the images of a directory as one of several processes, and prints its file and what it holds."""

import hashlib
import logging
import sys
from pathlib import Path

import utils  # noqa: F401 - before torch
from datasets.decoding import cached
from utils.distributed import process_group

if __name__ == "__main__":
    with process_group():
        logging.basicConfig(level=logging.INFO)
        paths = sorted(map(str, Path(sys.argv[1]).glob("*.jpg")))
        images = cached(paths)
        content = hashlib.sha256(b"".join(images(path).tobytes() for path in paths)).hexdigest()
        print("found", *images.memory.handle()[1:], content, cached(paths[:2]) is images)
