"""Features of images: the model alone, and test.py's path from JPEGs on disk, in one run.

python tests/benchmarks/inference.py [--device auto --batch 128 --images 4096 --workers 8]

ViT-B/16 at 256 x 128; on a CPU by default in batches of 16, of 256 images, with a thread for each core that reads.
The model alone repeats its forward pass over one batch that waits on the device: the most that reading, resizing and
moving images can leave. Half precision is what `FeatureExtractor(half=True)` computes in.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from config import load_cfg
from datasets.synthetic.generate import SyntheticSettings, synthesize
from model import FeatureExtractor, make_model
from utils.checkpoints import save_checkpoint
from utils.devices import pick_device
from utils.image_listing import image_paths
from utils.tables import make_table


def images_per_second(call: Callable[[], int], device: torch.device) -> float:
    call()  # kernels are chosen and memory is taken
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < 2:
        count += call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--images", type=int, help="JPEGs on disk, at most")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    args = parser.parse_args()
    device = pick_device(args.device)
    args.batch = args.batch or (128 if device.type == "cuda" else 16)
    args.images = args.images or (4096 if device.type == "cuda" else 256)
    cfg = load_cfg(opts=["CFAT.STAGES", "['clean']", "MODEL.PRETRAIN_PATH", ""])
    height, width = cfg.INPUT.SIZE_TEST
    rows = []
    with tempfile.TemporaryDirectory() as root:
        synthesize(Path(root) / "images", SyntheticSettings(num_identities=args.images // 24 + 1))
        paths = image_paths(Path(root) / "images")[: args.images]
        weight = Path(root) / "model.pth"
        model = make_model(cfg, num_classes=10, num_cameras=6, num_views=1)
        save_checkpoint(weight, {"model": model.state_dict()}, {"stage": "clean", "config": cfg.dump()})
        for half in (False, True):
            extractor = FeatureExtractor(
                weight, device=device, batch_size=args.batch, num_workers=args.workers, half=half, progress=False
            )
            batch = torch.randint(0, 256, (args.batch, 3, height, width), dtype=torch.uint8, device=device)

            def alone(extractor: FeatureExtractor = extractor, batch: torch.Tensor = batch) -> int:
                return len(extractor._extract(batch))  # ends with a copy to the host, which waits for the device

            bare = images_per_second(alone, device)
            read = images_per_second(lambda extractor=extractor: len(extractor(paths)), device)
            rows.append(["half" if half else "float32", f"{bare:,.0f}", f"{read:,.0f}", f"{read / bare:.2f}"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, {height} x {width}, batches of {args.batch}, {len(paths):,} JPEGs, {args.workers} threads\n")
    print(make_table(["precision", "model alone, images/s", "from JPEGs", "of the model"], rows, "lr"))


if __name__ == "__main__":
    main()
