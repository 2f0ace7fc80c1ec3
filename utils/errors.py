"""The one exception for mistakes that a user can mend, and how a command line ends on it."""

import sys


class UserError(ValueError):
    """Bad input of a user: the message says what was found, what was expected, where, and what to do next."""

    def __str__(self) -> str:
        # A DataLoader worker sends its exception as text with its traceback in front; a user needs the last message.
        return super().__str__().rsplit("UserError: ", 1)[-1].strip()


def run_main(main, *errors: type[Exception]) -> int:
    """Calls `main()` and returns its exit status; UserError and `errors` end in one message and status 1."""
    try:
        return main() or 0
    except (UserError, *errors) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
