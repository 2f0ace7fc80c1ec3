"""Test a checkpoint under four protocols: clean, corrupted, corrupted query, corrupted gallery.

python test.py --config_file configs/Synthetic/cfat.yml TEST.WEIGHT logs/demo/checkpoints/align.pth
python test.py --config_file FILE TEST.WEIGHT checkpoint.pth TEST.MATRIX corrupted    and every type at every severity
python test.py --config_file FILE TEST.WEIGHT checkpoint.pth TEST.EXPORT model.onnx    and the model as a file

Or extract features of the images in a directory, of any names and sizes; no data set is needed:
python test.py --images DIR --config_file FILE TEST.WEIGHT checkpoint.pth OUTPUT_DIR out                  features
python test.py --images DIR --query IMAGE --config_file FILE TEST.WEIGHT checkpoint.pth OUTPUT_DIR out    ranked gallery
python test.py --gallery out/features.npz --query IMAGE --config_file FILE TEST.WEIGHT checkpoint.pth OUTPUT_DIR out2

--query takes several images. --gallery ranks features that were written before; --index searches them approximately.
Of the keys, --images and --gallery use MODEL, INPUT.SIZE_TEST, DATASETS.ON_BAD_IMAGE and CHECK_IMAGES,
DATALOADER.NUM_WORKERS and TEST.WEIGHT, FEATURE, FLIP, FEAT_NORM, FEATURE_DTYPE, IMS_PER_BATCH and METRIC; every image
gets the mean of a model's camera vectors.
"""

import argparse
import os
import re
import sys
from functools import partial

from utils.command_line import ArgumentParser, at_least, expand_arguments, run_main
from utils.files import expand_path
from utils.image_listing import SUFFIXES

TOP_OF_GALLERY = 100  # images of each query in ranked.csv with --gallery, which may hold millions

# What needs torch is imported inside the functions, after the arguments are parsed, so that --help is immediate.


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    parser.add_argument("--images", metavar="DIR", help="write features of the images below DIR to features.npz")
    parser.add_argument(
        "--gallery", metavar="FEATURES", help="rank the features in this file (.npz or .npy), not images of a directory"
    )
    parser.add_argument(
        "--query",
        metavar="IMAGE",
        nargs="+",
        action="extend",
        default=[],
        help="rank the images, or the features, for each of these, in ranked.csv and ranked.png",
    )
    parser.add_argument(
        "--top_k", metavar="K", type=at_least(1), help="images of each query in ranked.csv; all, with --gallery 100"
    )
    parser.add_argument(
        "--index",
        choices=("exact", "ivf", "ivfpq"),
        default="exact",
        help="--gallery: exact, or faiss's inverted lists (ivf), also with product quantisation (ivfpq)",
    )
    parser.add_argument(
        "--nprobe", metavar="N", type=at_least(1), default=32, help="--index: lists searched for a query"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="TEST.WEIGHT checkpoint.pth, and keys to override")
    args = expand_arguments(parser.parse_args(argv), "images", "gallery")
    queries, opts = split_queries(args.query)
    args.query, args.opts = [expand_path(query, "--query") for query in queries], [*opts, *args.opts]
    if args.images is not None and args.gallery is not None:
        parser.error("--images DIR computes features and --gallery FEATURES reads them: give one of the two")
    if args.query and args.images is None and args.gallery is None:
        parser.error("--query IMAGE needs --images DIR, the images to rank, or --gallery FEATURES, their features")
    if args.gallery is not None and not args.query:
        parser.error("--gallery FEATURES needs --query IMAGE, for which to rank them")
    if args.index != "exact" and args.gallery is None:
        parser.error(f"--index {args.index} searches the features of --gallery FEATURES")
    return args


def split_queries(given: list[str]) -> tuple[list[str], list[str]]:
    """The images of --query, and the keys and values that follow the last of them."""
    for position, text in enumerate(given):
        is_image = text.lower().endswith(SUFFIXES) or os.path.lexists(text)
        if position and not is_image and re.fullmatch(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*", text):
            return given[:position], given[position:]
    return given, []


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    from utils.distributed import process_group
    from utils.logging import setup_logging

    with process_group():
        setup_logging()
        (test if args.images is None and args.gallery is None else search)(args)


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
    cfg = datasets.match_validation(cfg, cfg.TEST.WEIGHT)
    device = pick_device(cfg.MODEL.DEVICE)
    set_global_seeds(cfg.SEED, "test")
    protocols, matrix = corruption.make_protocols(cfg), corruption.make_matrix(cfg)
    data = datasets.make_dataloader(cfg, with_train=False).on(cfg.TEST.SPLIT)
    datasets.check_validation(data.splits.validation, {"TEST.WEIGHT": cfg.TEST.WEIGHT})
    baseline = processor.read_baseline(cfg, data, protocols, matrix)
    tested = load_tested_model(cfg, cfg.TEST.WEIGHT, [one.numbers for one in data.test_sets])
    model = tested.model
    data = data.with_sides(tested.sides).with_trained(corruption.trained_types(tested.trained_on))
    with lock_output_dir(cfg.OUTPUT_DIR) as output_dir:
        export_if_asked(cfg, model, weight=cfg.TEST.WEIGHT)
        setup_logging(output_dir)
        write_text(output_dir / "config.yml", cfg.dump())
        about = About(make_command("test.py", args.config_file, args.opts), get_defaults().dump())
        processor.do_test(
            cfg,
            data,
            model,
            protocols,
            device=device,
            weight=cfg.TEST.WEIGHT,
            matrix=matrix,
            baseline=baseline,
            selected_on=tested.selected_on,
            about=about,
        )


def search(args: argparse.Namespace) -> None:
    """Extracts features of any images, or reads them, and with --query ranks them."""
    from config import load_cfg
    from datasets import make_image_loader, make_query_loader
    from model import load_tested_model
    from processor import SearchOptions, do_gallery_search, do_search
    from utils.devices import pick_device
    from utils.feature_files import open_features
    from utils.locks import lock_output_dir
    from utils.logging import setup_logging

    opts = list(args.opts)
    if len(opts) % 2 == 0:  # otherwise a value is missing, and load_cfg says so
        opts += ["MODEL.SIE_CAMERA", "False", "MODEL.SIE_VIEW", "False"]  # these images have no camera
    cfg = load_cfg(args.config_file, opts)
    device = pick_device(cfg.MODEL.DEVICE)
    model = load_tested_model(cfg, cfg.TEST.WEIGHT, ()).model
    if args.gallery is not None:
        gallery, query_loader = open_features(args.gallery), make_query_loader(cfg, args.query)
        options = SearchOptions(kind=args.index, nprobe=args.nprobe, top_k=args.top_k or TOP_OF_GALLERY)
        run = partial(do_gallery_search, cfg, args.query, query_loader, gallery, model, device=device, options=options)
    else:
        images = make_image_loader(cfg, args.images, queries=args.query)
        run = partial(do_search, cfg, images, model, device=device, top_k=args.top_k)
    with lock_output_dir(cfg.OUTPUT_DIR) as output_dir:
        setup_logging(output_dir)
        run()


if __name__ == "__main__":
    sys.exit(run_main(main))
