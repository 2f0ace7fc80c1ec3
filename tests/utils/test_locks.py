"""Locks between real processes; what stands in the place of a lock file is left as it is."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import REPOSITORY
from utils.errors import UserError
from utils.locks import lock, lock_output_dir

FORK = multiprocessing.get_context("fork")


def in_another_process(function, *arguments):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with function(*arguments):
                status = 0
        except UserError as error:
            status = 2 if "another run is writing to it; choose another OUTPUT_DIR" in str(error) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_one_run_at_a_time_in_a_directory(tmp_path):
    with lock_output_dir(tmp_path):
        assert in_another_process(lock_output_dir, tmp_path) == 2
        assert in_another_process(lock_output_dir, tmp_path) == 2  # the first has not taken the lock away
    assert in_another_process(lock_output_dir, tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def hold_for_a_while(path, inside, start, seconds, counts):
    start.wait()
    end, held, most = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        try:
            with lock(path, busy="busy"):
                descriptor = os.open(inside, os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # fails where another is inside
                os.close(descriptor)
                held += 1
                os.unlink(inside)
        except UserError:
            pass
        except FileExistsError:
            most = 2
    counts.put((held, most))


def test_there_are_never_two_holders(tmp_path):
    """Twelve processes fight for a second; a holder would find the file of another one inside."""
    start, counts = FORK.Barrier(12), FORK.Queue()
    arguments = (tmp_path / ".lock", tmp_path / "inside", start, 1.0, counts)
    processes = [FORK.Process(target=hold_for_a_while, args=arguments) for _ in range(12)]
    for process in processes:
        process.start()
    found = [counts.get(timeout=30) for _ in processes]
    for process in processes:
        process.join()
    assert [most for _, most in found] == [0] * 12
    assert sum(held for held, _ in found) > 50


def test_the_lock_of_a_killed_run_is_free_though_its_workers_live(tmp_path):
    program = (
        "import os, sys, time\n"
        "from utils.locks import lock_output_dir\n"
        "with lock_output_dir(sys.argv[1]):\n"
        "    if os.fork():\n"
        "        print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stdout.readline() == b"held\n"
        assert in_another_process(lock_output_dir, tmp_path) == 2
        process.kill()
        process.wait()
        assert in_another_process(lock_output_dir, tmp_path) == 0
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the worker
        process.stdout.close()


PRECIOUS = "precious"


@pytest.mark.parametrize("target", ["file", "nothing", "directory"])
def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path, target):
    (tmp_path / "file").write_text(PRECIOUS)
    (tmp_path / "directory").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match=r"lock file .*\.lock: cannot be locked .*expected a regular file"):  # noqa: SIM117
        with lock_output_dir(tmp_path / "run"):
            pass
    assert (tmp_path / "file").read_text() == PRECIOUS
    assert not (tmp_path / "nothing").exists()


def test_a_lock_file_is_never_written(tmp_path):
    (tmp_path / "precious").write_text(PRECIOUS)
    os.link(tmp_path / "precious", tmp_path / ".lock")
    with lock_output_dir(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == PRECIOUS


def test_an_output_directory_may_be_a_link_itself(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with lock_output_dir(tmp_path / "run"):
        assert in_another_process(lock_output_dir, tmp_path / "disk") == 2


def test_who_holds_the_lock_removes_leftovers_of_this_project_alone(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    ours = [
        tmp_path / f".results.json.{os.getpid()}.partial",  # of an earlier version, by a process of the same number
        tmp_path / "checkpoints" / ".clean_last.pth.999999999.partial",
        tmp_path / "checkpoints" / ".clean_last.pth.0123456789abcdef.partial",
    ]
    foreign = [tmp_path / ".film.mp4.partial", tmp_path / ".partial", tmp_path / "checkpoints" / "clean.pth"]
    for path in (*ours, *foreign):
        path.touch()
    with lock_output_dir(tmp_path):
        assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in foreign)


def test_without_locks_work_goes_on_and_nothing_is_removed(tmp_path, monkeypatch, caplog):
    import fcntl

    def no_locks(*_):
        raise OSError(37, os.strerror(37))  # ENOLCK: what NFS says without its lock service

    monkeypatch.setattr(fcntl, "flock", no_locks)
    leftover = tmp_path / ".results.json.0123456789abcdef.partial"
    leftover.touch()
    with lock_output_dir(tmp_path):
        assert leftover.exists()
    assert "its file system has no locks; let one process at a time write there" in caplog.text
