"""Test a checkpoint under four protocols: clean, corrupted, corrupted query, corrupted gallery.

python test.py --config_file configs/Synthetic/cfat.yml TEST.WEIGHT logs/demo/checkpoints/align.pth
python test.py --config_file FILE TEST.WEIGHT checkpoint.pth TEST.MATRIX corrupted    and every type at every severity
python test.py --config_file FILE TEST.WEIGHT checkpoint.pth TEST.EXPORT model.onnx    and the model as a file

Or extract features of the images in a directory, of any names and sizes; no data set is needed:
python test.py --images DIR --config_file FILE TEST.WEIGHT checkpoint.pth OUTPUT_DIR out                  features
python test.py --images DIR --query IMAGE --config_file FILE TEST.WEIGHT checkpoint.pth OUTPUT_DIR out    ranked gallery

Of the keys, --images uses MODEL, INPUT.SIZE_TEST, DATASETS.ON_BAD_IMAGE and CHECK_IMAGES, DATALOADER.NUM_WORKERS and
TEST.WEIGHT, FEATURE, FLIP, FEAT_NORM, FEATURE_DTYPE, IMS_PER_BATCH and METRIC; every image gets the mean of a model's
camera vectors.
"""

import argparse
import sys

from utils.command_line import ArgumentParser, expand_arguments, run_main

# What needs torch is imported inside the functions, after the arguments are parsed, so that --help is immediate.


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    parser.add_argument("--images", metavar="DIR", help="write features of the images below DIR to features.npz")
    parser.add_argument("--query", metavar="IMAGE", help="rank the images for this one, in ranked.csv and ranked.png")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="TEST.WEIGHT checkpoint.pth, and keys to override")
    args = expand_arguments(parser.parse_args(argv), "images", "query")
    if args.query is not None and args.images is None:
        parser.error("--query IMAGE needs --images DIR, the images to rank")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    from utils.distributed import process_group
    from utils.logging import setup_logging

    with process_group():
        setup_logging()
        (test if args.images is None else search)(args)


def test(args: argparse.Namespace) -> None:
    """Tests a checkpoint on one data set or on several."""
    import corruption
    import datasets
    import processor
    from config import get_defaults, load_cfg
    from model import check_weight, export_if_asked, load_tested_model
    from processor.report import About
    from utils.command_line import make_command
    from utils.devices import pick_device
    from utils.files import write_text
    from utils.locks import lock_output_dir
    from utils.logging import setup_logging
    from utils.seeds import set_global_seeds

    cfg = load_cfg(args.config_file, args.opts)
    for package in (corruption, datasets, processor):
        package.check(cfg)
    check_weight(cfg.TEST.WEIGHT)
    device = pick_device(cfg.MODEL.DEVICE)
    set_global_seeds(cfg.SEED, "test")
    protocols, matrix = corruption.make_protocols(cfg), corruption.make_matrix(cfg)
    data = datasets.make_dataloader(cfg, with_train=False)
    model, sides = load_tested_model(cfg, cfg.TEST.WEIGHT, [one.numbers for one in data.test_sets])
    data = data.with_sides(sides)
    with lock_output_dir(cfg.OUTPUT_DIR) as output_dir:
        export_if_asked(cfg, model, weight=cfg.TEST.WEIGHT)
        setup_logging(output_dir)
        write_text(output_dir / "config.yml", cfg.dump())
        about = About(make_command("test.py", args.config_file, args.opts), get_defaults().dump())
        options = {"device": device, "weight": cfg.TEST.WEIGHT, "matrix": matrix, "about": about}
        processor.do_test(cfg, data, model, protocols, **options)


def search(args: argparse.Namespace) -> None:
    """Extracts features of any images and, with --query, ranks them."""
    from config import load_cfg
    from datasets import make_image_loader
    from model import load_tested_model
    from processor import do_search
    from utils.devices import pick_device
    from utils.locks import lock_output_dir
    from utils.logging import setup_logging

    opts = list(args.opts)
    if len(opts) % 2 == 0:  # otherwise a value is missing, and load_cfg says so
        opts += ["MODEL.SIE_CAMERA", "False", "MODEL.SIE_VIEW", "False"]  # these images have no camera
    cfg = load_cfg(args.config_file, opts)
    device = pick_device(cfg.MODEL.DEVICE)
    model, _ = load_tested_model(cfg, cfg.TEST.WEIGHT, ())
    images = make_image_loader(cfg, args.images, query=args.query)
    with lock_output_dir(cfg.OUTPUT_DIR) as output_dir:
        setup_logging(output_dir)
        do_search(cfg, images, model, device=device)


if __name__ == "__main__":
    sys.exit(run_main(main))
