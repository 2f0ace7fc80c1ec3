"""Train CFAT: every stage of the configuration in a row, then the test.

python train.py                                             CFAT on Market-1501
python train.py --config_file configs/Synthetic/cfat.yml    CFAT on the synthetic set, on a CPU
python train.py --config_file FILE SEED 2 OUTPUT_DIR logs/seed2 CFAT.COARSE.WEIGHT 0.5
python train.py --config_file FILE SOLVER.RESUME auto       go on where OUTPUT_DIR's run stopped
torchrun --nproc_per_node 2 train.py --config_file FILE     the same over several processes
"""

import argparse
import logging
import sys

from config import ConfigError, load_cfg, stage_cfg, stages_to_run
from corruption import make_matrix, make_protocols
from datasets import make_dataloader
from loss import make_loss
from model import check_stages, export_if_asked, load_model, load_start, make_ema, make_model
from processor import check_test_settings, do_test, do_train, is_finished
from solver import make_optimizer, make_scheduler
from utils.devices import pick_device
from utils.distributed import process_group
from utils.errors import run_main
from utils.files import make_output_dir, write_text
from utils.logging import setup_logging
from utils.seeds import set_deterministic, set_global_seeds
from utils.stages import stage_checkpoint

logger = logging.getLogger("train")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    parser.add_argument("--local-rank", "--local_rank", help="of older launchers; LOCAL_RANK of torchrun is read")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="keys to override")
    return parser.parse_args(argv)


def train_stage(cfg, device, protocols) -> str:
    """Builds and trains the stage that cfg is for, unless a run that is resumed has done it; returns its checkpoint."""
    if is_finished(cfg):
        return stage_checkpoint(cfg)
    set_global_seeds(cfg.SEED, cfg.CFAT.STAGE)
    data = make_dataloader(cfg)
    model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
    load_start(cfg, model)
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    parts = data, model, loss_fn, optimizer, make_scheduler(cfg, optimizer)
    return do_train(cfg, *parts, device=device, protocols=protocols, ema=make_ema(cfg, model)).checkpoint


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    setup_logging()
    cfg = load_cfg(args.config_file, args.opts)
    device, protocols, matrix = pick_device(cfg.MODEL.DEVICE), make_protocols(cfg), make_matrix(cfg)
    set_deterministic(cfg.SOLVER.DETERMINISTIC)
    with process_group(device):
        data = make_dataloader(cfg)  # what is wrong with it comes to light before anything is written
        stages = [stage_cfg(cfg, stage) for stage in stages_to_run(cfg)]
        check_stages(stages)
        check_test_settings(cfg)
        for staged in stages:
            make_loss(staged, num_classes=data.num_classes, feat_dim=0)  # an empty sum is no surprise of the last stage
        output_dir = make_output_dir(cfg.OUTPUT_DIR)
        setup_logging(output_dir)
        write_text(output_dir / "config.yml", cfg.dump())
        trained = [train_stage(staged, device, protocols) for staged in stages]
        weight = cfg.CFAT[cfg.CFAT.STAGES[-1].upper()].WEIGHT or trained[-1]
        model = load_model(cfg, weight, num_cameras=data.num_cameras, num_views=data.num_views)
        do_test(cfg, data, model, protocols, device=device, weight=weight, matrix=matrix)
        export_if_asked(cfg, model, weight=weight)


if __name__ == "__main__":
    sys.exit(run_main(main, ConfigError))
