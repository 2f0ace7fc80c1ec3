"""A headless Chromium, and the report of a small run. Without a browser, the tests of this folder are skipped."""

import os
import shutil

import pytest

from tests.processor.small_report import write_small_report

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to run as root with its sandbox
    with playwright.sync_playwright() as driver, driver.chromium.launch(executable_path=path, args=arguments) as found:
        yield found


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Directory with report.html, and the content of its results.json."""
    directory = tmp_path_factory.mktemp("browser")
    return directory, write_small_report(directory)
