"""Test a checkpoint under the four settings: clean, corrupted, corrupted query, corrupted gallery.

python test.py --config_file configs/Synthetic/cfat.yml TEST.WEIGHT logs/demo/checkpoints/align.pth
python test.py --config_file FILE TEST.WEIGHT checkpoint.pth TEST.MATRIX corrupted    and every type at every severity
python test.py --config_file FILE TEST.WEIGHT checkpoint.pth TEST.EXPORT model.onnx    and the model as a file
"""

import argparse
import sys

from config import ConfigError, load_cfg
from corruption import make_matrix, make_protocols
from datasets import make_dataloader
from model import export_if_asked, load_model
from processor import check_test_settings, do_test
from utils.devices import pick_device
from utils.errors import run_main
from utils.files import make_output_dir, write_text
from utils.logging import setup_logging
from utils.seeds import set_global_seeds


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="TEST.WEIGHT checkpoint.pth, and keys to override")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    setup_logging()
    cfg = load_cfg(args.config_file, args.opts)
    device, protocols, matrix = pick_device(cfg.MODEL.DEVICE), make_protocols(cfg), make_matrix(cfg)
    check_test_settings(cfg)
    set_global_seeds(cfg.SEED, "test")
    data = make_dataloader(cfg, with_train=False)
    model = load_model(cfg, cfg.TEST.WEIGHT, num_cameras=data.num_cameras, num_views=data.num_views)
    export_if_asked(cfg, model, weight=cfg.TEST.WEIGHT)
    output_dir = make_output_dir(cfg.OUTPUT_DIR)
    setup_logging(output_dir)
    write_text(output_dir / "config.yml", cfg.dump())
    do_test(cfg, data, model, protocols, device=device, weight=cfg.TEST.WEIGHT, matrix=matrix)


if __name__ == "__main__":
    sys.exit(run_main(main, ConfigError))
