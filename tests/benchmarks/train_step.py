"""Training steps of CFAT's align stage (teacher, student and bridge), ours against the TransReID codebase's way.

python tests/benchmarks/train_step.py                  ViT-B/16 at 256 x 128, batches of 64, 128 and 256; on a CPU of 8
python tests/benchmarks/train_step.py --profile 128    where the time of a step goes, by operator

TransReID's step: half precision (fp16 on a GPU) around model and loss, attention written out, pixels converted to
float on the host, optimizer not fused, .item() and a synchronisation in every step. Images wait in (pinned) memory;
the last line is training from JPEGs on disk, with the share of the time that waits for data. Model FLOP utilisation:
FLOPs of the step (counted by torch, without recomputation) over the time and the rate of a large matrix product,
measured in the same run.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from config import load_cfg
from datasets import make_dataloader
from datasets.synthetic.generate import SyntheticSettings, synthesize
from loss import make_loss
from model import make_model
from processor.batches import to_device
from processor.step import TrainStep, resolve_amp
from solver import make_optimizer
from utils.devices import pick_device
from utils.tables import make_table

NUM_CLASSES, NUM_CAMERAS = 751, 6
INSTANCES = 8
MATRIX = {"cuda": 8192, "cpu": 2048}
BATCHES = {"cuda": [64, 128, 256], "cpu": [8]}
STEPS = {"cuda": 30, "cpu": 4}
PROFILED_STEPS = 3
IDENTITIES = 200  # on disk, half of them to train on: tens of batches an epoch, as each epoch starts with a wait


def configure(batch: int, device: torch.device, *opts: str):
    settings = {
        "MODEL.PRETRAIN_PATH": "",
        "CFAT.STAGE": "align",
        "SOLVER.IMS_PER_BATCH": batch,
        "MODEL.DEVICE": device.type,
        "DATALOADER.NUM_INSTANCE": min(INSTANCES, batch),
    }
    return load_cfg(opts=[*(str(part) for pair in settings.items() for part in pair), *opts])


def random_batch(batch: int, device: torch.device) -> dict:
    generator = torch.Generator().manual_seed(0)

    def pixels() -> torch.Tensor:
        values = torch.randint(0, 256, (batch, 3, 256, 128), dtype=torch.uint8, generator=generator)
        return values.pin_memory() if device.type == "cuda" else values

    return {
        "images": pixels(),
        "corrupted": pixels(),
        "pids": torch.arange(batch) // INSTANCES,
        "camids": torch.randint(0, NUM_CAMERAS, (batch,), generator=generator),
        "viewids": torch.zeros(batch, dtype=torch.int64),
        "paths": [""] * batch,
    }


def build(cfg, device: torch.device):
    torch.manual_seed(0)
    model = make_model(cfg, num_classes=NUM_CLASSES, num_cameras=NUM_CAMERAS, num_views=1).to(device)
    loss_fn = make_loss(cfg, num_classes=NUM_CLASSES, feat_dim=model.embed_dim).to(device)
    return model.train(), loss_fn


def make_our_step(cfg, device: torch.device) -> Callable[[dict], None]:
    model, loss_fn = build(cfg, device)
    amp = resolve_amp(cfg.SOLVER.AMP, device)
    step = TrainStep(model, loss_fn, make_optimizer(cfg, model, loss_fn), device=device, amp=amp)
    return lambda batch: step(to_device(batch, device))


def make_transreid_step(cfg, device: torch.device) -> Callable[[dict], None]:
    model, loss_fn = build(cfg, device)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    optimizer = torch.optim.SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        fused=False,
    )
    half = device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=half)

    def step(batch: dict) -> None:
        floats = {key: value.float() / 255 if key in ("images", "corrupted") else value for key, value in batch.items()}
        moved = {key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in floats.items()}
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.float16, enabled=half):
            output = model(moved)
            losses = loss_fn(output, moved)
        scaler.scale(losses["loss"]).backward()
        scaler.step(optimizer)
        scaler.update()
        (output.logits.argmax(dim=1) == moved["pids"]).float().mean().item()
        losses["loss"].item()
        synchronize(device)

    return step


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_step(step: Callable[[dict], None], batch: dict, device: torch.device, steps: int) -> float:
    for _ in range(max(2, steps // 4)):
        step(batch)
    synchronize(device)
    start = time.perf_counter()
    for _ in range(steps):
        step(batch)
    synchronize(device)
    return (time.perf_counter() - start) / steps


def count_flops(cfg, device: torch.device, batch: dict) -> int:
    step = make_our_step(cfg, device)
    with FlopCounterMode(display=False) as counter:
        step(batch)
    return counter.get_total_flops()


def matrix_rate(device: torch.device) -> float:
    """FLOPs per second of a product of square matrices, in bf16 on a GPU, float32 on a CPU."""
    size = MATRIX[device.type]
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize(device)
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronize(device)
    return 10 * 2 * size**3 / (time.perf_counter() - start)


def from_disk(batch: int, device: torch.device, steps: int, workers: int) -> tuple[float, float]:
    """Images per second, and the share of the time that waits for data, of training from JPEGs on disk."""
    with tempfile.TemporaryDirectory() as root:
        synthesize(Path(root) / "market1501", SyntheticSettings(num_identities=IDENTITIES))
        cfg = configure(
            batch,
            device,
            "DATASETS.ROOT_DIR",
            root,
            "DATASETS.CHECK_COUNTS",
            "False",
            "DATALOADER.NUM_WORKERS",
            str(workers),
        )
        loader = make_dataloader(cfg).train
        step, batches, waited = make_our_step(cfg, device), endless(loader), 0.0
        for _ in range(3):
            step(next(batches))
        synchronize(device)
        start = time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            found = next(batches)
            waited += time.perf_counter() - asked
            step(found)
        synchronize(device)
        seconds = time.perf_counter() - start
        return batch * steps / seconds, waited / seconds


def endless(loader) -> Iterator[dict]:
    epoch = 0
    while True:
        loader.batch_sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def profile(batch: int, device: torch.device) -> str:
    """Our step by operator: time on the device and on the host."""
    step, images = make_our_step(configure(batch, device), device), random_batch(batch, device)
    for _ in range(PROFILED_STEPS):
        step(images)
    synchronize(device)
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds, acc_events=True) as found:
        for _ in range(PROFILED_STEPS):
            step(images)
        synchronize(device)
    return found.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=30, max_name_column_width=60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--batches", type=int, nargs="+", help="images in a step; by default as many as the device bears"
    )
    parser.add_argument(
        "--compile", type=int, nargs="*", help="batches for which SOLVER.COMPILE is timed too; GPU: all"
    )
    parser.add_argument("--profile", type=int, metavar="BATCH", help="print one step by operator, and nothing else")
    parser.add_argument("--steps", type=int, help="timed steps; by default 30, on a CPU 4")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--no-disk", action="store_true", help="leave out training from JPEGs on disk")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # the rendered set is not Market-1501
    device = pick_device(args.device)
    if args.profile:
        print(profile(args.profile, device))
        return
    batches, steps = args.batches or BATCHES[device.type], args.steps or STEPS[device.type]
    compiled = args.compile if args.compile is not None else batches if device.type == "cuda" else []
    rate = matrix_rate(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}: matrix products at {rate / 1e12:.2f} TFLOP/s; torch {torch.__version__}\n")
    rows = []
    for batch in batches:
        try:
            rows.append(compare(batch, device, steps, rate, compiled=batch in compiled))
        except torch.cuda.OutOfMemoryError:
            rows.append([batch, "does not fit", *[""] * 6])
            break
    header = ["batch", "TransReID images/s", "ours", "ratio", "TransReID utilisation", "ours", "compiled images/s"]
    print(make_table([*header, "utilisation"], rows, "r"), flush=True)
    if not args.no_disk:
        speed, waiting = from_disk(batches[0], device, steps, args.workers)
        print(f"\nfrom JPEGs, batch {batches[0]}, {args.workers} workers: {speed:.0f} images/s, {waiting:.1%} waiting")


def compare(batch: int, device: torch.device, steps: int, rate: float, *, compiled: bool) -> list[object]:
    cfg, images = configure(batch, device), random_batch(batch, device)
    flops = count_flops(cfg, device, images)
    makers = [(make_transreid_step, cfg), (make_our_step, cfg)]
    if compiled:
        makers.append((make_our_step, configure(batch, device, "SOLVER.COMPILE", "True")))
    seconds = [seconds_per_step(make(settings, device), images, device, steps) for make, settings in makers]
    speeds = [f"{batch / one:.1f}" for one in seconds] + ["-"] * (3 - len(seconds))
    uses = [f"{flops / one / rate:.1%}" for one in seconds] + ["-"] * (3 - len(seconds))
    ratio = f"{seconds[0] / seconds[1]:.2f}"
    return [batch, *speeds[:2], ratio, *uses[:2], speeds[2], uses[2]]


if __name__ == "__main__":
    main()
