"""Every hostile configuration ends in one clear error, within a second and 100 MiB, and none runs code."""

import random
import resource
import time
from pathlib import Path

import pytest

from config import ConfigError, load_cfg
from model.weights.model_file import stored_config
from processor.state_checks import flat_config
from tests.hostile.configs import Hostile, alias_bombs, hostile_configs
from utils.errors import UserError

SEED = 16
MAX_SECONDS = 1.0  # of the processor
MAX_GROWTH = 100 * 2**10  # KiB of memory
INPUTS = hostile_configs(SEED)
KINDS = sorted({hostile.kind for hostile in INPUTS})


def peak() -> int:
    """The most memory that this process has had, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def error_of(hostile: Hostile, directory: Path) -> str:
    directory.mkdir()
    config_file, opts = hostile.write(directory)
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_cfg(config_file, opts)
    assert time.process_time() - start < MAX_SECONDS, f"{hostile.kind}, {hostile.name}"
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_configurations_end_in_one_error(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inputs = [hostile for hostile in INPUTS if hostile.kind == kind]
    assert len(inputs) >= 8
    before = peak()
    for index, hostile in enumerate(inputs):
        message = error_of(hostile, tmp_path / str(index))
        headline, *lines = message.split("\n  ")
        assert headline.endswith(" in the configuration:")
        assert 1 <= len(lines) <= 51
        assert len(message) < 20_000
        assert all(line.strip() and "Traceback" not in line for line in lines)
    assert peak() - before < MAX_GROWTH
    made = {path.name for path in tmp_path.rglob("*") if path.parent == tmp_path}
    assert made == {str(index) for index in range(len(inputs))}


def read_stored(text: str) -> dict:
    return stored_config({"meta": {"config": text, "stage": "clean"}}, "a.pth")


@pytest.mark.parametrize("read", [flat_config, read_stored])
@pytest.mark.parametrize("name", alias_bombs(random.Random(SEED)))
def test_hostile_stored_configurations_end_in_one_error(name, read):
    text = alias_bombs(random.Random(SEED))[name]
    start, before = time.process_time(), peak()
    with pytest.raises(UserError, match="config"):
        read(text)
    assert time.process_time() - start < MAX_SECONDS
    assert peak() - before < MAX_GROWTH
