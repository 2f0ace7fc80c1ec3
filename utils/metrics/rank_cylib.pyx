# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Ranks of true matches without sorting a row of distances; rows are shared out over OpenMP threads."""

from cython.parallel cimport parallel, prange
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memmove

ctypedef fused real:
    float
    double

cdef enum:
    FEW = 256  # up to so many matches, comparing every near distance with each is faster than searching


cdef struct Match:
    double distance
    int64_t place  # among the near entries, which are in gallery order
    int64_t nearer  # entries before it


cdef int by_distance(const void* a, const void* b) noexcept nogil:
    cdef const Match* one = <const Match*>a
    cdef const Match* other = <const Match*>b
    if one.distance != other.distance:
        return -1 if one.distance < other.distance else 1
    return -1 if one.place < other.place else 1 if one.place > other.place else 0


cdef void sort_matches(Match* matches, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef Match match
    if count > 64:
        qsort(matches, count, sizeof(Match), by_distance)
        return
    for i in range(1, count):
        match = matches[i]
        k = i
        while k > 0 and matches[k - 1].distance > match.distance:  # equals stay in gallery order
            matches[k] = matches[k - 1]
            k -= 1
        matches[k] = match


# The loops that take the time, in C to have them compiled for several instruction sets, of which the best of the
# machine is picked. They compare and count: the result does not depend on which one it is.
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

    /* The counted entries of a row that are not above `limit`, NaN among them: writes their distances to `values`, in
       gallery order, a bit for each entry to `near`, and to `before`, for each word of `near`, how many came before it.
       Returns their number. BITS sets the bits of a whole word. */
    #define WORD 64
    typedef unsigned long long word;
    #define NEAR(NAME, TYPE, TARGET, BITS) \
        TARGET static Py_ssize_t NAME( \
            const TYPE *row, Py_ssize_t length, TYPE limit, const word *counted, TYPE *values, word *near, \
            Py_ssize_t *before \
        ) { \
            Py_ssize_t found = 0; \
            for (Py_ssize_t start = 0; start < length; start += WORD, row += WORD) { \
                word bits = 0; \
                if (start + WORD <= length) { BITS } \
                else for (int i = 0; i < length - start; i++) bits |= (word)!(row[i] > limit) << i; \
                bits &= *counted++; \
                *near++ = bits; \
                *before++ = found; \
                for (; bits; bits &= bits - 1) values[found++] = row[__builtin_ctzll(bits)]; \
            } \
            return found; \
        }
    /* eight bytes of 0 or 1 at a time, which the product brings together in its highest byte */
    #define BITS_PLAIN \
        unsigned char flags[WORD]; \
        for (int i = 0; i < WORD; i++) flags[i] = !(row[i] > limit); \
        for (int i = 0; i < WORD; i += 8) { \
            word eight = 0; \
            for (int k = 0; k < 8; k++) eight |= (word)flags[i + k] << 8 * k; \
            bits |= eight * 0x0102040810204080 >> 56 << i; \
        }
    NEAR(near_plain_float, float, , BITS_PLAIN)
    NEAR(near_plain_double, double, , BITS_PLAIN)
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <immintrin.h>
    #define BITS_OF(WIDTH, MASK) \
        for (int i = 0; i < WORD; i += WIDTH) { \
            bits |= (word)MASK << i; \
            __builtin_prefetch((const char *)(row + i) + AHEAD); \
        }
    #define AHEAD 4096  /* bytes that are on their way from memory meanwhile */
    #define NOT_ABOVE(PRE, POST) PRE##_cmp_##POST(PRE##_loadu_##POST(row + i), PRE##_set1_##POST(limit), _CMP_NGT_UQ)
    #define NOT_ABOVE_512(POST) \
        _mm512_cmp_##POST##_mask(_mm512_loadu_##POST(row + i), _mm512_set1_##POST(limit), _CMP_NGT_UQ)
    #define AVX512 __attribute__((target("avx512f")))
    #define AVX2 __attribute__((target("avx2")))
    NEAR(near_avx512_float, float, AVX512, BITS_OF(16, NOT_ABOVE_512(ps)))
    NEAR(near_avx512_double, double, AVX512, BITS_OF(8, NOT_ABOVE_512(pd)))
    NEAR(near_avx2_float, float, AVX2, BITS_OF(8, _mm256_movemask_ps(NOT_ABOVE(_mm256, ps))))
    NEAR(near_avx2_double, double, AVX2, BITS_OF(4, _mm256_movemask_pd(NOT_ABOVE(_mm256, pd))))
    #define BEST_NEAR(TYPE) (__builtin_cpu_supports("avx512f") ? near_avx512_##TYPE \
        : __builtin_cpu_supports("avx2") ? near_avx2_##TYPE : near_plain_##TYPE)
    #else
    #define BEST_NEAR(TYPE) near_plain_##TYPE
    #endif
    #define rank_near_float BEST_NEAR(float)
    #define rank_near_double BEST_NEAR(double)
    #define rank_place(near, before, entry) \
        (before[entry / WORD] + __builtin_popcountll(near[entry / WORD] & (((word)1 << entry % WORD) - 1)))
    """
    enum: CHUNK  # distances looked at together: they stay in the first-level cache for all matches of the query
    int rank_below_float(const float* row, Py_ssize_t count, float limit) noexcept nogil
    int rank_below_double(const double* row, Py_ssize_t count, double limit) noexcept nogil
    int rank_up_to_float(const float* row, Py_ssize_t count, float limit) noexcept nogil
    int rank_up_to_double(const double* row, Py_ssize_t count, double limit) noexcept nogil
    int rank_nan_float(const float* row, Py_ssize_t count, float limit) noexcept nogil
    int rank_nan_double(const double* row, Py_ssize_t count, double limit) noexcept nogil
    enum: WORD
    ctypedef uint64_t word
    Py_ssize_t rank_near_float(
        const float* row, Py_ssize_t length, float limit, const word* counted, float* values, word* near,
        Py_ssize_t* before,
    ) noexcept nogil
    Py_ssize_t rank_near_double(
        const double* row, Py_ssize_t length, double limit, const word* counted, double* values, word* near,
        Py_ssize_t* before,
    ) noexcept nogil
    Py_ssize_t rank_place(const word* near, const Py_ssize_t* before, int64_t entry) noexcept nogil


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


cdef inline Py_ssize_t find_near(
    const real* row, Py_ssize_t length, real limit, const word* counted, real* values, word* near, Py_ssize_t* before
) noexcept nogil:
    if real is float:
        return rank_near_float(row, length, limit, counted, values, near, before)
    else:
        return rank_near_double(row, length, limit, counted, values, near, before)


cdef void count_by_comparing(const real* values, Py_ssize_t length, Match* matches, Py_ssize_t count) noexcept nogil:
    """Sets `nearer` of every match: the number of near entries before it.

    values: distances of the near entries, in gallery order. matches: sorted by distance. Each chunk is compared with
    the farthest first: where a chunk has no entry before a match, it has none before nearer ones.
    """
    cdef Py_ssize_t start, size, chunk, k, own
    cdef int64_t found
    cdef real limit
    for chunk in range((length + CHUNK - 1) // CHUNK):
        start = chunk * CHUNK
        size = min(<Py_ssize_t>CHUNK, length - start)
        for k in range(count - 1, -1, -1):
            limit = <real>matches[k].distance
            own = min(max(matches[k].place - start, 0), size)  # up to here in gallery order, equals rank before it
            found = count_up_to(values + start, own, limit) if own else 0
            if own < size:
                found += count_below(values + start + own, size - own, limit)
            matches[k].nearer += found
            if found == 0:
                break


cdef inline Py_ssize_t first_after(
    double distance, int64_t place, const Match* matches, Py_ssize_t count
) noexcept nogil:
    """The first match, of sorted ones, that an entry ranks before; `count` where there is none."""
    cdef const Match* low = matches
    cdef const Match* start = matches
    cdef const Match* middle
    cdef Py_ssize_t left = count, half
    while left > 1:  # without a branch on what is compared, which no processor could foresee
        half = left // 2
        start += half if start[half - 1].distance <= distance else 0
        left -= half
    start += start[0].distance <= distance
    while start > low and (start - 1).distance == distance and place < (start - 1).place:  # by place among equals
        middle = low + (start - low) // 2
        if middle.distance == distance and place < middle.place:
            start = middle
        else:
            low = middle + 1
    return start - matches


cdef struct Workspace:  # of one thread
    word* counted  # a bit for each gallery entry: not junk
    word* near
    Py_ssize_t* before
    void* values
    Match* matches
    int64_t* steps


cdef bint rank_query(
    const real* row, Py_ssize_t length, int64_t camera, const int64_t* same, Py_ssize_t num_same,
    const int64_t* cameras, Workspace* work, int64_t* ranks, int64_t* num_ranks,
) noexcept nogil:
    """Ranks, from 1 and rising, of a query's true matches. Returns whether a distance that was looked at is NaN.

    Only entries up to the farthest match can be before one, and with a good model they are few: the row is read once
    to find them, and the rest is done on them.

    same: gallery indices of the query's identity, rising; those by its camera do not count. num_ranks: 0 before; stays
    so where there are none.
    """
    cdef Py_ssize_t count = 0, found, i, k
    cdef int64_t entry, total = 0
    cdef real limit = 0
    cdef real* values = <real*>work.values
    cdef Match* matches = work.matches
    for i in range(num_same):
        entry = same[i]
        if cameras[entry] == camera:
            if row[entry] != row[entry]:
                return True
        else:
            limit = row[entry] if count == 0 else max(limit, row[entry])
            count += 1
    if count == 0:
        return count_nan(row, length) > 0
    for i in range(num_same):
        if cameras[same[i]] == camera:
            work.counted[same[i] // WORD] &= ~(<word>1 << <word>(same[i] % WORD))
    found = find_near(row, length, limit, work.counted, values, work.near, work.before)
    for i in range(num_same):
        if cameras[same[i]] == camera:
            work.counted[same[i] // WORD] |= <word>1 << <word>(same[i] % WORD)
    if count_nan(values, found):
        return True
    count = 0
    for i in range(num_same):
        entry = same[i]
        if cameras[entry] != camera:
            matches[count].distance = row[entry]
            matches[count].place = rank_place(work.near, work.before, entry)
            matches[count].nearer = 0
            count += 1
    sort_matches(matches, count)
    num_ranks[0] = count
    if count <= FEW:
        count_by_comparing(values, found, matches, count)
    else:
        for k in range(count + 1):
            work.steps[k] = 0
        for i in range(found):
            work.steps[first_after(values[i], i, matches, count)] += 1
        for k in range(count):
            total += work.steps[k]
            matches[k].nearer = total
    for k in range(count):
        ranks[k] = matches[k].nearer + 1
    return False


cdef Workspace* make_workspace(const uint8_t* junk, Py_ssize_t length, size_t item, Py_ssize_t most) noexcept nogil:
    """For rows of `length` distances of `item` bytes, with up to `most` matches; NULL where memory is short."""
    cdef Py_ssize_t words = length // WORD + 1, i
    cdef Workspace* work = <Workspace*>calloc(1, sizeof(Workspace))
    if work == NULL:
        return NULL
    work.counted = <word*>calloc(words, sizeof(word))
    work.near = <word*>malloc(words * sizeof(word))
    work.before = <Py_ssize_t*>malloc(words * sizeof(Py_ssize_t))
    work.values = malloc((length + 1) * item)
    work.matches = <Match*>malloc((most + 1) * sizeof(Match))
    work.steps = <int64_t*>malloc((most + 1) * sizeof(int64_t))
    if not (work.counted and work.near and work.before and work.values and work.matches and work.steps):
        free_workspace(work)
        return NULL
    for i in range(length):
        work.counted[i // WORD] |= <word>(not junk[i]) << <word>(i % WORD)
    return work


cdef void free_workspace(Workspace* work) noexcept nogil:
    if work == NULL:
        return
    free(work.counted)
    free(work.near)
    free(work.before)
    free(work.values)
    free(work.matches)
    free(work.steps)
    free(work)


def match_ranks(
    const real[:, ::1] distances,
    const int64_t[::1] q_camids,
    const int64_t[::1] starts,
    const int64_t[::1] stops,
    const int64_t[::1] by_pid,
    const int64_t[::1] g_camids,
    const uint8_t[::1] junk,
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
        junk: (G,) 1 for entries that never count.
        offsets: (Q,) rising: where there is room for the ranks of a query, stop - start of them, in `ranks`.
        ranks: written: ranks from 1, rising, of one query after the other.
        counts: (Q,) written: number of ranks.
        broken: (Q,) written: 1 where the row holds NaN.
        num_threads: OpenMP threads.

    Returns:
        The number of ranks.

    Raises:
        MemoryError: no room for a copy of a row, and a little more, in each thread.
    """
    cdef Py_ssize_t rows = distances.shape[0], length = distances.shape[1], row, i, most = 0, num_junk = 0, found = 0
    cdef Workspace* work = NULL
    if not (q_camids.shape[0] == starts.shape[0] == stops.shape[0] == offsets.shape[0] == counts.shape[0]
            == broken.shape[0] == rows and g_camids.shape[0] == by_pid.shape[0] == junk.shape[0] == length):
        raise ValueError("match_ranks: arrays of different lengths")
    for row in range(rows):
        most = max(most, stops[row] - starts[row])
    for i in range(length):
        num_junk += junk[i]
    with nogil, parallel(num_threads=num_threads):
        work = make_workspace(&junk[0] if length else NULL, length, sizeof(real), most)
        for row in prange(rows, schedule="dynamic", chunksize=4):
            counts[row] = 0
            if work == NULL:
                broken[row] = 2
            elif num_junk and count_nan(&distances[row, 0], length):
                broken[row] = 1
            else:
                broken[row] = rank_query(
                    &distances[row, 0], length, q_camids[row], &by_pid[starts[row]], stops[row] - starts[row],
                    &g_camids[0], work, &ranks[offsets[row]], &counts[row],
                )
        free_workspace(work)
    for row in range(rows):
        if broken[row] == 2:
            raise MemoryError
        if counts[row]:
            memmove(&ranks[found], &ranks[offsets[row]], counts[row] * sizeof(int64_t))
            found += counts[row]
    return found
