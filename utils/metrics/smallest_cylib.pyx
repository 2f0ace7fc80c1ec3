# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The smallest values of each row, without sorting it; rows are shared out over OpenMP threads."""

from cython.parallel cimport prange
from libc.math cimport INFINITY
from libc.stdint cimport int64_t

ctypedef fused real:
    float
    double


# In C to have it compiled for several instruction sets, of which the best is picked when the extension is loaded.
cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
    #define BEST_OF_SEVERAL __attribute__((target_clones("avx512f", "avx2", "default")))
    #else
    #define BEST_OF_SEVERAL
    #endif
    #define CHUNK 128
    #define ANY_BELOW(NAME, TYPE) \
        BEST_OF_SEVERAL int NAME(const TYPE *row, TYPE limit) { \
            int found = 0; \
            for (int i = 0; i < CHUNK; i++) found |= row[i] < limit; \
            return found; \
        }
    ANY_BELOW(smallest_any_float, float)
    ANY_BELOW(smallest_any_double, double)
    """
    enum: CHUNK  # values looked at together
    int smallest_any_float(const float* row, float limit) noexcept nogil
    int smallest_any_double(const double* row, double limit) noexcept nogil


cdef inline bint any_below(const real* row, real limit) noexcept nogil:
    if real is float:
        return smallest_any_float(row, limit)
    else:
        return smallest_any_double(row, limit)


cdef inline void insert(real value, int64_t place, real* values, int64_t* places, Py_ssize_t kept) noexcept nogil:
    """Puts a value among `kept` rising ones, behind its equals."""
    while kept > 0 and values[kept - 1] > value:
        values[kept] = values[kept - 1]
        places[kept] = places[kept - 1]
        kept -= 1
    values[kept] = value
    places[kept] = place


cdef void smallest_of_row(const real* row, Py_ssize_t length, real* values, int64_t* places, Py_ssize_t k) noexcept nogil:
    cdef Py_ssize_t i, start = k, stop
    for i in range(k):
        insert(row[i] if row[i] == row[i] else <real>INFINITY, i, values, places, i)
    while start < length:
        stop = min(start + CHUNK, length)
        if stop - start < CHUNK or any_below(row + start, values[k - 1]):
            for i in range(start, stop):
                if row[i] < values[k - 1]:
                    insert(row[i], i, values, places, k - 1)
        start = stop


def smallest(const real[:, ::1] rows, real[:, ::1] values, int64_t[:, ::1] places, int num_threads):
    """Writes the k smallest values of each row, rising, and their places; see utils.metrics.smallest.

    Args:
        rows: (R, N), k <= N.
        values, places: (R, k), written. NaN counts as infinite.
        num_threads: OpenMP threads.
    """
    cdef Py_ssize_t count = rows.shape[0], length = rows.shape[1], k = values.shape[1], row
    if not (values.shape[0] == places.shape[0] == count and places.shape[1] == k and 1 <= k <= length):
        raise ValueError("smallest: arrays of different lengths")
    for row in prange(count, nogil=True, schedule="dynamic", chunksize=4, num_threads=num_threads):
        smallest_of_row(&rows[row, 0], length, &values[row, 0], &places[row, 0], k)
