"""Training pairs per second from the loader: without corruption and with each backend, one and two workers, in one run.

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


def pairs_per_second(root: str, *, backend: str | None, workers: int) -> float:
    """Rate over whole epochs, after a first one that starts the workers; without a backend no picture is corrupted."""
    opts = [
        "DATASETS.ROOT_DIR", root, "DATASETS.NAMES", "market1501", "DATASETS.CHECK_COUNTS", "False",
        "DATALOADER.NUM_WORKERS", str(workers), "CORRUPTION.CLEAN_PROB", "0.0" if backend else "1.0",
        "CORRUPTION.BACKEND", backend or "fast",
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
        print("| workers | without corruption | fast | share | imagecorruptions | share |\n|---|---|---|---|---|---|")
        for workers in (1, 2):
            clean, *rates = (
                pairs_per_second(root, backend=backend, workers=workers)
                for backend in (None, "fast", "imagecorruptions")
            )
            cells = " | ".join(f"{rate:.0f} | {rate / clean:.2f}" for rate in rates)
            print(f"| {workers} | {clean:.0f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
