"""Average query expansion.

Chum et al., Total Recall: Automatic Query Expansion with a Generative Feature Model for Object Retrieval, ICCV 2007,
section 4. fast-reid's variant (TEST.AQE there) also expands the gallery, searches among queries too and weights
neighbours by a power of their similarity; here, as in the paper, the mean is over the query and its neighbours in the
gallery, all weighted alike.
"""

import torch

from utils.metrics.checks import centred
from utils.metrics.smallest import smallest


def expand_queries(
    query: torch.Tensor, gallery: torch.Tensor, k: int, *, blocks: list[range], distributed: bool = False
) -> torch.Tensor:
    """The mean of each query's feature and those of its k nearest gallery images, at the norm of the query's feature.

    Neighbours are the nearest by Euclidean distance among all gallery images, those that the ranking leaves out (the
    query's identity by its own camera) too, since a search does not know them.

    Args:
        query, gallery: (Q, D), (G, D), on one device; unit features for neighbours by cosine.
        k: number of neighbours; the whole gallery where it has fewer images.
        blocks: of queries; the distances of one at a time are in memory.
        distributed: the processes of torch.distributed's default group have shared out the blocks; each gets the
            features of all queries.

    Returns:
        (Q, D).
    """
    k = min(k, len(gallery))
    near_query, near_gallery = centred(query, gallery)
    squares = near_gallery.square().sum(dim=1)
    expanded = torch.zeros_like(query)
    buffer = squares.new_empty(max(map(len, blocks), default=0), len(gallery))
    for block in blocks:
        rows, distances = slice(block.start, block.stop), buffer[: len(block)]
        torch.addmm(squares, near_query[rows], near_gallery.T, alpha=-2, out=distances)  # (rows, G), without |q|^2
        _, neighbours = smallest(distances, k)  # (rows, k)
        total = query[rows] + torch.nn.functional.embedding_bag(neighbours, gallery, mode="sum")  # (rows, D)
        norms = query[rows].norm(dim=1, keepdim=True)
        expanded[rows] = torch.nn.functional.normalize(total, dim=1) * norms
    if distributed:
        rows_of_all = expanded.cpu()  # each row is zero in all but one process
        torch.distributed.all_reduce(rows_of_all)
        expanded = rows_of_all.to(query.device)
    return expanded
