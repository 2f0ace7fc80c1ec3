"""Compiled extensions, which are optional: without a C compiler slower code takes their place."""

import functools
import importlib
import logging
from types import ModuleType

logger = logging.getLogger(__name__)

HOW_TO_BUILD = "build it with: python setup.py build_ext --inplace"


def load_extension(name: str) -> ModuleType | None:
    """The compiled module `name`, e.g. "utils.metrics.rank_cylib"; None where it is not built or cannot be loaded."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        logger.debug("%s: %s", name, error)
        return None


@functools.cache
def warn_not_built(name: str, fallback: str) -> None:
    """Warns once that the extension `name` is not built, and what that means.

    Args:
        name: module.
        fallback: what is used instead, e.g. "NumPy ranks the gallery, many times slower, with the same numbers".
    """
    logger.warning("%s is not built: %s; %s", name, fallback, HOW_TO_BUILD)
