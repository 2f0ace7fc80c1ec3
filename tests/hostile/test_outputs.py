"""Links, devices and directories in the places that a run writes: nothing outside is touched, and nothing hangs."""

import logging
import os
import resource
import signal
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from processor.plots import AttentionRow, RankedRow, save_attention, save_corruption_matrix, save_ranked_lists
from processor.results import COLUMNS, ResultFiles
from tests.hostile.text import MATHEMATICS, hostile_names
from utils.checkpoints import load_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.files import make_output_dir, write_text
from utils.logging import setup_logging

PRECIOUS = "precious"
KEPT = {  # what may stand in the place of a file of ours, without harm: it is backed up
    "link": lambda path, outside: path.symlink_to(outside / "file"),
    "dangling link": lambda path, outside: path.symlink_to(outside / "nothing"),
    "link to a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "hard link": lambda path, outside: path.hardlink_to(outside / "file"),
    "FIFO": lambda path, outside: os.mkfifo(path),
}
REFUSED = {
    "directory": lambda path, outside: path.mkdir(),
    "link to a directory": lambda path, outside: path.symlink_to(outside),
}


@pytest.fixture
def run(tmp_path):
    """An output directory, and beside it files that a run must not touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text(PRECIOUS)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "run"
    assert (tmp_path / "outside" / "file").read_text() == PRECIOUS
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["file"]
    assert not list(tmp_path.rglob("*.partial"))


WRITERS = {
    "config.yml": lambda directory: write_text(directory / "config.yml", "SEED: 1\n"),
    "results.json": lambda directory: ResultFiles(directory).write({"weight": "a.pth"}, []),
    "results.csv": lambda directory: ResultFiles(directory).write({"weight": "a.pth"}, []),
    "checkpoints/clean.pth": lambda directory: save_checkpoint(
        directory / "checkpoints" / "clean.pth", {}, {"epoch": 1}
    ),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", KEPT)
def test_what_stands_in_a_place_is_kept_and_not_followed(run, name, kind):
    KEPT[kind](run / name, run.parent / "outside")
    WRITERS[name](run)
    WRITERS[name](run)
    written, kept = run / name, (run / name).with_stem(f"{Path(name).stem}.1")
    assert written.is_file()
    assert not written.is_symlink()
    assert os.path.lexists(kept) or kind == "dangling link"
    if name.endswith(".pth"):
        assert load_checkpoint(written)["meta"] == {"epoch": 1}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", REFUSED)
def test_a_directory_in_a_place_is_an_error(run, name, kind):
    REFUSED[kind](run / name, run.parent / "outside")
    with pytest.raises(UserError, match=r"is a directory; expected a file, or nothing there"):
        WRITERS[name](run)


@pytest.mark.parametrize("kind", [*KEPT, *REFUSED])
def test_the_log_is_a_regular_file(run, kind, restored_logging):
    {**KEPT, **REFUSED}[kind](run / "log.txt", run.parent / "outside")
    if kind == "hard link":  # which cannot be distinguished from a file
        return
    with pytest.raises(UserError, match=r"log\.txt: .*; expected a regular file, or none"):
        setup_logging(run)


def test_the_log_is_appended_to(run, restored_logging):
    (run / "log.txt").write_text("before\n")
    setup_logging(run)
    logging.getLogger("tests").info("Ünïcødé")
    assert (run / "log.txt").read_text().splitlines()[0] == "before"
    assert (run / "log.txt").read_text().endswith("INFO Ünïcødé\n")


def test_a_full_disk_ends_the_log_alone(run, capfd, restored_logging):
    def log_much():
        setup_logging(run)
        for number in range(100):
            logging.getLogger("tests").info("%d %s", number, "x" * 100)
        setup_logging()

    assert _in_little_space(2000, log_much) == 0
    assert (run / "log.txt").stat().st_size <= 2000
    reported = [line for line in capfd.readouterr().err.splitlines() if "log.txt" in line]
    assert len(reported) == 1
    assert "cannot be written ([Errno 27] File too large)" in reported[0]


def test_checkpoints_may_lie_on_another_disk(run):
    (run / "checkpoints").rmdir()
    disk = run.parent / "disk"
    disk.mkdir()
    (run / "checkpoints").symlink_to(disk)
    WRITERS["checkpoints/clean.pth"](run)
    assert [path.name for path in disk.iterdir()] == ["clean.pth"]


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "file/run", "loop/run"])
def test_an_output_directory_that_cannot_be(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"output directory .*: cannot be written .*choose another one"):
        make_output_dir(tmp_path / name)


IMAGE = np.zeros((16, 8, 3), np.uint8)
FIGURES = {
    "ranked": lambda path, text: save_ranked_lists(
        path, [RankedRow(text, IMAGE, [IMAGE], [True], notes=["0.1"])], title=f"{text}\nfirst 1"
    ),
    "attention": lambda path, text: save_attention(
        path, [AttentionRow(text, text, (IMAGE, IMAGE), (np.eye(2), np.eye(2)))], title=text
    ),
    "matrix": lambda path, text: save_corruption_matrix(
        path, {"fog": [0.5, 0.4]}, [1, 2], {"weather": ("fog",)}, clean=0.6, title=text
    ),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_no_text_in_a_figure_is_mathematics(tmp_path, figure):
    """All at once, as each figure takes a while; a warning, as of letters without a font, would be an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FIGURES[figure](tmp_path / "all.png", " ".join(MATHEMATICS))
        FIGURES[figure](tmp_path / "hostile.png", " ".join(hostile_names(seed=3)))
    assert (tmp_path / "all.png").stat().st_size > 1000


def test_a_matplotlibrc_of_the_user_changes_nothing(tmp_path):
    """LaTeX, which may not be there, would be asked to set the text."""
    FIGURES["matrix"](tmp_path / "plain.png", "a $title")
    own = {"text.usetex": True, "font.family": "cursive", "figure.facecolor": "red", "axes.grid": True}
    with matplotlib.rc_context(own):
        FIGURES["matrix"](tmp_path / "own.png", "a $title")
        assert matplotlib.rcParams["text.usetex"]  # the user's own figures keep the user's style
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def _in_little_space(limit, action):
    """Runs `action` in a child whose files may have `limit` bytes; its status is 3 for a UserError that says so."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            action()
            status = 0
        except UserError as error:
            status = 3 if "could not be written" in str(error) and "is not lost" in str(error) else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("name", ["results.csv", "figure.png"])
def test_a_full_disk_is_one_error_and_the_earlier_file_stays(run, name):
    for earlier in ("results.csv", "results.json", "figure.png"):
        (run / earlier).write_text(PRECIOUS)
    large = [dict.fromkeys(COLUMNS, "x" * 1000)] * 10
    actions = {
        "results.csv": lambda: ResultFiles(run).write({"weight": "a.pth"}, large),
        "figure.png": lambda: FIGURES["matrix"](run / "figure.png", "title"),
    }
    assert _in_little_space(2000, actions[name]) == 3
    names = sorted(path.name for path in run.iterdir())
    assert names == ["checkpoints", "figure.png", "results.csv", "results.json"]
    assert (run / name).read_text() == PRECIOUS
