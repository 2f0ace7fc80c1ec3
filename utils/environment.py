"""What libraries ask the system for about the user, where the system knows nothing."""

import contextlib
import getpass
import os
import stat
import tempfile


def complete_environment() -> None:
    """Gives a user without an entry in the password database a name and a home directory.

    That is whoever a container runs as with `--user 12345`. torchvision, torch's compiler and matplotlib look for both
    while they are imported, and end in a KeyError or RuntimeError where there is none.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError: from Python 3.13 on
        os.environ["USER"] = f"uid{os.getuid()}"
    home = os.path.expanduser("~")
    if home == "~":  # unknown, and would become a directory of that name
        home = os.environ["HOME"] = _make_home()
    if not os.access(home, os.W_OK):  # else matplotlib would collect its fonts anew in every process, and say so
        os.environ.setdefault("MPLCONFIGDIR", os.path.join(_make_home(), "matplotlib"))


def _make_home() -> str:
    """A directory below the one for temporary files that no other user can write, the same for every process."""
    path = os.path.join(tempfile.gettempdir(), f"home-of-uid-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode=0o700)
    status = os.lstat(path)
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
        return path
    return tempfile.mkdtemp(prefix=f"{os.path.basename(path)}-")  # someone else was there first
