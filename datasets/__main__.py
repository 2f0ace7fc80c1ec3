"""Data sets from the command line.

python -m datasets check [--config_file FILE] [KEY VALUE ...]     counts found against counts published;
                                                                  of a corrupted copy, the sha256 sums too
python -m datasets synthesize [--out data/synthetic] [--force]    the drawn pedestrians
"""

import argparse
import sys
from pathlib import Path

from config import ConfigError, load_cfg
from corruption.copies import MANIFEST, find_damaged, read_manifest
from datasets.corrupted_copy import original_of, published_counts
from datasets.make_dataloader import read_dataset
from datasets.market1501 import count
from datasets.synthetic import NAME, SyntheticSettings, synthesize
from utils.errors import run_main
from utils.logging import setup_logging


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m datasets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="read the data set of a configuration and compare its counts")
    check.add_argument("--config_file", help="experiment, e.g. configs/Synthetic/cfat.yml; none: config/defaults.py")
    check.add_argument("opts", nargs="*", metavar="KEY VALUE", help="keys to override, e.g. DATASETS.ROOT_DIR /data")
    draw = commands.add_parser("synthesize", help="draw the synthetic data set")
    draw.add_argument("--out", default=f"data/{NAME}", help="directory to make (default: %(default)s)")
    draw.add_argument("--identities", type=int, default=SyntheticSettings.num_identities, help="half train, half test")
    draw.add_argument("--cameras", type=int, default=SyntheticSettings.num_cameras)
    draw.add_argument("--images", type=int, default=SyntheticSettings.images_per_camera, help="per identity and camera")
    draw.add_argument("--seed", type=int, default=SyntheticSettings.seed)
    draw.add_argument("--workers", type=int, help="processes (default: one per core)")
    draw.add_argument("--force", action="store_true", help="replace a synthetic set that is there")
    return parser.parse_args(argv)


def check_counts(config_file: str | None, opts: list[str]) -> int:
    """Prints the counts of every split beside the published ones, and of a corrupted copy whether its files are whole;
    returns 1 where something differs."""
    cfg = load_cfg(config_file, [*opts, "DATASETS.CHECK_COUNTS", "False"])
    splits = read_dataset(cfg)
    published = published_counts(splits.name)
    print(f"{splits.name} in {splits.root}")
    print(f"{'split':<8} {'pictures':>9} {'identities':>11} {'cameras':>8}   published")
    differs = False
    for split in ("train", "query", "gallery"):
        records = getattr(splits, split)
        found = count(records)
        expected = published.get(split)
        verdict = "none" if expected is None else f"{expected[0]} of {expected[1]}"
        if expected not in (None, found):
            differs, verdict = True, f"{verdict}   DIFFERS"
        cameras = len({record.camid for record in records})
        print(f"{split:<8} {found[0]:>9} {found[1]:>11} {cameras:>8}   {verdict}")
    damaged = bool(original_of(splits.name)) and not check_sums(Path(splits.root))
    return int(differs or damaged)


def check_sums(directory: Path) -> bool:
    """Prints whether every file of a corrupted copy has the sha256 sum of its manifest, and returns it."""
    total, damaged = len(read_manifest(directory)["files"]), find_damaged(directory)
    if damaged:
        print(
            f"sha256: {len(damaged)} of {total} files DIFFER from {MANIFEST}, the first is {damaged[0]}; "
            "run the same export command again: it makes them anew"
        )
    else:
        print(f"sha256: all {total} files are those of {MANIFEST}")
    return not damaged


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    setup_logging()
    if args.command == "check":
        return check_counts(args.config_file, args.opts)
    settings = SyntheticSettings(args.identities, args.cameras, args.images, args.seed)
    print(f"{synthesize(args.out, settings, workers=args.workers, force=args.force)}: whole")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, ConfigError))
