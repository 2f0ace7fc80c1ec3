"""Where reading writes what it makes on first use: the synthetic set, and the images of CUHK03's original file."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from utils import distributed

logger = logging.getLogger(__name__)

_temporary: contextlib.ExitStack | None = None  # of the running `temporary_sets`
_made: dict[Path, Path] = {}  # place -> its temporary one


@contextlib.contextmanager
def temporary_sets() -> Iterator[None]:
    """Within it, what is made on first use is made in temporary directories, which are removed at the end."""
    global _temporary
    try:
        with contextlib.ExitStack() as _temporary:
            yield
            distributed.barrier()  # another process may still read what this one made
    finally:
        _temporary = None
        _made.clear()


def place_to_make(place: Path) -> Path:
    """Where to make what `place` lacks: there, or within `temporary_sets` in a temporary directory."""
    if _temporary is None:
        return place
    absolute = Path(os.path.abspath(place))
    if absolute not in _made:
        directory = _temporary.enter_context(tempfile.TemporaryDirectory(prefix="dry-run-"))
        _made[absolute] = Path(directory) / place.name
        logger.info("%s does not exist; a dry run makes it in %s and removes it at the end", place, directory)
    return _made[absolute]
