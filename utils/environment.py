"""What the environment must say before torch, torchvision and matplotlib are loaded: names and a home."""

import contextlib
import os
import stat


def complete_environment() -> None:
    """Sets USER, HOME and MPLCONFIGDIR where the system cannot provide them.

    A container started with `--user 12345` has no entry in the password database. torchvision, torch's compiler and
    matplotlib look up the name and the home directory while they are imported, and end in a KeyError or RuntimeError.
    """
    import getpass

    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError: from Python 3.13 on
        os.environ["USER"] = f"uid{os.getuid()}"
    home = os.path.expanduser("~")
    if home == "~":  # unknown; as it is, it would become a directory of that name
        home = os.environ["HOME"] = _make_home()
    if not os.access(home, os.W_OK):  # matplotlib would search for fonts in every process, and warn
        os.environ.setdefault("MPLCONFIGDIR", os.path.join(_make_home(), "matplotlib"))


def _make_home() -> str:
    """A directory for temporary files that no other user can write, the same for every process of this user."""
    import tempfile

    path = os.path.join(tempfile.gettempdir(), f"home-of-uid-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode=0o700)
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
        return path
    return tempfile.mkdtemp(prefix=f"{os.path.basename(path)}-")  # another user has made it
