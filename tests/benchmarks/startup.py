"""Start-up of the command lines: wall time and peak memory of --help and the like, against a bare interpreter.

python tests/benchmarks/startup.py [--rounds 5]

Commands take turns, and the fastest round counts. The last column lists heavy libraries that the command imports; there
should be none.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from utils.tables import make_table  # noqa: E402

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -m corruption list": ["-m", "corruption", "list"],
    "python train.py --help": ["train.py", "--help"],
    "python test.py --help": ["test.py", "--help"],
    "python -m datasets check --help": ["-m", "datasets", "check", "--help"],
}
HEAVY = ("torch", "torchvision", "timm", "numpy", "scipy", "cv2", "PIL", "matplotlib", "imagecorruptions", "pydantic")


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of one start."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


def heavy_imports(arguments: list[str]) -> list[str]:
    """Those of HEAVY that the command imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    return [name for name in HEAVY if name in imported]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed starts of each command")
    rounds = parser.parse_args().rounds
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            times[name].append(run(arguments))
    bare = min(times["python -c pass"])[0]
    rows = []
    for name, arguments in COMMANDS.items():
        seconds, mebibytes = min(times[name])
        heavy = ", ".join(heavy_imports(arguments)) or "none"
        rows.append((name, f"{seconds:.2f}", f"{seconds / bare:.1f}", f"{mebibytes:.0f}", heavy))
    print(make_table(["command", "seconds", "of a bare interpreter", "MiB", "heavy imports"], rows, "lrrrl"))


if __name__ == "__main__":
    main()
