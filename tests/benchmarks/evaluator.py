"""The evaluator at the sizes of Market-1501 and MSMT17, in one run.

python tests/benchmarks/evaluator.py [--skip_msmt17] [--times 2] [--device cuda]

Market-1501 (3,368 x 15,913): evaluate_rank against numpy.argsort of the same matrix, the least that an evaluator that
sorts rows needs, and against one read of the matrix, the least that any needs. MSMT17 (11,659 x 82,161, 768
dimensions; queries, gallery and identities --times as many): evaluate_features against the bare matrix product by the
same blocks, with the host memory that each takes beside the features. Features are random, and are on --device.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from tests.benchmarks.measure import best, measure, random_features, wait_for
from utils.metrics.evaluate import MEMORY_LIMIT, distance_rows, evaluate_features, evaluate_rank
from utils.tables import make_table


def market() -> None:
    query, gallery = random_features(3368, 128, 750, 1), random_features(15913, 128, 750, 2)
    distances = distance_rows(query.features, gallery.features).numpy()
    ids = (query.pids, gallery.pids, query.camids, gallery.camids)
    matrix = torch.from_numpy(distances)
    sorting, reading = best(lambda: np.argsort(distances, axis=1), 3), best(matrix.sum, 20)
    print("Market-1501 size, 3,368 x 15,913\n")
    sides = {"numpy.argsort of the matrix": sorting}
    for backend, rounds in (("cython", 20), ("numpy", 1)):
        found = best(lambda backend=backend: evaluate_rank(distances, *ids, backend=backend), rounds)
        sides[f"evaluate_rank, {backend}"] = found
    sides["one read of the matrix, torch.sum"] = reading
    rows = []
    for name, found in sides.items():
        ratios = (found.seconds / sorting.seconds, found.seconds / reading.seconds)
        texts = (f"{ratio:.1f}" if ratio >= 1 else f"1/{1 / ratio:.1f}" for ratio in ratios)
        rows.append((name, f"{found.seconds:.3f}", *texts, f"{found.mebibytes:.0f}"))
    print(make_table(["side", "seconds", "of argsort", "of one read", "MiB beside the matrix"], rows, "lr"))


def msmt17(device: str, times: int) -> None:
    query, gallery = (
        replace(one, features=one.features.to(device))
        for one in (
            random_features(times * 11659, 768, times * 3060, 1),
            random_features(times * 82161, 768, times * 3060, 2),
        )
    )
    height = MEMORY_LIMIT // (2 * 4 * len(gallery.pids))

    def product() -> None:
        buffer = torch.empty((height, len(gallery.pids)), device=device)
        for start in range(0, len(query.pids), height):
            block = query.features[start : start + height]
            torch.mm(block, gallery.features.T, out=buffer[: len(block)])
        wait_for(device)

    product()  # the first call also chooses kernels
    larger = f" times {times}" if times > 1 else ""
    print(f"\nMSMT17 size{larger}, {len(query.pids):,} x {len(gallery.pids):,}, 768 dimensions\n")
    bare = measure(product)
    rows = [(f"matrix product, blocks of {height} queries", f"{bare.seconds:.2f}", "1", f"{bare.mebibytes:.0f}")]
    for metric in ("euclidean", "cosine"):
        found = measure(lambda metric=metric: evaluate_features(query, gallery, metric=metric))
        ratio = found.seconds / bare.seconds
        cells = (f"{found.seconds:.2f}", f"{ratio:.2f}", f"{found.mebibytes:.0f}")
        rows.append((f"evaluate_features, {metric}", *cells))
    again = measure(product)
    cells = (f"{again.seconds:.2f}", f"{again.seconds / bare.seconds:.2f}", f"{again.mebibytes:.0f}")
    rows.append(("matrix product again", *cells))
    print(make_table(["side", "seconds", "of the product", "MiB beside the features"], rows, "lr"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip_msmt17", action="store_true", help="only the size of Market-1501")
    parser.add_argument("--times", type=int, default=1, help="MSMT17's size, so many times as many of everything")
    parser.add_argument("--device", default="cpu", help="where the features of MSMT17's size are")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    market()
    if not arguments.skip_msmt17:
        msmt17(arguments.device, arguments.times)


if __name__ == "__main__":
    main()
