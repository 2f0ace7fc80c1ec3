"""Each hostile data set ends in one clear error, within seconds and bounded memory."""

import multiprocessing
import re
import resource
import time
import traceback

import numpy as np
import pytest

from config import load_cfg
from datasets.readers.registry import read_dataset
from tests.hostile.datasets import KINDS as OF_ANY_SET
from tests.hostile.vehicles import VEHICLES
from utils.errors import UserError

KINDS = {**OF_ANY_SET, "vehicles": VEHICLES}

FORK = multiprocessing.get_context("fork")
SECONDS, MEBIBYTES, CHARACTERS = 10, 300, 2000


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_all(kind, directory, seed, pipe):
    """Sends (name, message, seconds, MiB more than before) of every input; a message that is none is a traceback."""
    for number, hostile in enumerate(KINDS[kind]):
        root = directory / str(number)
        root.mkdir()
        opts = hostile.make(root, np.random.default_rng([seed, number]))
        before, started = peak(), time.monotonic()
        try:
            splits = read_dataset(load_cfg(opts=opts))
            message = f"no error: {[len(getattr(splits, split)) for split in ('train', 'query', 'gallery')]}"
        except UserError as error:
            message = str(error)
        except BaseException:  # a traceback is what is looked for
            message = f"Traceback: {traceback.format_exc()}"
        pipe.send((hostile.name, message, time.monotonic() - started, peak() - before))
    pipe.send(None)


@pytest.mark.parametrize("kind", KINDS)
def test_one_error_in_bounded_time_and_memory(kind, tmp_path):
    assert len(KINDS[kind]) >= 8
    pipe, other = FORK.Pipe()
    process = FORK.Process(target=read_all, args=(kind, tmp_path, 0, other))
    process.start()
    try:
        for hostile in KINDS[kind]:
            assert pipe.poll(60), f"{hostile.name}: no end"
            name, message, seconds, mebibytes = pipe.recv()
            assert name == hostile.name
            assert "Traceback" not in message, f"{name}: {message}"
            assert re.search(hostile.message, message), f"{name}: {message[:CHARACTERS]}"
            assert len(message) < CHARACTERS, f"{name}: {len(message)} characters"
            assert seconds < SECONDS, name
            assert mebibytes < MEBIBYTES, name
        assert pipe.recv() is None
    finally:
        process.kill()
        process.join()
