# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Ranks of true matches without sorting a row of distances; rows are shared out over OpenMP threads."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc, qsort

ctypedef fused real:
    float
    double

cdef enum:
    FEW = 256  # up to so many matches, comparing every distance with every match is faster than searching


cdef struct Match:
    double distance
    int64_t index
    int64_t nearer  # entries before it


cdef int by_distance(const void* a, const void* b) noexcept nogil:
    cdef const Match* one = <const Match*>a
    cdef const Match* other = <const Match*>b
    if one.distance != other.distance:
        return -1 if one.distance < other.distance else 1
    return -1 if one.index < other.index else 1 if one.index > other.index else 0


cdef int by_rank(const void* a, const void* b) noexcept nogil:
    cdef int64_t one = (<const int64_t*>a)[0], other = (<const int64_t*>b)[0]
    return -1 if one < other else 1 if one > other else 0


# The loops that take the time, in C to have them compiled for several instruction sets, of which the best is picked
# when the extension is loaded. They compare and count: the result does not depend on which one it is.
cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
    #define BEST_OF_SEVERAL __attribute__((target_clones("avx512f", "avx2", "default")))
    #else
    #define BEST_OF_SEVERAL
    #endif
    #define CHUNK 256
    #define COUNT(NAME, TYPE, CONDITION) \
        BEST_OF_SEVERAL int NAME(const TYPE *row, Py_ssize_t count, TYPE limit) { \
            int total = 0; \
            if (count == CHUNK) for (int i = 0; i < CHUNK; i++) total += CONDITION; \
            else for (Py_ssize_t i = 0; i < count; i++) total += CONDITION; \
            return total; \
        }
    COUNT(rank_below_float, float, row[i] < limit)
    COUNT(rank_below_double, double, row[i] < limit)
    COUNT(rank_up_to_float, float, row[i] <= limit)
    COUNT(rank_up_to_double, double, row[i] <= limit)
    COUNT(rank_nan_float, float, row[i] != row[i])
    COUNT(rank_nan_double, double, row[i] != row[i])
    #if defined(__GNUC__)
    static void rank_prefetch(const void *data, Py_ssize_t size) {
        for (Py_ssize_t i = 0; i < size; i += 64) __builtin_prefetch((const char *)data + i);
    }
    #else
    static void rank_prefetch(const void *data, Py_ssize_t size) {}
    #endif
    """
    enum: CHUNK  # distances looked at together: they stay in the first-level cache for all matches of the query
    int rank_below_float(const float* row, Py_ssize_t count, float limit) noexcept nogil
    int rank_below_double(const double* row, Py_ssize_t count, double limit) noexcept nogil
    int rank_up_to_float(const float* row, Py_ssize_t count, float limit) noexcept nogil
    int rank_up_to_double(const double* row, Py_ssize_t count, double limit) noexcept nogil
    int rank_nan_float(const float* row, Py_ssize_t count, float limit) noexcept nogil
    int rank_nan_double(const double* row, Py_ssize_t count, double limit) noexcept nogil
    void rank_prefetch(const void* data, Py_ssize_t size) noexcept nogil


cdef inline int count_below(const real* row, Py_ssize_t count, real limit) noexcept nogil:
    if real is float:
        return rank_below_float(row, count, limit)
    else:
        return rank_below_double(row, count, limit)


cdef inline int count_up_to(const real* row, Py_ssize_t count, real limit) noexcept nogil:
    if real is float:
        return rank_up_to_float(row, count, limit)
    else:
        return rank_up_to_double(row, count, limit)


cdef inline int count_nan(const real* row, Py_ssize_t count) noexcept nogil:
    if real is float:
        return rank_nan_float(row, count, 0)
    else:
        return rank_nan_double(row, count, 0)


cdef inline bint before(double distance, int64_t index, const Match* match) noexcept nogil:
    """Whether an entry ranks before the match; ties in gallery order."""
    return distance < match.distance or (distance == match.distance and index < match.index)


cdef int64_t count_by_comparing(const real* row, Py_ssize_t length, Match* matches, Py_ssize_t count) noexcept nogil:
    """Sets `nearer` of every match: the number of entries of the whole row before it. Returns the number of NaN.

    matches: sorted by distance. Each chunk is compared with the farthest first: where a chunk has no entry before a
    match, it has none before nearer ones. Meanwhile the next chunk is on its way from memory.
    """
    cdef Py_ssize_t start, size, chunk, k, own
    cdef int64_t broken = 0, found
    cdef real limit
    for chunk in range((length + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        size = min(<Py_ssize_t>CHUNK, length - start)
        rank_prefetch(row + start + CHUNK, CHUNK * sizeof(real))
        broken += count_nan(row + start, size)
        for k in range(count - 1, -1, -1):
            limit = <real>matches[k].distance
            own = min(max(matches[k].index - start, 0), size)  # up to here in gallery order, equals rank before it
            found = count_up_to(row + start, own, limit) if own else 0
            if own < size:
                found += count_below(row + start + own, size - own, limit)
            matches[k].nearer += found
            if found == 0 and k > 0 and matches[k - 1].distance < matches[k].distance:
                break
    return broken


cdef inline Py_ssize_t first_after(double distance, int64_t index, const Match* matches, Py_ssize_t count) noexcept nogil:
    """The first match, of sorted ones, that an entry ranks before; `count` where there is none."""
    cdef const Match* start = matches
    cdef Py_ssize_t left = count, half
    while left > 1:  # without a branch on what is compared, which no processor could foresee
        half = left // 2
        start += half if start[half - 1].distance <= distance else 0
        left -= half
    start += start[0].distance <= distance
    while start > matches and (start - 1).distance == distance and index < (start - 1).index:
        start -= 1
    return start - matches


cdef bint rank_query(
    const real* row, Py_ssize_t length, int64_t camera, const int64_t* same, Py_ssize_t num_same,
    const int64_t* cameras, const int64_t* junk, Py_ssize_t num_junk,
    Match* matches, int64_t* steps, int64_t* ranks, int64_t* num_ranks,
) noexcept nogil:
    """Ranks, from 1 and rising, of a query's true matches. Returns whether a distance of the row is NaN.

    same: gallery indices of the query's identity; those by its camera, and junk, do not count. matches, steps: room for
    num_same, num_same + 1. num_ranks: 0 before; stays so where there are none.
    """
    cdef Py_ssize_t count = 0, i, k
    cdef int64_t entry, total
    for i in range(num_same):
        if cameras[same[i]] != camera:
            matches[count].distance = row[same[i]]
            matches[count].index = same[i]
            matches[count].nearer = 0
            count += 1
    if count == 0:
        return count_nan(row, length) > 0
    qsort(matches, count, sizeof(Match), by_distance)
    if count <= FEW:
        if count_by_comparing(row, length, matches, count):
            return True
        num_ranks[0] = count
        for i in range(num_same + num_junk):
            entry = same[i] if i < num_same else junk[i - num_same]
            if i >= num_same or cameras[entry] == camera:
                for k in range(count):
                    matches[k].nearer -= before(row[entry], entry, &matches[k])
        for k in range(count):
            ranks[k] = matches[k].nearer + 1
        qsort(ranks, count, sizeof(int64_t), by_rank)
        return False
    if count_nan(row, length):
        return True
    num_ranks[0] = count
    for k in range(count + 1):
        steps[k] = 0
    for i in range(length):
        steps[first_after(row[i], i, matches, count)] += 1
    for i in range(num_same + num_junk):
        entry = same[i] if i < num_same else junk[i - num_same]
        if i >= num_same or cameras[entry] == camera:
            steps[first_after(row[entry], entry, matches, count)] -= 1
    total = 0
    for k in range(count):
        total += steps[k]
        ranks[k] = total + 1
    return False


def match_ranks(
    const real[:, ::1] distances,
    const int64_t[::1] q_camids,
    const int64_t[::1] starts,
    const int64_t[::1] stops,
    const int64_t[::1] by_pid,
    const int64_t[::1] g_camids,
    const int64_t[::1] junk,
    const int64_t[::1] offsets,
    int64_t[::1] ranks,
    int64_t[::1] counts,
    uint8_t[::1] broken,
    int num_threads,
):
    """Ranks of every query's true matches; see utils.metrics.

    Args:
        distances: (Q, G).
        q_camids, g_camids: (Q,), (G,) cameras.
        starts, stops: (Q,) by_pid[start:stop] are the gallery indices of the query's identity, rising.
        junk: gallery indices that never count.
        offsets: (Q,) where a query's ranks go in `ranks`, with room for stop - start.
        ranks: written: ranks from 1, rising.
        counts: (Q,) written: number of ranks.
        broken: (Q,) written: 1 where the row holds NaN.
        num_threads: OpenMP threads.
    """
    cdef Py_ssize_t rows = distances.shape[0], length = distances.shape[1], row
    cdef Match* matches
    cdef int64_t* steps
    if not (q_camids.shape[0] == starts.shape[0] == stops.shape[0] == offsets.shape[0] == counts.shape[0]
            == broken.shape[0] == rows and g_camids.shape[0] == by_pid.shape[0] == length):
        raise ValueError("match_ranks: arrays of different lengths")
    for row in prange(rows, nogil=True, schedule="dynamic", chunksize=4, num_threads=num_threads):
        counts[row] = 0
        matches = <Match*>malloc((stops[row] - starts[row] + 1) * sizeof(Match))
        steps = <int64_t*>malloc((stops[row] - starts[row] + 1) * sizeof(int64_t))
        if matches == NULL or steps == NULL:
            broken[row] = 2
        else:
            broken[row] = rank_query(
                &distances[row, 0], length, q_camids[row], &by_pid[starts[row]], stops[row] - starts[row],
                &g_camids[0], &junk[0] if junk.shape[0] else NULL, junk.shape[0],
                matches, steps, &ranks[offsets[row]], &counts[row],
            )
        free(matches)
        free(steps)
    for row in range(rows):
        if broken[row] == 2:
            raise MemoryError
