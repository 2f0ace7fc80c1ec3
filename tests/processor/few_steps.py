"""Four steps of every given stage, alone or under torchrun; the first process writes losses, weights, and what went
between the processes in the last step: the number of collectives by name.

python few_steps.py OUT ROOT CASE...        a CASE is a stage and overrides, separated by spaces
"""

import os
import sys
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch.profiler import ProfilerActivity, profile

from config import load_cfg
from datasets import make_dataloader
from loss import make_loss
from model import make_model
from processor.batches import to_device
from processor.train import StageTrainer
from solver import make_optimizer, make_scheduler
from utils.distributed import is_main, process_group
from utils.seeds import set_global_seeds

STEPS = 4  # in the first three, DistributedDataParallel chooses its buckets
CPU = torch.device("cpu")


SETTINGS = {
    "MODEL.TRANSFORMER_TYPE": "vit_tiny_patch16_128_TransReID",
    "MODEL.PRETRAIN_PATH": "",
    "MODEL.DROP_PATH": 0.2,
    "MODEL.DEVICE": "cpu",
    "INPUT.SIZE_TRAIN": [32, 32],
    "INPUT.SIZE_TEST": [32, 32],
    "DATASETS.CHECK_COUNTS": False,
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.NUM_INSTANCE": 2,
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.OPTIMIZER_NAME": "SGD",
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.WARMUP_EPOCHS": 0,
}


def configure(root: str, stage: str, *opts: str):
    settings = {**SETTINGS, "DATASETS.ROOT_DIR": root, "CFAT.STAGE": stage, "OUTPUT_DIR": root}
    return load_cfg(opts=[*(str(part) for pair in settings.items() for part in pair), *opts])


def profile_calls() -> profile:
    """Without acc_events, torch warns that only the events of the last cycle are kept; there is but one."""
    return profile(activities=[ProfilerActivity.CPU], acc_events=True)


def run(root: str, stage: str, *opts: str) -> dict:
    cfg = configure(root, stage, *opts)
    set_global_seeds(cfg.SEED, stage)
    data = make_dataloader(cfg)
    model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    scheduler = make_scheduler(cfg, optimizer)
    trainer = StageTrainer(cfg, data, model, loss_fn, optimizer, scheduler, device=CPU)
    model.train()
    losses = []
    batches = iter(data.train)
    for number in range(STEPS):
        scheduler.step(number / STEPS)
        batch = to_device(next(batches), CPU)
        with profile_calls() if number == STEPS - 1 else nullcontext() as profiled:
            values = trainer.step(batch)
        losses.append({name: value.item() for name, value in values.items()})
    # the calls: the events of gloo itself end in its own thread, at times after the profile
    names = [event.name for event in profiled.events() if event.name.startswith("c10d::")]
    return {
        "losses": losses,
        "model": model.state_dict(),
        "loss": loss_fn.state_dict(),
        "collectives": {name: names.count(name) for name in sorted(set(names))},
    }


def main(out: str, root: str, *cases: str) -> None:
    torch.set_num_threads(1)
    with process_group():
        results = {case: run(root, *case.split()) for case in cases}
        if is_main():
            torch.save(results, out)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(*sys.argv[1:])
