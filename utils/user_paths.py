"""Paths as users write them: ~ and environment variables are expanded here and nowhere else."""

import argparse
import os
import re

from utils.errors import UserError

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_][A-Za-z0-9_]*))")


def expand_path(path: str, where: str) -> str:
    """`path` with ~, ~USER, $NAME and ${NAME} written out.

    A name with a dollar sign that exists as it is written is taken as it is written.

    Args:
        path: a path; "" stays "".
        where: key or argument, for the message.

    Raises:
        UserError: a variable that is not set or empty (its path would be another one without a word), a user without a
            home directory, or a NUL.
    """
    if "\0" in path:
        raise UserError(f"{where}: found {path!r:.80}, which holds a NUL; no path has one")

    def value(match: re.Match) -> str:
        name = match[1] if match[1] is not None else match[2]
        if not os.environ.get(name):
            raise UserError(
                f"{where}: found {path!r}, and the environment variable {name or '${}'} is not set; set it, or write "
                "the path out"
            )
        return os.environ[name]

    expanded = path if "$" in path and os.path.lexists(path) else _VARIABLE.sub(value, path)
    home = os.path.expanduser(expanded)
    if home.startswith("~") and not os.path.lexists(home):
        raise UserError(
            f"{where}: found {path!r}, and {home.split('/')[0]} has no home directory; write the path out, or begin it "
            "with ./ where the name begins with ~"
        )
    return home


def expand_arguments(args: argparse.Namespace, *names: str) -> argparse.Namespace:
    """`args` with the paths in its attributes `names` expanded; None stays None.

    Raises:
        UserError: as of `expand_path`.
    """
    for name in names:
        path = getattr(args, name, None)
        if path is not None:
            setattr(args, name, type(path)(expand_path(str(path), f"--{name.replace('_', '-')}")))
    return args
