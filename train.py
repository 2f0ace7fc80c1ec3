"""Train CFAT: every stage of the configuration in order, then test the last one, and those of TEST.STAGES.

python train.py OUTPUT_DIR logs/seed2 SEED 2                CFAT on Market-1501, with overrides
python train.py --config_file configs/Synthetic/cfat.yml    CFAT on the synthetic data set, on a CPU
python train.py --config_file FILE --dry-run                the plan, and two batches of every stage
python train.py --config_file FILE SOLVER.RESUME auto       resume the run in OUTPUT_DIR
torchrun --nproc_per_node 2 train.py --config_file FILE     the same over several processes
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from utils.command_line import ArgumentParser, run_main
from utils.errors import UserError

if TYPE_CHECKING:
    import torch
    from yacs.config import CfgNode

    from model.reid import ReIDModel
    from processor.baseline import Baseline
    from processor.report import About
    from utils.stage_identity import StageIdentity
    from utils.structures import DataBundle, DatasetSplits, Protocol

# What needs torch is imported inside the functions, after the arguments are parsed, so that --help is immediate.


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, try two batches of each stage, and stop")
    parser.add_argument("--local-rank", "--local_rank", help="for older launchers; LOCAL_RANK of torchrun is read")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="keys to override")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    from datasets import temporary_sets
    from utils.distributed import process_group
    from utils.logging import setup_logging

    with process_group(), temporary_sets() if args.dry_run else contextlib.nullcontext():
        setup_logging()
        train(args)


def train(args: argparse.Namespace) -> None:
    """Checks the configuration, reads the data set, trains the stages, tests and exports the result."""
    from config import get_defaults, load_cfg, stage_cfg, stages_to_run
    from corruption import make_matrix, make_protocols
    from datasets import check_validation, make_dataloader, read_training_set
    from model import check_stages, export_if_asked, initial_weight_files, match_pretrained
    from processor import RunPlan, read_baseline
    from processor.report import About
    from utils.command_line import make_command
    from utils.devices import pick_device
    from utils.files import make_output_dir, write_text
    from utils.locks import lock_output_dir
    from utils.logging import setup_logging

    cfg = load_cfg(args.config_file, args.opts)
    cfg = match_pretrained(cfg, [stage_cfg(cfg, name) for name in stages_to_run(cfg)])
    stages = [stage_cfg(cfg, name) for name in stages_to_run(cfg)]
    check(cfg, stages)
    device, protocols, matrix = pick_device(cfg.MODEL.DEVICE), make_protocols(cfg), make_matrix(cfg)
    data = make_dataloader(cfg)  # the stages use its splits: the data sets are read once
    baseline = read_baseline(cfg, data.on(cfg.TEST.SPLIT), protocols, matrix)
    check_stages(stages)
    check_validation(data.splits.validation, outside_weights(cfg, stages))
    if args.dry_run:
        for stage in stages:
            train_stage(stage, data.splits, device=device, dry_run=True)
        return
    with lock_output_dir(cfg.OUTPUT_DIR) as output_dir:
        setup_logging(output_dir)
        training_set = read_training_set(data.splits)
        plan = RunPlan(stages, training_set.facts, initial_weight_files)
        write_text(output_dir / "config.yml", cfg.dump())
        checkpoints = {
            stage.CFAT.STAGE: plan.finished(stage)
            or train_stage(stage, data.splits, device=device, protocols=protocols, identity=plan.identity(stage))
            for stage in stages
        }
        training_set.warn_of_changes()
        data = data.on(cfg.TEST.SPLIT)
        test = partial(test_checkpoint, data=data, protocols=protocols, matrix=matrix, device=device, baseline=baseline)
        beside = []
        for name in cfg.TEST.STAGES:
            beside.append(f"{cfg.OUTPUT_DIR}/{name}")
            weight = own_weight(cfg, name) or checkpoints[name]
            own = changed(cfg, beside[-1], WEIGHT=weight, STAGES=[], EXPORT="")
            config_file = make_output_dir(beside[-1]) / "config.yml"
            write_text(config_file, own.dump())
            test(own, weight, about=About(make_command("test.py", str(config_file), []), get_defaults().dump()))
        last = cfg.CFAT.STAGES[-1]
        weight = own_weight(cfg, last) or checkpoints[last]
        about = About(make_command("train.py", args.config_file, args.opts), get_defaults().dump())
        model = test(changed(cfg, COMPARE=[*beside, *cfg.TEST.COMPARE]), weight, about=about)
        export_if_asked(cfg, model, weight=weight)


def test_checkpoint(
    cfg: CfgNode,
    weight: str,
    *,
    data: DataBundle,
    protocols: tuple[Protocol, ...],
    matrix: tuple[Protocol, ...],
    device: torch.device,
    baseline: Baseline | None,
    about: About,
) -> ReIDModel:
    """Tests the model of a checkpoint, see processor.do_test; returns it."""
    from corruption import trained_types
    from model import load_tested_model
    from processor import do_test

    tested = load_tested_model(cfg, weight, [one.numbers for one in data.test_sets])
    do_test(
        cfg,
        data.with_sides(tested.sides).with_trained(trained_types(tested.trained_on)),
        tested.model,
        protocols,
        device=device,
        weight=weight,
        matrix=matrix,
        baseline=baseline,
        selected_on=tested.selected_on,
        about=about,
    )
    return tested.model


def check(cfg: CfgNode, stages: list[CfgNode]) -> None:
    """Lets every package check its part of the configuration, before any data are read."""
    import corruption
    import datasets
    import loss
    import model
    import processor
    import solver

    for package in (corruption, datasets, processor):
        package.check(cfg)
    for stage in stages:
        for package in (model, loss, solver):
            package.check(stage)
    for name in cfg.TEST.STAGES:
        if name == cfg.CFAT.STAGES[-1] or not (name in cfg.CFAT.STAGES or own_weight(cfg, name)):
            raise UserError(
                f"TEST.STAGES {list(cfg.TEST.STAGES)}: {name}: expected stages of CFAT.STAGES {list(cfg.CFAT.STAGES)} "
                f"before the last, which is tested anyway, or with a checkpoint in CFAT.{name.upper()}.WEIGHT"
            )


def changed(cfg: CfgNode, output_dir: str | None = None, **test: Any) -> CfgNode:
    """A frozen clone with another OUTPUT_DIR, and other values of some keys of TEST."""
    clone = cfg.clone()
    clone.defrost()
    clone.OUTPUT_DIR = output_dir or cfg.OUTPUT_DIR
    for name, value in test.items():
        clone.TEST[name] = value
    clone.freeze()
    return clone


def own_weight(cfg: CfgNode, stage: str) -> str:
    """The checkpoint that takes the place of training the stage; "" for none."""
    return cfg.CFAT[stage.upper()].WEIGHT


def outside_weights(cfg: CfgNode, stages: list[CfgNode]) -> dict[str, str]:
    """Checkpoints that the run starts from or tests and that none of its stages makes, by the key that names each."""
    from model import initial_weight_files
    from utils.stages import stage_checkpoint

    files = {key: path for stage in stages for key, path in initial_weight_files(stage).items()}
    for name in (*cfg.TEST.STAGES, cfg.CFAT.STAGES[-1]):
        key = f"CFAT.{name.upper()}.WEIGHT"
        files[key] = own_weight(cfg, name) or files.get(key, "")
    made = {stage_checkpoint(stage) for stage in stages}
    return {key: path for key, path in files.items() if path and path not in made}


def train_stage(
    cfg: CfgNode,
    splits: DatasetSplits,
    *,
    device: torch.device,
    protocols: tuple[Protocol, ...] = (),
    identity: StageIdentity | None = None,
    dry_run: bool = False,
) -> str:
    """Builds and trains the stage of `cfg`; returns its checkpoint. A dry run writes none and returns ""."""
    from datasets import make_dataloader
    from loss import make_loss
    from model import initial_weight_files, load_initial_weights, make_ema, make_model
    from processor import do_dry_run, do_train
    from solver import make_optimizer, make_scheduler
    from utils.held_back import read_earlier
    from utils.seeds import set_global_seeds

    set_global_seeds(cfg.SEED, cfg.CFAT.STAGE, deterministic=cfg.SOLVER.DETERMINISTIC)
    data = make_dataloader(cfg, splits=splits)
    model = make_model(cfg, num_classes=data.num_classes, num_cameras=data.num_cameras, num_views=data.num_views)
    if not dry_run:  # in a dry run, the stage before has left no weights to start from
        load_initial_weights(cfg, model)
    loss_fn = make_loss(cfg, num_classes=data.num_classes, feat_dim=model.embed_dim)
    optimizer = make_optimizer(cfg, model, loss_fn)
    scheduler = make_scheduler(cfg, optimizer)
    if dry_run:
        do_dry_run(cfg, data, model, loss_fn, optimizer, scheduler, device=device)
        return ""
    state = do_train(
        cfg,
        data,
        model,
        loss_fn,
        optimizer,
        scheduler,
        device=device,
        protocols=protocols,
        ema=make_ema(cfg, model),
        identity=identity,
        earlier=read_earlier(initial_weight_files(cfg).values()),
    )
    return state.checkpoint


if __name__ == "__main__":
    sys.exit(run_main(main))
