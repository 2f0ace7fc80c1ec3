import logging

import pytest


@pytest.fixture
def restored_logging():
    """Takes away the handlers that a test sets up."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.captureWarnings(False)
