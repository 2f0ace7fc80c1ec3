"""What joining two processes over gloo adds to a training step, in one run.

python tests/benchmarks/processes.py [--batch 32] [--steps 40] [--rounds 3]

Steps of the align stage of configs/Synthetic/cfat_plus.yml. Joined: two processes of one thread share batches of
--batch images. Apart: two such processes train on their own at the same time, each on batches of half as many, so that
both sides compute the same convolutions and products; what is more on the first side is exchanging embeddings and
gradients, and losses on the whole batch in each process. One process: the same batch in one, with two threads. Sides
take turns, and the fastest round counts. The machine must be idle otherwise.
"""

import argparse
import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from config import load_cfg
from datasets import make_dataloader
from datasets.synthetic.generate import SyntheticSettings, synthesize
from loss import make_loss
from model import make_model
from processor.batches import to_device
from processor.train import StageTrainer
from solver import make_optimizer, make_scheduler
from utils.distributed import process_group
from utils.seeds import set_global_seeds
from utils.tables import make_table

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
WARM_UP = 5  # in the first three steps, DistributedDataParallel chooses its buckets
NAME = "market1501"


def time_steps(root: str, batch: int, steps: int, threads: int) -> float:
    """Milliseconds of a step, in this process or as one of several."""
    torch.set_num_threads(threads)
    settings = {
        "DATASETS.NAMES": NAME,
        "DATASETS.ROOT_DIR": root,
        "DATASETS.CHECK_COUNTS": False,
        "CFAT.STAGE": "align",
        "MODEL.DEVICE": "cpu",
        "OUTPUT_DIR": root,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": batch,
    }
    cfg = load_cfg("configs/Synthetic/cfat_plus.yml", [str(part) for pair in settings.items() for part in pair])
    with process_group():
        set_global_seeds(cfg.SEED, "align")
        data = make_dataloader(cfg)
        model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
        loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
        optimizer = make_optimizer(cfg, model, loss_fn)
        scheduler = make_scheduler(cfg, optimizer)
        trainer = StageTrainer(cfg, data, model.train(), loss_fn, optimizer, scheduler, device=CPU)
        batches = [to_device(found, CPU) for found in itertools.islice(data.train, 4)]
        for number in range(WARM_UP + steps):
            if number == WARM_UP:
                start = time.perf_counter()
            trainer.step(batches[number % len(batches)])
        return 1000 * (time.perf_counter() - start) / steps


def run(count: int, joined: bool, *arguments: str) -> float:
    """Milliseconds of a step of the slowest of `count` processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, __file__, "--child", *arguments]
    started = []
    for rank in range(count):
        place = {"WORLD_SIZE": str(count), "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = {**os.environ, **(place | {"LOCAL_RANK": str(rank)} if joined else {})}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("a process failed, see above")
    return max(float(re.search(r"(\S+) ms", output)[1]) for output in outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=4, metavar=("ROOT", "BATCH", "STEPS", "THREADS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        root, *numbers = args.child
        print(f"{time_steps(root, *map(int, numbers)):.3f} ms")
        return
    with tempfile.TemporaryDirectory() as root:
        synthesize(Path(root) / NAME, SyntheticSettings(num_identities=80))
        sides = {
            "two processes, joined": (2, True, root, str(args.batch), str(args.steps), "1"),
            "two processes, apart": (2, False, root, str(args.batch // 2), str(args.steps), "1"),
            "one process, two threads": (1, False, root, str(args.batch), str(args.steps), "2"),
        }
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, side in sides.items():
                found[name].append(run(*side))
    best = {name: min(times) for name, times in found.items()}
    apart = best["two processes, apart"]
    rows = [
        [name, f"{ms:.1f}", f"{ms - apart:+.1f}", f"{ms / apart:.2f}", f"{1000 * args.batch / ms:.0f}"]
        for name, ms in best.items()
    ]
    print(f"batches of {args.batch} images, torch {torch.__version__}\n")
    print(make_table(["side", "ms a step", "beside apart", "ratio", "images/s"], rows, "lr"))


if __name__ == "__main__":
    main()
