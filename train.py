"""Train CFAT: every stage of the configuration in a row, then the test.

python train.py OUTPUT_DIR logs/seed2 SEED 2                CFAT on Market-1501, with overrides
python train.py --config_file configs/Synthetic/cfat.yml    CFAT on the synthetic set, on a CPU
python train.py --config_file FILE --dry-run                the plan, and two batches of every stage
python train.py --config_file FILE SOLVER.RESUME auto       go on where the run in OUTPUT_DIR stopped
torchrun --nproc_per_node 2 train.py --config_file FILE     the same over several processes
"""

import argparse
import itertools
import sys

from config import ConfigError, load_cfg, stage_cfg, stages_to_run
from corruption import make_matrix, make_protocols
from datasets import make_dataloader, read_training_set
from loss import check as check_loss
from loss import make_loss
from model import check as check_model
from model import (
    check_stages,
    export_if_asked,
    initial_weight_files,
    load_initial_weights,
    load_model,
    make_ema,
    make_model,
)
from processor import Run, check_test_settings, do_test, do_train, dry_run
from solver import check as check_solver
from solver import make_optimizer, make_scheduler
from utils.devices import pick_device
from utils.distributed import process_group
from utils.errors import ArgumentParser, run_main
from utils.files import write_text
from utils.locks import lock_output_dir
from utils.logging import setup_logging
from utils.seeds import set_global_seeds


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, try two batches of each stage, and stop")
    parser.add_argument("--local-rank", "--local_rank", help="of older launchers; LOCAL_RANK of torchrun is read")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="keys to override")
    return parser.parse_args(argv)


def train_stage(cfg, device, protocols, splits, run: Run | None = None) -> str:
    """Trains the stage that cfg is for and returns its checkpoint; without a run, tries two batches."""
    set_global_seeds(cfg.SEED, cfg.CFAT.STAGE, deterministic=cfg.SOLVER.DETERMINISTIC)
    data = make_dataloader(cfg, splits=splits)
    model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
    if run:  # without one, the stage before it has not left the initial weights
        load_initial_weights(cfg, model)
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    parts = data, model, loss_fn, optimizer, make_scheduler(cfg, optimizer)
    options = {"protocols": protocols, "ema": make_ema(cfg, model), "identity": run.identity(cfg)} if run else {}
    return (do_train if run else dry_run)(cfg, *parts, device=device, **options).checkpoint


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with process_group():
        setup_logging()
        cfg = load_cfg(args.config_file, args.opts)
        device, protocols, matrix = pick_device(cfg.MODEL.DEVICE), make_protocols(cfg), make_matrix(cfg)
        data = make_dataloader(cfg)  # what is wrong with it comes to light before anything is written
        stages = [stage_cfg(cfg, stage) for stage in stages_to_run(cfg)]
        for stage, check in itertools.product(stages, (check_model, check_loss, check_solver)):
            check(stage)
        check_stages(stages)
        check_test_settings(cfg)
        if args.dry_run:
            for staged in stages:
                train_stage(staged, device, protocols, data.splits)
            return
        with lock_output_dir(cfg.OUTPUT_DIR) as output_dir:
            setup_logging(output_dir)
            run = Run(stages, initial_weight_files, read_training_set(data.splits))
            write_text(output_dir / "config.yml", cfg.dump())
            trained = [run.finished(each) or train_stage(each, device, protocols, data.splits, run) for each in stages]
            run.warn_of_changes()
            weight = cfg.CFAT[cfg.CFAT.STAGES[-1].upper()].WEIGHT or trained[-1]
            model = load_model(cfg, weight, num_cameras=data.num_cameras, num_views=data.num_views)
            do_test(cfg, data, model, protocols, device=device, weight=weight, matrix=matrix)
            export_if_asked(cfg, model, weight=weight)


if __name__ == "__main__":
    sys.exit(run_main(main, ConfigError))
