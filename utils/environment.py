"""What the environment must say before torch, torchvision and matplotlib are loaded."""

import contextlib
import os
import stat

# What a user sets to choose how OpenMP's threads wait for each other.
WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


# How often a waiting thread of GNU's library looks again before it sleeps, about a quarter of a millisecond: most waits
# of a thread that runs are shorter, those for one whose core another process has are longer. On two cores, sleeping at
# once costs a training step a fifth of its speed, this count 6 %; beside a busy process, the library's own 300,000
# leave a tenth of the speed, this one half (docs/results.md, Busy machines).
SPINS = "5000"


def let_threads_sleep() -> None:
    """Lets OpenMP's threads sleep soon where they wait for each other, unless the user has chosen how they wait.

    By default they spin for long. Beside another busy process, they then hold the core that the thread they wait for
    needs. The OpenMP library reads the variables when torch is loaded: GNU's GOMP_SPINCOUNT
    (https://gcc.gnu.org/onlinedocs/libgomp), LLVM's OMP_WAIT_POLICY (https://www.openmp.org/specifications).
    """
    if not any(name in os.environ for name in WAIT_VARIABLES):
        os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"] = "PASSIVE", SPINS


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
