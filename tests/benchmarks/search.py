"""Exact and approximate search among features in a file, with time and memory, beside one bare read of the file.

python tests/benchmarks/search.py [--gallery 10000000 --dimensions 192 --query 100 --k 10 --directory /tmp --index ivf]

The features are random unit vectors in clusters, in half precision; the file is deleted at the end. --index also builds
an approximate index (package faiss-cpu) and gives its recall.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from tests.benchmarks.measure import measure
from utils.feature_files import open_features
from utils.metrics.approximate import KINDS, build_index, recall
from utils.metrics.nearest import BLOCK_ROWS, nearest
from utils.tables import make_table

CLUSTERS = 100_000
BLOCK = 2**16


def sample(rng: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    """Unit features (count, D), each near one of the centres."""
    features = rng.standard_normal((count, centres.shape[1]), dtype=np.float32)
    features += centres[rng.integers(0, len(centres), count)]
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def write_features(path: Path, centres: np.ndarray, count: int) -> None:
    rng = np.random.default_rng(1)
    header = {"descr": "<f2", "fortran_order": False, "shape": (count, centres.shape[1])}
    with path.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for start in range(0, count, BLOCK):
            handle.write(sample(rng, centres, min(BLOCK, count - start)).astype("<f2").tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for key, default in (("gallery", 10_000_000), ("dimensions", 192), ("query", 100), ("k", 10)):
        parser.add_argument(f"--{key}", type=int, default=default)
    parser.add_argument("--directory", default=None, help="where the file is written")
    parser.add_argument("--index", choices=KINDS)
    args = parser.parse_args()
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, args.dimensions), dtype=np.float32)
    query = sample(np.random.default_rng(2), centres, args.query)
    with tempfile.TemporaryDirectory(dir=args.directory) as directory:
        path = Path(directory) / "features.npy"
        write_features(path, centres, args.gallery)
        gallery = open_features(path).features
        size = path.stat().st_size / 2**20
        print(f"{torch.get_num_threads()} threads; {args.gallery:,} x {args.dimensions} float16, {size:,.0f} MiB\n")

        def read() -> None:
            for start in range(0, len(gallery), BLOCK_ROWS):
                torch.from_numpy(np.array(gallery[start : start + BLOCK_ROWS], dtype=np.float32)).square().sum()

        nearest(query[:1], gallery[:BLOCK_ROWS], args.k)  # the first call also pays for memory that later ones find
        bare = measure(read)
        title = "bare read, to float32, sum of squares"
        rows = [(title, f"{bare.seconds:.1f}", "1", f"{bare.mebibytes:.0f}")]
        for count in dict.fromkeys((1, args.query)):
            found = measure(lambda count=count: nearest(query[:count], gallery, args.k))
            name = f"nearest, {count} queries, top-{args.k}"
            ratio = found.seconds / bare.seconds
            rows.append((name, f"{found.seconds:.1f}", f"{ratio:.2f}", f"{found.mebibytes:.0f}"))
        if args.index:
            indices = []
            built = measure(lambda: indices.append(build_index(gallery, args.index, metric="euclidean", seed=0)))
            rows.append((f"{args.index}: build", f"{built.seconds:.1f}", "", f"{built.mebibytes:.0f}"))
            for nprobe in (8, 32, 128):
                results = []
                searched = measure(
                    lambda nprobe=nprobe, results=results: results.append(
                        indices[0].search(query, gallery, args.k, nprobe=nprobe)
                    )
                )
                share = recall(results[0], query, gallery, args.k, metric="euclidean")
                name = f"{args.index}: {args.query} queries, nprobe {nprobe}, recall {share:.3f}"
                rows.append((name, f"{searched.seconds:.2f}", "", f"{searched.mebibytes:.0f}"))
        print(make_table(["side", "seconds", "of the bare read", "MiB"], rows, "lr"))


if __name__ == "__main__":
    main()
