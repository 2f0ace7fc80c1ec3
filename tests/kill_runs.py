"""Kills a small training run at random moments until it is done, and compares its checkpoints with an unkilled run's.

python tests/kill_runs.py [--kills 20] [--seed 0] [--out DIR]        by hand: minutes

Every kill is SIGKILL to the run and its workers, after a random time; the next start resumes with SOLVER.RESUME auto.
At the end the tensors of every checkpoint must be the same to the last bit; the status is 1 where they are not.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from datasets.synthetic.generate import SyntheticSettings, synthesize
from tests.helpers import REPOSITORY
from tests.test_resume import SETTINGS, check_equal, weights

OPTIONS = {"DATALOADER.NUM_WORKERS": 2, "SOLVER.MAX_EPOCHS": 6}


def start(root: Path, out: Path) -> subprocess.Popen:
    settings = {**SETTINGS, **OPTIONS, "DATASETS.ROOT_DIR": root, "OUTPUT_DIR": out, "SOLVER.RESUME": "auto"}
    command = [sys.executable, "train.py", *(str(part) for pair in settings.items() for part in pair)]
    out.mkdir(exist_ok=True)
    with (out.parent / f"{out.name}.log").open("a") as log:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)


def kill(process: subprocess.Popen) -> None:
    """Kills the run and its workers, which have process groups of their own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in [process.pid, *map(int, children)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="an empty directory; none: a temporary one")
    arguments = parser.parse_args(argv)
    rng = np.random.default_rng(arguments.seed)
    directory = arguments.out or Path(tempfile.mkdtemp())
    settings = SyntheticSettings(num_identities=24, num_cameras=3, images_per_camera=3)
    synthesize(directory / "data" / "market1501", settings, workers=1)
    started = time.monotonic()
    if start(directory / "data", directory / "whole").wait():
        print(f"the unkilled run failed: {directory / 'whole.log'}")
        return 1
    whole, kills = time.monotonic() - started, 0
    while True:
        process = start(directory / "data", directory / "killed")
        try:
            status = process.wait(rng.uniform(0.1, 1.0) * whole if kills < arguments.kills else None)
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
            print(f"kill {kills}", flush=True)
            continue
        if status:
            print(f"a start after {kills} kills failed: {directory / 'killed.log'}")
            return 1
        if kills >= arguments.kills:
            break
        for path in (directory / "killed" / "checkpoints").iterdir():  # finished too early: start over
            path.unlink()
    check_equal(weights(directory / "killed"), weights(directory / "whole"))
    print(f"{kills} kills: every checkpoint is the same to the last bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
