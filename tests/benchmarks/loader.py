"""Training pairs per second from the loader: with and without corruption, with one and two workers, in one run.

python tests/benchmarks/loader.py
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from config import load_cfg
from datasets import make_dataloader
from datasets.synthetic import SyntheticSettings, synthesize

EPOCHS = 2


def pairs_per_second(root: str, *, corrupted: bool, workers: int) -> float:
    """Rate over whole epochs, after a first one that starts the workers."""
    opts = [
        "DATASETS.ROOT_DIR", root, "DATASETS.NAMES", "market1501", "DATASETS.CHECK_COUNTS", "False",
        "DATALOADER.NUM_WORKERS", str(workers), "CORRUPTION.CLEAN_PROB", "0.0" if corrupted else "1.0",
    ]  # fmt: skip
    loader = make_dataloader(load_cfg("configs/Synthetic/cfat.yml", opts)).train
    pictures, start = 0, 0.0
    for epoch in range(1 + EPOCHS):
        if epoch == 1:
            pictures, start = 0, time.perf_counter()
        loader.batch_sampler.set_epoch(epoch)
        pictures += sum(len(batch["pids"]) for batch in loader)
    return pictures / (time.perf_counter() - start)


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        synthesize(Path(root) / "market1501", SyntheticSettings(num_identities=60))
        print("workers  clean pairs/s  corrupted pairs/s  ratio")
        for workers in (1, 2):
            clean, corrupted = (pairs_per_second(root, corrupted=flag, workers=workers) for flag in (False, True))
            print(f"{workers:>7}  {clean:>13.0f}  {corrupted:>17.0f}  {clean / corrupted:>5.2f}")


if __name__ == "__main__":
    main()
