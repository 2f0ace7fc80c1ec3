"""The one exception for errors that a user can mend, how a command line ends on it, and "did you mean"."""

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from typing import NoReturn

from utils.text import printable_lines

# How a DataLoader's worker sends its exception: as text, with the traceback in front.
_OF_WORKER = re.compile(r"\ACaught \w+ in DataLoader worker process \d+\.\n.*^utils\.errors\.UserError: ", re.M | re.S)

_MAX_COMPARED = 80  # characters; difflib takes time that grows with the square of the length


class UserError(ValueError):
    """Bad input of a user: the message says what was found, what was expected, where, and what to do next."""

    def __str__(self) -> str:
        return _OF_WORKER.sub("", super().__str__()).strip()


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, whose errors cannot steer a terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable_lines(message))


def did_you_mean(name: object, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """The end of an error message about an unknown name: "; did you mean A or B?", or "" where no known name is near.

    Case does not count. A known name that begins with `name` is near, too.

    Args:
        name: what the user wrote.
        known: names that are valid.
        count: names to suggest, at most.
        cutoff: similarity from 0 to 1 that a suggestion needs, see difflib.get_close_matches.
    """
    lower = str(name).lower()[:_MAX_COMPARED]
    by_lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(lower, by_lower, n=count, cutoff=cutoff)
    near = near or [other for other in by_lower if lower and other.startswith(lower)][:count]
    return f"; did you mean {' or '.join(by_lower[other] for other in near)}?" if near else ""


def run_main(main, *errors: type[Exception]) -> int:
    """Calls `main()` and returns its exit status; UserError and `errors` end in one message and status 1."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # letters that the terminal's encoding has not
    try:
        return main() or 0
    except (UserError, *errors) as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
