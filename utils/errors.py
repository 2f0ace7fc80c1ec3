"""The exception for input that a user can correct, and the hint at a name that the user may have meant."""

import re
from collections.abc import Iterable

# A DataLoader worker sends its exception as text, with the traceback in front.
_OF_WORKER = re.compile(r"\ACaught \w+ in DataLoader worker process \d+\.\n.*^utils\.errors\.UserError: ", re.M | re.S)
_MAX_NAME = 80  # characters compared: difflib takes time that grows with the square of the length


class UserError(ValueError):
    """Wrong input of a user. The message says what was found, what was expected, where, and what to do next."""

    def __str__(self) -> str:
        return _OF_WORKER.sub("", super().__str__()).strip()


def did_you_mean(name: object, known: Iterable[str], *, count: int = 1, cutoff: float = 0.6) -> str:
    """The end of an error message about an unknown name: "; did you mean A or B?", or "" where no known name is near.

    Case does not count. Known names that begin with `name` come before similar ones.

    Args:
        name: what the user wrote.
        known: names that are valid.
        count: names to suggest, at most.
        cutoff: similarity from 0 to 1 that a suggestion needs, see difflib.get_close_matches.
    """
    import difflib

    lower = str(name).lower()[:_MAX_NAME]
    by_lower = {other.lower(): other for other in known}
    near = [other for other in by_lower if lower and other.startswith(lower)][:count]
    near = near or difflib.get_close_matches(lower, by_lower, n=count, cutoff=cutoff)
    return f"; did you mean {' or '.join(by_lower[other] for other in near)}?" if near else ""
