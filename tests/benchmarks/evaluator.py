"""The evaluator at the sizes of Market-1501 and MSMT17, in one run.

python tests/benchmarks/evaluator.py [--skip_msmt17]

Market-1501 (3,368 x 15,913): evaluate_rank against numpy.argsort of the same matrix, the least that an evaluator that
sorts rows needs. MSMT17 (11,659 x 82,161, 768 dimensions): evaluate_features against the bare matrix product by the
same blocks, with the memory that each takes beside the features. Features are random.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from tests.benchmarks.measure import best, measure, random_features
from utils.metrics.evaluate import MEMORY_LIMIT, distance_rows, evaluate_features, evaluate_rank


def market() -> None:
    query, gallery = random_features(3368, 128, 750, 1), random_features(15913, 128, 750, 2)
    distances = distance_rows(query.features, gallery.features).numpy()
    ids = (query.pids, gallery.pids, query.camids, gallery.camids)
    sorting = best(lambda: np.argsort(distances, axis=1), 3)
    print("Market-1501 size, 3,368 x 15,913\n")
    print("| side | seconds | of argsort | MiB beside the matrix |\n|---|---|---|---|")
    print(f"| numpy.argsort of the matrix | {sorting.seconds:.3f} | 1 | {sorting.mebibytes:.0f} |")
    for backend, rounds in (("cython", 5), ("numpy", 1)):
        found = best(lambda backend=backend: evaluate_rank(distances, *ids, backend=backend), rounds)
        ratio = sorting.seconds / found.seconds
        name = f"1/{ratio:.1f}" if ratio > 1 else f"{1 / ratio:.1f}"
        print(f"| evaluate_rank, {backend} | {found.seconds:.3f} | {name} | {found.mebibytes:.0f} |")


def msmt17() -> None:
    query, gallery = random_features(11659, 768, 3060, 1), random_features(82161, 768, 3060, 2)
    rows = MEMORY_LIMIT // (2 * 4 * len(gallery.pids))

    def product() -> None:
        buffer = torch.empty((rows, len(gallery.pids)))
        for start in range(0, len(query.pids), rows):
            block = query.features[start : start + rows]
            torch.mm(block, gallery.features.T, out=buffer[: len(block)])

    print("\nMSMT17 size, 11,659 x 82,161, 768 dimensions\n")
    print("| side | seconds | of the product | MiB beside the features |\n|---|---|---|---|")
    bare = measure(product)
    print(f"| matrix product, blocks of {rows} queries | {bare.seconds:.2f} | 1 | {bare.mebibytes:.0f} |")
    for metric in ("euclidean", "cosine"):
        found = measure(lambda metric=metric: evaluate_features(query, gallery, metric=metric))
        ratio = found.seconds / bare.seconds
        print(f"| evaluate_features, {metric} | {found.seconds:.2f} | {ratio:.2f} | {found.mebibytes:.0f} |")
    again = measure(product)
    print(
        f"| matrix product again | {again.seconds:.2f} | {again.seconds / bare.seconds:.2f} | {again.mebibytes:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip_msmt17", action="store_true", help="only the size of Market-1501")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    market()
    if not arguments.skip_msmt17:
        msmt17()


if __name__ == "__main__":
    main()
