"""Runs the jobs of a study in processes of their own: several at a time, resumed, none of them twice."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processor.dry_run import read_estimates
from processor.study import QUIET, Job, Plan, Study
from utils.errors import UserError
from utils.files import MIB, make_output_dir, read_json_object, read_text, write_files
from utils.locks import LOCK, lock
from utils.logging import format_seconds

logger = logging.getLogger(__name__)

RECORD = "study_job.json"  # what the study knows of a job: its digest, its seconds, whether it is done
OUTPUT = "output.txt"  # what the process prints
POLL = 0.2  # seconds between two looks at the processes
REPOSITORY = Path(__file__).resolve().parent.parent
SHOWN = 300  # characters of an error


@dataclass
class _Running:
    """A process, and when it was started."""

    job: Job
    process: subprocess.Popen
    start: float
    before: float  # seconds of earlier attempts


def is_done(job: Job) -> bool:
    """Whether an earlier run of the study finished the job, with the same settings."""
    record = _read_record(job)
    return record.get("digest") == job.digest and record.get("done") is True and job.result.exists()


def seconds_of(job: Job) -> float | None:
    """Wall time of a finished job in seconds, all its attempts together; None where it is not finished."""
    return float(_read_record(job).get("seconds", 0.0)) if is_done(job) else None


def measure(study: Study, plan: Plan) -> dict[str, float]:
    """Estimated seconds of the stages of which no other seed is done, by kind: a dry run of a variant measures two
    batches of each of its stages."""
    done = {job.kind for job in plan.jobs.values() if is_done(job)}
    known: dict[str, float] = {}
    for name, seed in dict(list(plan.tests)).items():  # one seed of each variant
        opts, jobs = study.variants[name], [plan.jobs[place] for place in plan.stages[name, seed]]
        stages = {job.stage: job.kind for job in jobs}
        if not set(stages.values()) - done - known.keys():
            continue
        command = [
            sys.executable,
            str(REPOSITORY / "train.py"),
            "--config_file",
            str(study.base),
            "--dry-run",
            *opts,
            *QUIET,
        ]
        output = str(study.output_dir / name)  # a dry run writes nothing
        found = subprocess.run([*command, "OUTPUT_DIR", output], capture_output=True, text=True, check=False)
        seconds = read_estimates(found.stdout + found.stderr)
        known |= {kind: seconds[stage] for stage, kind in stages.items() if stage in seconds and kind not in known}
    return known


def run_jobs(plan: Plan, *, at_once: int = 1) -> dict[Path, str]:
    """Runs every job that is not done, each after those that it needs. A job that fails does not stop the others.

    A job that an earlier, killed run left behind and that still runs is waited for; training resumes where it stopped.
    On SIGINT and SIGTERM the processes are asked to stop, which saves the state of the training.

    Args:
        plan: the jobs.
        at_once: processes at a time; each gets its share of the cores.

    Returns:
        Directory -> error, for the jobs that failed and those that need one of them.
    """
    waiting = [job for job in plan.jobs.values() if not is_done(job)]
    total, skipped = len(plan.jobs), len(plan.jobs) - len(waiting)
    logger.info("%d jobs, %d of them done by an earlier run; %d at a time", total, skipped, at_once)
    running: list[_Running] = []
    errors: dict[Path, str] = {}
    held: set[Path] = set()  # directories to which a process of an earlier run still writes
    handlers = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while waiting or running:
            running = [one for one in running if not _has_ended(one, errors)]
            pending = {job.directory for job in waiting} | {one.job.directory for one in running}
            for job in list(waiting):
                failed = next((place for place in job.needs if place in errors), None)
                if failed is not None:
                    errors[job.directory] = f"needs {failed}, which failed"
                    waiting.remove(job)
                elif len(running) < at_once and not pending & set(job.needs):
                    if _is_held(job):
                        if job.directory not in held:
                            logger.info("%s: waiting for another process that writes to %s", job.title, job.directory)
                            held.add(job.directory)
                        continue
                    waiting.remove(job)
                    running.append(_start(job, at_once))
            time.sleep(POLL)
    except (KeyboardInterrupt, _Stopped):
        for one in running:
            one.process.send_signal(signal.SIGTERM)
        for one in running:
            one.process.wait()
            _write_record(one.job, seconds=one.before + time.time() - one.start, done=False)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return errors


class _Stopped(SystemExit):
    """The study was asked to stop by a signal."""


def _interrupt(number: int, frame: Any) -> None:
    raise _Stopped(128 + number)


def _start(job: Job, at_once: int) -> _Running:
    make_output_dir(job.directory)
    before = 0.0
    record = _read_record(job)
    if record.get("digest") == job.digest:
        before = float(record.get("seconds", 0.0))
    _write_record(job, seconds=before, done=False)
    logger.info("%s: started, in %s", job.title, job.directory)
    script, *arguments = job.arguments
    threads = max((os.cpu_count() or 1) // at_once, 1)
    with open(job.directory / OUTPUT, "ab") as output:
        process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / script), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
            start_new_session=True,  # Ctrl-C goes to the study alone, which asks its jobs to stop
        )
    return _Running(job, process, time.time(), before)


def _has_ended(one: _Running, errors: dict[Path, str]) -> bool:
    """Whether a process has ended; then its record is written, or its error added to `errors`."""
    status = one.process.poll()
    if status is None:
        return False
    seconds = one.before + time.time() - one.start
    done = status == 0 and one.job.result.exists()
    _write_record(one.job, seconds=seconds, done=done)
    if done:
        logger.info("%s: done in %s", one.job.title, format_seconds(seconds))
        return True
    output = one.job.directory / OUTPUT
    lines = read_text(output, max_bytes=64 * MIB).strip().splitlines() or ["it printed nothing"]
    message = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
    errors[one.job.directory] = f"status {status}: {message[:SHOWN]}{'...' if len(message) > SHOWN else ''} ({output})"
    logger.error("%s: failed, %s", one.job.title, errors[one.job.directory])
    return True


def _is_held(job: Job) -> bool:
    """Whether a process that an earlier run of the study left behind still writes to the job's directory."""
    path = job.directory / LOCK
    if not path.exists():
        return False
    try:
        with lock(path, busy="held"):
            return False
    except UserError:
        return True


def _read_record(job: Job) -> dict[str, Any]:
    try:
        return read_json_object(job.directory / RECORD, max_bytes=MIB)
    except UserError:
        return {}  # none, or damaged: the job runs again and resumes


def _write_record(job: Job, *, seconds: float, done: bool) -> None:
    content: Mapping[str, Any] = {"digest": job.digest, "seconds": round(seconds, 1), "done": done}
    write_files({job.directory / RECORD: lambda path: path.write_text(json.dumps(content))}, replace=True)
