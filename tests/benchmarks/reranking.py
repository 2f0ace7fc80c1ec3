"""k-reciprocal re-ranking at the size of Market-1501 (3,368 + 15,913 images, 256 dimensions), in one run.

python tests/benchmarks/reranking.py [--query 3368 --gallery 15913 --dimensions 256 --device cpu] [--skip_whole]

Compared with the least that any implementation needs: the products of all pairs by blocks, and the nearest neighbours.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from tests.benchmarks.measure import measure, random_features, wait_for
from utils.metrics.reranking import MEMORY_LIMIT, ReRanking, re_ranking, re_ranking_blocks
from utils.tables import make_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, default in (("query", 3368), ("gallery", 15913), ("dimensions", 256)):
        parser.add_argument(f"--{key}", type=int, default=default)
    parser.add_argument("--device", default="cpu", help="where the features are")
    parser.add_argument("--skip_whole", action="store_true", help="not the whole matrix, which may exceed the memory")
    arguments = parser.parse_args()
    query, gallery = (
        random_features(count, arguments.dimensions, 750, seed).features.to(arguments.device)
        for seed, count in enumerate((arguments.query, arguments.gallery), start=1)
    )
    settings = ReRanking()

    def bare() -> None:
        features = torch.cat([query, gallery])
        buffer = features.new_empty(MEMORY_LIMIT // (3 * 4 * len(features)), len(features))
        for start in range(0, len(features), len(buffer)):
            block = features[start : start + len(buffer)]
            torch.mm(block, features.T, out=buffer[: len(block)]).topk(settings.k1 + 1)
        wait_for(arguments.device)

    def by_blocks() -> None:
        for _ in re_ranking_blocks(query, gallery, settings):
            pass

    sizes = f"{len(query):,} + {len(gallery):,}, {arguments.dimensions} dimensions"
    print(f"{arguments.device}, {torch.get_num_threads()} threads; {sizes}\n")
    bare()  # the first call also pays for memory that later ones find there
    first = measure(bare)
    title = f"products of all pairs, {settings.k1 + 1} nearest"
    rows = [(title, f"{first.seconds:.2f}", "1", f"{first.mebibytes:.0f}")]
    sides = {
        "re_ranking_blocks": by_blocks,
        "re_ranking, whole matrix": lambda: re_ranking(query, gallery, settings.k1, settings.k2, settings.lambda_value),
        "products and nearest again": bare,
    }
    if arguments.skip_whole:
        del sides["re_ranking, whole matrix"]
    for name, side in sides.items():
        found = measure(side)
        cells = (f"{found.seconds:.2f}", f"{found.seconds / first.seconds:.2f}", f"{found.mebibytes:.0f}")
        rows.append((name, *cells))
    print(make_table(["side", "seconds", "of the first", "MiB beside the features"], rows, "lr"))


if __name__ == "__main__":
    main()
