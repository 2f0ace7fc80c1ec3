"""The one exception for mistakes that a user can mend, and how a command line ends on it."""

import argparse
import re
import sys
from typing import NoReturn

from utils.text import printable_lines

# How a DataLoader's worker sends its exception: as text, with the traceback in front.
_OF_WORKER = re.compile(r"\ACaught \w+ in DataLoader worker process \d+\.\n.*^utils\.errors\.UserError: ", re.M | re.S)


class UserError(ValueError):
    """Bad input of a user: the message says what was found, what was expected, where, and what to do next."""

    def __str__(self) -> str:
        return _OF_WORKER.sub("", super().__str__()).strip()


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, whose errors cannot steer a terminal."""

    def error(self, message: str) -> NoReturn:
        super().error(printable_lines(message))


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
