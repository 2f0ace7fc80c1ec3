"""Training, testing, corruption export and evaluation on two cores, alone and beside one busy process.

python tests/benchmarks/busy.py [--rounds 2] [--only training]

Two sides: OpenMP's threads sleep soon where they wait for each other while another process needs the cores, as
utils.openmp lets them; and they always spin for long, the default of the OpenMP library. Commands are those of a user,
in processes of their own, on the rendered pedestrians. Speeds are in images/s of the last epoch (training), else
commands or evaluations a minute; sides and loads take turns, and the fastest round counts. The machine must be idle
otherwise. Linux only.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from utils.openmp import WAIT_VARIABLES

ROOT = Path(__file__).parents[2]
CONFIG = "configs/Synthetic/cfat.yml"
# Spins of GNU's library where nothing is set (libgomp manual, GOMP_SPINCOUNT).
SIDES: dict[str, dict[str, str]] = {"share": {}, "spin": {"GOMP_SPINCOUNT": "300000"}}
BUSY = "while True: pass"
EVALUATE = """
import sys, time
sys.path.insert(0, ".")
import utils
from tests.benchmarks.measure import random_features
from utils.metrics.evaluate import evaluate_features
query, gallery = random_features(3368, 768, 750, 1), random_features(15913, 768, 750, 2)
evaluate_features(query, gallery)
start = time.perf_counter()
for _ in range(3):
    evaluate_features(query, gallery)
print(3 * 60 / (time.perf_counter() - start))
"""


def run(arguments: list[str], environment: dict[str, str]) -> str:
    """What a command prints."""
    variables = {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={**variables, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with status {done.returncode}:\n{done.stderr}")
    return done.stdout + done.stderr


def per_minute(arguments: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    run(arguments, environment)
    return 60 / (time.perf_counter() - start)


class Commands:
    """The commands, on a data set in `directory`.

    Attributes:
        by_name: of each, environment -> speed.
    """

    def __init__(self, directory: Path) -> None:
        self.data, self.out, self.copy = directory / "synthetic", directory / "run", directory / "copy"
        self.opts = ["--config_file", CONFIG, "DATASETS.ROOT_DIR", str(directory), "MODEL.DEVICE", "cpu"]
        self.opts += ["TEST.REPEATS", "1", "TEST.RANKED_QUERIES", "0", "TEST.REPORT", "False"]
        self.by_name: dict[str, Callable[[dict[str, str]], float]] = {
            "training": self.train,
            "testing": self.test,
            "corruption export": self.export,
            "evaluation": self.evaluate,
        }

    def render(self) -> None:
        run(["-m", "datasets", "synthesize", "--out", str(self.data)], {})

    def train(self, environment: dict[str, str]) -> float:
        stage = ["CFAT.STAGES", "['clean']", "CFAT.CLEAN.MAX_EPOCHS", "2"]
        shutil.rmtree(self.out, ignore_errors=True)
        run(["train.py", *self.opts, *stage, "OUTPUT_DIR", str(self.out)], environment)
        return float(re.findall(r"epoch 2/2: .* (\d+) images/s", (self.out / "log.txt").read_text())[-1])

    def test(self, environment: dict[str, str]) -> float:
        weight = self.out / "checkpoints" / "clean.pth"
        if not weight.exists():
            self.train(environment)
        shutil.rmtree(self.out / "test", ignore_errors=True)
        return per_minute(
            ["test.py", *self.opts, "TEST.WEIGHT", str(weight), "OUTPUT_DIR", str(self.out / "test")], environment
        )

    def export(self, environment: dict[str, str]) -> float:
        shutil.rmtree(self.copy, ignore_errors=True)
        return per_minute(
            ["-m", "corruption", "export", "--data", str(self.data), "--out", str(self.copy)], environment
        )

    def evaluate(self, environment: dict[str, str]) -> float:
        return float(run(["-c", EVALUATE], environment).split()[-1])


@contextlib.contextmanager
def beside(busy: int) -> Iterator[None]:
    """Runs some processes that compute without end."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="runs of each cell")
    parser.add_argument("--only", action="append", metavar="COMMAND", help="one of the commands; may be repeated")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="variable of both sides")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # children inherit it
    os.environ.update(pair.split("=", 1) for pair in args.set)
    with tempfile.TemporaryDirectory() as directory:
        commands = Commands(Path(directory))
        commands.render()
        print("| command | threads | alone | busy | busy keeps | alone, of spinning |\n|---|---|---|---|---|---|")
        for name in args.only or commands.by_name:
            speeds: dict[tuple[str, int], list[float]] = {}
            for _ in range(args.rounds):
                for busy in (0, 1):
                    for side, environment in SIDES.items():
                        with beside(busy):
                            speed = commands.by_name[name](environment)
                        speeds.setdefault((side, busy), []).append(speed)
            for side in SIDES:
                alone, busy_speed = max(speeds[side, 0]), max(speeds[side, 1])
                cells = (
                    f"{alone:.1f} | {busy_speed:.1f} | {busy_speed / alone:.0%} | {alone / max(speeds['spin', 0]):.0%}"
                )
                print(f"| {name} | {side} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
