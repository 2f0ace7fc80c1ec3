# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Compiled loops of the corruptions; corruption/glass.py holds the same in Python."""


def glass_shuffle(unsigned char[:, :, ::1] image, const long long[:, ::1] offsets, int delta):
    """One iteration of glass_blur, in place; see corruption.glass.shuffle_python.

    image: (H, W, 3); offsets: one (dx, dy) in [-delta, delta) per visited pixel, in the order of the visits.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1]
    cdef Py_ssize_t h, w, source_h, source_w, k = 0
    with nogil:
        for h in range(height - delta, delta, -1):
            for w in range(width - delta, delta, -1):
                source_h = h + offsets[k, 1]
                source_w = w + offsets[k, 0]
                image[h, w, 0] = image[source_h, source_w, 0]
                image[h, w, 1] = image[source_h, source_w, 1]
                image[h, w, 2] = image[source_h, source_w, 2]
                k += 1
