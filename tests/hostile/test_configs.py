"""Every hostile configuration ends in one clear error, soon and in little memory, and none is ever run."""

import random
import resource
import time
from pathlib import Path

import pytest

from config import ConfigError, load_cfg
from processor.resume import check_same_settings
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


@pytest.mark.parametrize("name", alias_bombs(random.Random(SEED)))
def test_hostile_stored_configurations_end_in_one_error(name):
    text = alias_bombs(random.Random(SEED))[name]
    start, before = time.process_time(), peak()
    with pytest.raises(UserError, match=r"^(the configuration in a\.pth|SOLVER\.RESUME auto: a\.pth)"):
        check_same_settings(Path("a.pth"), {"config": text}, "SEED: 1\n")
    assert time.process_time() - start < MAX_SECONDS
    assert peak() - before < MAX_GROWTH


@pytest.mark.parametrize(
    "stored", [[1], {"SEED": 1}, 3, None, b"SEED: 1", "- 1", "[" * 10_000, "SEED: !!set {a}", "a: \0"]
)
def test_stored_configurations_of_other_types_are_errors(stored):
    with pytest.raises(UserError, match=r"^the configuration in a\.pth"):
        check_same_settings(Path("a.pth"), {"config": stored}, "SEED: 1\n")
