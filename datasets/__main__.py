"""Data sets from the command line.

python -m datasets check [--config_file FILE] [--fast | --deep] [KEY VALUE ...]
                                                                           the doctor: counts, damaged and duplicate
                                                                           files, people in training and in test,
                                                                           queries without a match; status 1 on a fault
python -m datasets synthesize [--out data/synthetic] [--force]             the drawn pedestrians
"""

import argparse
import os
import sys
from pathlib import Path

from config import ConfigError, load_cfg
from datasets.readers.file_errors import FileErrors
from datasets.readers.registry import read_names
from datasets.synthetic.generate import NAME, SyntheticSettings, synthesize
from datasets.validate import DeepCheck, Level, format_report, validate
from utils.errors import ArgumentParser, UserError, run_main
from utils.logging import setup_logging
from utils.text import printable
from utils.user_paths import expand_arguments


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m datasets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="examine the data set of a configuration")
    check.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    check.add_argument("--fast", action="store_true", help="names and lists alone: open no picture")
    check.add_argument(
        "--deep",
        action="store_true",
        help="compare the content of every picture with its digest of the last time, or record the digests the first "
        "time, in .digests.json in the data set's directory",
    )
    check.add_argument("--digests", type=Path, metavar="FILE", help="with --deep: another place for the digests")
    check.add_argument("--record", action="store_true", help="with --deep: accept the pictures as they are now")
    check.add_argument("opts", nargs="*", metavar="KEY VALUE", help="keys to override, e.g. DATASETS.ROOT_DIR /data")
    draw = commands.add_parser("synthesize", help="draw the synthetic data set")
    draw.add_argument("--out", default=f"data/{NAME}", help="directory to make (default: %(default)s)")
    draw.add_argument("--identities", type=int, default=SyntheticSettings.num_identities, help="half train, half test")
    draw.add_argument("--cameras", type=int, default=SyntheticSettings.num_cameras)
    draw.add_argument("--images", type=int, default=SyntheticSettings.images_per_camera, help="per identity and camera")
    draw.add_argument("--seed", type=int, default=SyntheticSettings.seed)
    draw.add_argument("--workers", type=int, help="processes (default: one per core)")
    draw.add_argument("--force", action="store_true", help="replace a synthetic set that is there")
    return expand_arguments(parser.parse_args(argv), "out")


def check(config_file: str | None, opts: list[str], *, fast: bool, deep: DeepCheck | None = None) -> int:
    """Prints the doctor's report on the data set of a configuration; returns 1 where there is a fault."""
    cfg, faults = load_cfg(config_file, opts), FileErrors()
    splits = read_names(cfg, faults)
    report = validate(splits, faults, fast=fast, refuse_counts=cfg.DATASETS.CHECK_COUNTS, deep=deep)
    text = format_report(report, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # names of files may hold any bytes
    return int(report.number(Level.ERROR) > 0)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    setup_logging()
    if args.command == "check":
        if args.fast and args.deep:
            raise UserError("--fast opens no picture, --deep reads them all; give one of the two")
        if (args.digests or args.record) and not args.deep:
            raise UserError("--digests and --record say what --deep compares with; give --deep too")
        deep = DeepCheck(args.digests, args.record) if args.deep else None
        return check(args.config_file, args.opts, fast=args.fast, deep=deep)
    settings = SyntheticSettings(args.identities, args.cameras, args.images, args.seed)
    print(f"{printable(synthesize(args.out, settings, workers=args.workers, force=args.force))}: whole")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, ConfigError))
