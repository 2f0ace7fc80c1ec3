"""What every command line of the project shares: argument parsing, paths in arguments, and how a command ends."""

import argparse
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from utils.distributed import world_size
from utils.errors import UserError, did_you_mean
from utils.escaping import printable_lines
from utils.files import expand_path

_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")  # as config/defaults.py spells keys
_NEAR = 0.75  # similarity of two options, which both begin with dashes, for which one is suggested for the other


class ArgumentParser(argparse.ArgumentParser):
    """An argparse.ArgumentParser that hints at what an unknown argument may mean.

    Error messages escape control characters in the arguments.

    Args:
        keys: of a command without KEY VALUE arguments: where keys are set instead, for the message.
        options: those of argparse.ArgumentParser.
    """

    def __init__(self, *, keys: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.keys = keys

    def error(self, message: str) -> NoReturn:
        super().error(printable_lines(message))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, but unknown arguments end it here, where the command's own parser describes them."""
        given = [*(sys.argv[1:] if args is None else args)]
        found, unknown = super().parse_known_args(given, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(given, unknown)}")
        return found, unknown

    def _hint(self, given: Sequence[str], unknown: Sequence[str]) -> str:
        """What the first unknown argument may mean: a known option, or a key written like one."""
        option, _, value = unknown[0].partition("=")
        key = option.lstrip("-")
        takes_keys = any(action.dest == "opts" for action in self._actions)
        if option == key or (takes_keys and _KEY.fullmatch(key)):
            meant = ""
        else:
            meant = did_you_mean(option, self._option_string_actions, cutoff=_NEAR)
        if meant or option == key or not takes_keys:
            return meant or (f"; {self.keys}" if self.keys else "")
        after = given[given.index(unknown[0]) + 1 :]
        value = value or next((word for word in after[:1] if not word.startswith("--")), "VALUE")
        return f"; a key is written without dashes, as KEY VALUE: {key.replace('-', '_').upper()} {value}"


def expand_arguments(args: argparse.Namespace, *names: str) -> argparse.Namespace:
    """Expands ~ and environment variables in the attributes `names` of `args`; None stays None.

    Raises:
        UserError: see `utils.files.expand_path`.
    """
    for name in names:
        path = getattr(args, name, None)
        if path is not None:
            setattr(args, name, type(path)(expand_path(str(path), f"--{name.replace('_', '-')}")))
    return args


def make_command(script: str, config_file: str | None, opts: Sequence[str]) -> str:
    """The command that runs a script with a configuration again, quoted for a shell, e.g. "python train.py SEED 2"."""
    processes = world_size()
    start = ["python"] if processes == 1 else ["torchrun", "--nproc_per_node", str(processes)]
    config = [] if config_file is None else ["--config_file", config_file]
    return " ".join(map(_quote, [*start, script, *config, *map(str, opts)]))


def _quote(word: str) -> str:
    """As shlex.quote, but a word with single quotes alone, as "['clean']", is put between double ones."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!\n') else shlex.quote(word)


def at_least(minimum: int) -> Callable[[str], int]:
    """An argument type: an integer of at least `minimum`."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is no integer of at least {minimum}")
        return int(text)

    return convert


def run_main(main: Callable[[], int | None], *errors: type[Exception]) -> int:
    """Calls `main()` and returns the exit status of the process.

    UserError and the types `errors` print one message and give 1, Ctrl-C gives 130.
    """
    caught: tuple[type[Exception], ...] = (UserError, *errors)
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")  # for characters that the terminal's encoding lacks
    try:
        return main() or 0
    except caught as error:
        print(f"error: {printable_lines(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
