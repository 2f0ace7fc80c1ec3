"""Every bad results.json of TEST.COMPARE is one error that names it, at once and in little memory."""

import json
import time
import tracemalloc

import pytest

from processor.comparisons import read_results
from tests.hostile.results_files import NO_FILES, good_results, hostile_contents
from utils.errors import UserError

CONTENTS = hostile_contents(seed=16)


def refused(directory):
    """The message; asserts bounds of time and memory."""
    started = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        read_results(directory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - started < 2
    assert peak < 64 * 2**20
    message = str(caught.value)
    assert message.startswith(str(directory / "results.json"))
    assert "give the OUTPUT_DIR of a finished test" in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_bad_content(tmp_path, kind):
    (tmp_path / "results.json").write_bytes(CONTENTS[kind])
    refused(tmp_path)


@pytest.mark.parametrize("kind", NO_FILES)
def test_no_regular_file(tmp_path, kind):
    NO_FILES[kind](tmp_path / "results.json")
    refused(tmp_path)


def test_the_message_names_the_key(tmp_path):
    (tmp_path / "results.json").write_bytes(CONTENTS["a percentage"])
    assert "results.json: protocols.clean.mAP.mean: Input should be less than or equal to 1" in refused(tmp_path)


def test_good_ones_are_read_as_they_are(tmp_path):
    content = {**good_results(), "summary": {"clean": {"mAP": 0.5}}}
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert read_results(tmp_path) == content
    for key in ("dataset_version", "evaluation"):  # which earlier versions did not write
        del content[key]
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert read_results(tmp_path) == content
