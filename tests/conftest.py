"""Hooks and fixtures that all tests share, and how pytest-xdist distributes them."""

import logging
import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # every core has a worker: one thread each, in children of tests, too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keeps the tests of a file in one worker, which builds the file's fixtures once; files with slow tests come first.

    A test with an `xdist_group` of its own leaves its file.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::")[0]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Makes captured text fit for UTF-8: file names of any bytes end up in logs, and pytest-xdist sends reports."""
    report = yield
    report.sections = [
        (title, text.encode("utf-8", "backslashreplace").decode("utf-8")) for title, text in report.sections
    ]
    return report


@pytest.fixture
def restored_logging():
    """Removes the log handlers that a test sets up."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.captureWarnings(False)
