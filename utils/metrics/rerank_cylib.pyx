# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Jaccard distances of sparse neighbour weights by inverted lists, queries shared out over OpenMP threads."""

from cython.parallel cimport prange
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free


cdef void mix_query(
    const int32_t* neighbours, const float* weights, int32_t count,
    const int32_t* starts, const int32_t* members, const float* member_weights,
    float* overlap, float share, float scale, float* row, Py_ssize_t length,
) noexcept nogil:
    cdef int32_t i, k, neighbour
    cdef float weight
    cdef Py_ssize_t g
    for i in range(count):
        neighbour = neighbours[i]
        weight = weights[i]
        for k in range(starts[neighbour], starts[neighbour + 1]):
            overlap[members[k]] += min(weight, member_weights[k])
    for g in range(length):
        row[g] = (1 - overlap[g] / (2 - overlap[g])) * (1 - share) + row[g] * scale * share


def mix_jaccard(
    const int32_t[::1] q_starts,
    const int32_t[::1] q_neighbours,
    const float[::1] q_weights,
    const int32_t[::1] starts,
    const int32_t[::1] members,
    const float[::1] member_weights,
    const float[::1] scales,
    float share,
    float[:, ::1] distances,
    int num_threads,
):
    """(1 - share) Jaccard distance + share * scale * distance, in place of `distances`; see utils.metrics.reranking.

    Args:
        q_starts, q_neighbours, q_weights: the queries' rows of weights, compressed: (rows + 1,), (n,), (n,).
        starts, members, member_weights: for each neighbour, the gallery entries that have it: (N + 1,), (m,), (m,).
        scales: (rows,) factor of each row of distances.
        share: of the original distance, lambda.
        distances: (rows, G), read and written.
        num_threads: OpenMP threads.
    """
    cdef Py_ssize_t rows = distances.shape[0], length = distances.shape[1], row
    cdef float* overlap
    if q_starts.shape[0] != rows + 1 or scales.shape[0] != rows:
        raise ValueError("mix_jaccard: arrays of different lengths")
    cdef uint8_t* failed = <uint8_t*>calloc(rows + 1, 1)
    cdef Py_ssize_t failures = 0
    if failed == NULL:
        raise MemoryError
    for row in prange(rows, nogil=True, schedule="dynamic", chunksize=4, num_threads=num_threads):
        overlap = <float*>calloc(length, sizeof(float))
        if overlap == NULL:
            failed[row] = 1
        else:
            mix_query(
                &q_neighbours[0] + q_starts[row], &q_weights[0] + q_starts[row], q_starts[row + 1] - q_starts[row],
                &starts[0], &members[0], &member_weights[0], overlap, share, scales[row], &distances[row, 0], length,
            )
        free(overlap)
    for row in range(rows):
        failures += failed[row]
    free(failed)
    if failures:
        raise MemoryError
