"""Warnings are kept for the report of a run, each once."""

import logging

import pytest

from utils.logging import setup_logging, warnings_of_run


@pytest.mark.usefixtures("restored_logging")
def test_warnings_of_a_run_are_kept_over_the_second_setup(tmp_path):
    logger = logging.getLogger("test")
    setup_logging()
    logger.warning("before %d", 1)
    logger.info("not a warning")
    setup_logging(tmp_path)
    logger.warning("after\x1b")
    logger.error("worse")
    logger.warning("before %d", 1)
    assert warnings_of_run() == {"before 1": 2, "after\\x1b": 1, "worse": 1}
    setup_logging()
    assert warnings_of_run() == {}
