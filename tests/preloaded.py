"""Imports everything that train.py and test.py use, so that tests.commands imports it once and not in every process."""
# ruff: noqa: F401

from config import load_cfg, stage_cfg, stages_to_run
from corruption import make_matrix, make_protocols
from datasets import make_dataloader, make_image_loader, read_training_set
from loss import make_loss
from model import check_stages, export_if_asked, load_initial_weights, load_model, make_ema, make_model
from processor import RunPlan, do_dry_run, do_search, do_test, do_train
from solver import make_optimizer, make_scheduler
from utils.devices import pick_device
from utils.distributed import process_group
from utils.locks import lock_output_dir
from utils.logging import setup_logging
from utils.seeds import set_global_seeds
