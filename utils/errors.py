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

_MAX_COMPARED = 80  # characters; difflib is slow on longer texts, and no name is longer


class UserError(ValueError):
    """Bad input of a user: the message says what was found, what was expected, where, and what to do next."""

    def __str__(self) -> str:
        return _OF_WORKER.sub("", super().__str__()).strip()


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, whose errors cannot steer a terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable_lines(message))


def nearest_names(name: object, known: Iterable[str], *, max_names: int = 1, cutoff: float = 0.6) -> list[str]:
    """The known names that `name` may be a misspelling or the beginning of, the nearest first. Case does not count.

    Args:
        name: what was found.
        known: names to choose from.
        max_names: of the returned list.
        cutoff: likeness from 0 to 1 (difflib's ratio) from which a name counts as near.
    """
    wanted = str(name).lower()[:_MAX_COMPARED]
    by_lower = {each.lower(): each for each in known}
    # The beginning of a long name (vit_tiny) is not alike enough for difflib.
    begun = [each for each in by_lower if wanted and each.startswith(wanted)]
    alike = difflib.get_close_matches(wanted, by_lower, n=max_names, cutoff=cutoff)
    return [by_lower[each] for each in dict.fromkeys((*begun, *alike))][:max_names]


def did_you_mean(name: object, known: Iterable[str], *, max_names: int = 1, cutoff: float = 0.6) -> str:
    """The end of an error message on an unknown name: "; did you mean NAME?", or "" where none is near.

    Args:
        name, known, max_names, cutoff: as of `nearest_names`.
    """
    near = nearest_names(name, known, max_names=max_names, cutoff=cutoff)
    return f"; did you mean {' or '.join(near)}?" if near else ""


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
