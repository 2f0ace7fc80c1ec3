"""Data sets from the command line.

python -m datasets check [--config_file FILE] [--fast | --deep] [KEY VALUE ...]
                                                                           validate: counts, damaged and duplicate
                                                                           files, identities in training and in test,
                                                                           queries without a match; status 1 on an error
python -m datasets synthesize [--out data/synthetic] [--force]             render the synthetic pedestrians
"""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from utils.command_line import ArgumentParser, expand_arguments, run_main
from utils.errors import UserError

if TYPE_CHECKING:
    from datasets.validate import DeepCheck


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m datasets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="validate the data sets of a configuration")
    check.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    check.add_argument("--fast", action="store_true", help="names and lists alone: open no image")
    check.add_argument(
        "--deep",
        action="store_true",
        help="compare the content of every image with its recorded digest, or record the digests the first time, in "
        ".digests.json in the data set's directory",
    )
    check.add_argument("--digests", type=Path, metavar="FILE", help="with --deep: another place for the digests")
    check.add_argument("--record", action="store_true", help="with --deep: accept the images as they are now")
    check.add_argument("opts", nargs="*", metavar="KEY VALUE", help="keys to override, e.g. DATASETS.ROOT_DIR /data")
    render = commands.add_parser("synthesize", help="render the synthetic data set")
    render.add_argument("--out", default="data/synthetic", help="directory to make (default: %(default)s)")
    # Of those that are not given, the defaults are those of SyntheticSettings.
    render.add_argument("--identities", type=int, dest="num_identities", help="half for training, half for testing")
    render.add_argument("--cameras", type=int, dest="num_cameras")
    render.add_argument("--images", type=int, dest="images_per_camera", help="per identity and camera")
    render.add_argument("--seed", type=int)
    render.add_argument("--workers", type=int, help="processes (default: one per core)")
    render.add_argument("--force", action="store_true", help="replace an existing synthetic set")
    return parser.parse_args(argv)


def check(config_file: str | None, opts: list[str], *, fast: bool, deep: "DeepCheck | None" = None) -> int:
    """Prints a report on each data set, and on several together; returns 1 where there is an error."""
    from config import load_cfg
    from datasets.readers.file_errors import FileErrors
    from datasets.readers.registry import check_spellings, read_unchecked
    from datasets.report import Level, Report, format_report
    from datasets.validate import check_across, validate

    cfg = load_cfg(config_file, opts)
    check_spellings(cfg)
    names, tests = cfg.DATASETS.NAMES, cfg.DATASETS.TEST or cfg.DATASETS.NAMES
    if len({*names, *tests}) > 1 and deep is not None and deep.file is not None:
        raise UserError("--digests FILE is for one data set; leave it out, and each keeps its own in its directory")

    def show(report: Report) -> int:
        text = format_report(report, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
        encoding = sys.stdout.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding))  # file names may hold any bytes
        return int(report.count(Level.ERROR) > 0)

    found, status = {}, 0
    digests: dict[str, str] = {}
    for number, name in enumerate(dict.fromkeys([*names, *tests])):
        if number:
            print()
        errors = FileErrors()
        found[name] = read_unchecked(cfg, name, errors)
        report = validate(found[name], errors, fast=fast, refuse_counts=cfg.DATASETS.CHECK_COUNTS, deep=deep)
        digests |= report.digests
        status |= show(report)
    if len(found) > 1 and not fast:
        print()
        status |= show(check_across([found[name] for name in names], [found[name] for name in tests], digests))
    return status


def synthesize(args: argparse.Namespace) -> int:
    """Renders the synthetic set unless it exists, and prints where it is."""
    from datasets.synthetic.generate import SyntheticSettings
    from datasets.synthetic.generate import synthesize as render
    from utils.escaping import printable

    names = ("num_identities", "num_cameras", "images_per_camera", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    directory = render(args.out, SyntheticSettings(**given), workers=args.workers, force=args.force)
    print(f"{printable(directory)}: complete")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = expand_arguments(parse_args(argv), "out")  # first, so that --help imports nothing heavy
    from utils.logging import setup_logging

    setup_logging()
    if args.command == "synthesize":
        return synthesize(args)
    if args.fast and args.deep:
        raise UserError("--fast opens no image, --deep reads them all; give one of the two")
    if (args.digests or args.record) and not args.deep:
        raise UserError("--digests and --record say what --deep compares with; give --deep too")
    from datasets.validate import DeepCheck

    deep = DeepCheck(args.digests, args.record) if args.deep else None
    return check(args.config_file, args.opts, fast=args.fast, deep=deep)


if __name__ == "__main__":
    sys.exit(run_main(main))
