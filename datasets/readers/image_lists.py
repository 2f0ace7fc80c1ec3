"""Text files that list the images of a data set, one a line, and the files that exist (msmt17.py, vehicleid.py)."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from datasets.readers.file_errors import FileErrors
from utils.errors import UserError
from utils.files import MIB, read_text

MAX_LIST = 64 * MIB  # the longest published one, of MSMT17, has 4 MB
QUOTED = 200  # characters that a message quotes of a line


def parse_lines(path: Path, pattern: re.Pattern, example: str, errors: FileErrors) -> Iterator[tuple[str, re.Match]]:
    """The lines of a list: where each is, and its match with `pattern`.

    Args:
        path: the list.
        pattern: of a whole line, without the spaces around it; empty lines do not count.
        example: a line, for messages.
        errors: collects lines that do not match.

    Raises:
        UserError: the list is missing, too large or not UTF-8.
    """
    try:
        text = read_text(path, max_bytes=MAX_LIST)
    except UserError as error:
        raise UserError(f"{error}; expected lines like {example}. Unpack the archive again") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line := line.strip():
            where = f"{path}, line {number}"
            if match := pattern.fullmatch(line):
                yield where, match
            else:
                errors.add(f"{where}: '{line[:QUOTED]}' does not parse; expected a line like {example}")


def list_files(directory: Path, errors: FileErrors) -> frozenset[str]:
    """Names of the files in a directory: one listing instead of a look-up per line."""
    try:
        # Only links need a look-up of their own.
        return frozenset(
            entry.name
            for entry in os.scandir(directory)
            if entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
        )
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        errors.add(
            f"{directory}: cannot be read ({error.strerror}). Change its permissions, or unpack the archive again"
        )
        return frozenset()
