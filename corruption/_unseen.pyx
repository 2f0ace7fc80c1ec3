# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled loops of the corruptions of ImageNet-C-bar; all release the GIL.

unseen_arrays.py has the same functions on whole arrays and says what each computes; tests compare the two. The sine is
this file's own, because a compiler can vectorise it, and the C library's cannot without -ffast-math.
"""

from libc.math cimport atan2, fabs, floor, pow, rint, sin as libm_sin, sqrt
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc

cdef double PI = 3.141592653589793


cdef inline double to_integer(double x) noexcept nogil:
    """Rounds to the nearest integer; |x| below 2^51."""
    return (x + 6755399441055744.0) - 6755399441055744.0  # 1.5 * 2^52: the sum has no digits after the point


cdef inline double remove_half_turns(double x, double count) noexcept nogil:
    """x - count pi. pi is the sum of parts of 33, 33 and 53 bits: their products with counts below 2^20 are exact."""
    return ((x - count * 3.14159265346825122834) - count * 1.2154201012607931953e-10) - count * 4.04453249759190126308e-21


cdef inline double sign_of(double count) noexcept nogil:
    """(-1)^count."""
    cdef double odd = count - 2 * to_integer(0.5 * count)  # -1, 0 or 1
    return 1 - 2 * odd * odd


cdef inline double cosine_series(double r) noexcept nogil:
    """cos(r) for |r| up to pi / 2: the Taylor series up to r^22; the next term is below 1e-19."""
    cdef double z = r * r
    return 1 + z * (-1.0 / 2 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800
        + z * (1.0 / 479001600 + z * (-1.0 / 87178291200.0 + z * (1.0 / 20922789888000.0
        + z * (-1.0 / 6402373705728000.0 + z * (1.0 / 2432902008176640000.0
        + z * (-1.0 / 1124000727777607680000.0)))))))))))


cdef inline double sine_series(double r) noexcept nogil:
    """sin(r) for |r| up to pi / 2: the Taylor series up to r^21; the next term is below 2e-18."""
    cdef double z = r * r
    return r + r * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880
        + z * (-1.0 / 39916800 + z * (1.0 / 6227020800.0 + z * (-1.0 / 1307674368000.0
        + z * (1.0 / 355687428096000.0 + z * (-1.0 / 121645100408832000.0
        + z * (1.0 / 51090942171709440000.0))))))))))


cdef inline double sine(double x) noexcept nogil:
    cdef double count = to_integer(x * 0.3183098861837907)
    return sign_of(count) * sine_series(remove_half_turns(x, count))


cdef inline double cosine(double x) noexcept nogil:
    """cos(x) = (-1)^(k + 1) sin(x - (k + 1/2) pi)."""
    cdef double count = to_integer(x * 0.3183098861837907 - 0.5)
    return sign_of(count + 1) * sine_series(remove_half_turns(x, count + 0.5))


def sines(const double[::1] values, double[:, ::1] out):
    """Writes sine and cosine to (2, N) `out`; |values| below 3e6."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(values.shape[0]):
            out[0, i] = sine(values[i])
            out[1, i] = cosine(values[i])


cdef void sines_and_cosines(const double* values, Py_ssize_t length, double* sines, double* cosines) noexcept nogil:
    cdef Py_ssize_t i
    cdef double count, sign, r
    for i in range(length):
        count = to_integer(values[i] * 0.3183098861837907)
        sign = sign_of(count)
        r = remove_half_turns(values[i], count)
        sines[i] = sign * sine_series(r)
        cosines[i] = sign * cosine_series(r)


def caustics(const double[::1] rows, const double[::1] columns, double time, double[:, ::1] out):
    """Sines of sums come from the sines and cosines of the terms."""
    cdef Py_ssize_t height = rows.shape[0], width = columns.shape[0], row, x
    cdef int k
    cdef double p, t, sine_t, cosine_t, first, second, value
    cdef const double* q = &columns[0]
    cdef double* total
    cdef double* i = <double*>malloc(6 * width * sizeof(double))
    cdef double* j = i + width
    cdef double* sine_i = i + 2 * width
    cdef double* cosine_i = i + 3 * width
    cdef double* sine_j = i + 4 * width
    cdef double* cosine_j = i + 5 * width
    if i == NULL:
        raise MemoryError
    with nogil:
        for row in range(height):
            p = rows[row]
            total = &out[row, 0]
            for x in range(width):
                i[x] = p
                j[x] = q[x]
                total[x] = 1
            sines_and_cosines(i, width, sine_i, cosine_i)
            sines_and_cosines(j, width, sine_j, cosine_j)
            for k in range(5):
                t = time * (1 - 3.5 / (k + 1))
                sine_t = sine(t)
                cosine_t = cosine(t)
                for x in range(width):  # p + cos(t - i) + sin(t + j), q + sin(t - j) + cos(t + i)
                    i[x] = p + (cosine_t * (cosine_i[x] + sine_j[x]) + sine_t * (sine_i[x] + cosine_j[x]))
                    j[x] = q[x] + (sine_t * (cosine_j[x] - sine_i[x]) + cosine_t * (cosine_i[x] - sine_j[x]))
                sines_and_cosines(i, width, sine_i, cosine_i)
                sines_and_cosines(j, width, sine_j, cosine_j)
                for x in range(width):  # p / sin(i + t), q / cos(j + t)
                    first = 0.005 * p / (sine_i[x] * cosine_t + cosine_i[x] * sine_t)
                    second = 0.005 * q[x] / (cosine_j[x] * cosine_t - sine_j[x] * sine_t)
                    total[x] += 1 / sqrt(first * first + second * second)
            for x in range(width):
                value = 1.17 - pow(total[x] / 5, 1.4)
                value = value * value
                value = value * value
                value = value * value
                total[x] = value if value < 1 else 1.0
    free(i)


cdef inline double rounded(double value) noexcept nogil:
    """To three decimals, as NumPy rounds."""
    return rint(value * 1000) / 1000


def refract(
    const uint8_t[:, :, ::1] image, const double[:, ::1] caustics, double strength, double lighting,
    uint8_t[:, :, ::1] out,
):
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], row, column, top, left, c
    cdef double a, b, cosine, bend, y, x, value, right_weight, bottom_weight, left_weight, top_weight
    cdef bint inside
    cdef int level
    cdef float white = 255
    cdef float[256] levels
    for level in range(256):
        levels[level] = level / white
    with nogil:
        for row in range(height):
            for column in range(width):
                a = (caustics[row + 1, column] if row + 1 < height else 0.0) \
                    - (caustics[row - 1, column] if row > 0 else 0.0)
                b = (caustics[row, column + 1] if column + 1 < width else 0.0) \
                    - (caustics[row, column - 1] if column > 0 else 0.0)
                cosine = 1 / sqrt(a * a + b * b + 1)
                bend = strength * cosine * (sqrt(1 - (1 - cosine * cosine) / 16) - cosine / 4)
                if cosine >= 0.999:
                    bend = 0
                y = row + rounded(a * bend)
                x = column + rounded(b * bend)
                top = <Py_ssize_t>floor(y)
                left = <Py_ssize_t>floor(x)
                bottom_weight = y - top
                right_weight = x - left
                top_weight = 1 - y + top
                left_weight = 1 - x + left
                inside = 0 <= top and top + 1 < height and 0 <= left and left + 1 < width
                for c in range(3):
                    if inside:
                        value = interpolate_inside(
                            levels, &image[top, left, c], 3 * width, top_weight, bottom_weight, left_weight, right_weight,
                            -lighting * b, lighting * a
                        )
                    else:
                        value = interpolate_side(levels, image, top, left, c, top_weight, left_weight, right_weight) \
                            + interpolate_side(levels, image, top + 1, left, c, bottom_weight, left_weight, right_weight) \
                            - lighting * b + lighting * a
                    value = value if value > 0 else 0.0
                    value = value if value < 1 else 1.0
                    out[row, column, c] = <uint8_t><int>(value * 255)


cdef inline float interpolate_inside(
    const float* levels, const uint8_t* pixel, Py_ssize_t stride, float top_weight, float bottom_weight, float left_weight,
    float right_weight, float first_light, float second_light
) noexcept nogil:
    """Bilinear value of four pixels in [0, 1], lit, in single precision."""
    cdef float above = levels[pixel[0]] * left_weight + levels[pixel[3]] * right_weight
    cdef float below = levels[pixel[stride]] * left_weight + levels[pixel[stride + 3]] * right_weight
    cdef float value = above * top_weight + below * bottom_weight
    value = value + first_light
    return value + second_light


cdef double interpolate_side(
    const float* levels, const uint8_t[:, :, ::1] image, Py_ssize_t row, Py_ssize_t left, Py_ssize_t c,
    double row_weight, double left_weight, double right_weight
) noexcept nogil:
    """Along a row, times its weight; pixels outside are 0; single precision where both are inside."""
    cdef float first = 0, second = 0, total
    cdef bint has_first = 0 <= left < image.shape[1], has_second = 0 <= left + 1 < image.shape[1]
    if row < 0 or row >= image.shape[0]:
        return 0
    if has_first:
        first = levels[image[row, left, c]] * <float>left_weight
    if has_second:
        second = levels[image[row, left + 1, c]] * <float>right_weight
    if has_first and has_second:
        total = first + second
        return total * <float>row_weight
    return (<double>first + second) * row_weight


def perlin_turbulence(
    const double[::1] rows, const double[::1] columns, const int64_t[::1] table, const double[:, ::1] gradients,
    double[:, ::1] out,
):
    cdef Py_ssize_t height = rows.shape[0], width = columns.shape[0], row, column
    cdef int64_t top, left, first, second, lower, upper
    cdef int octave
    cdef double k, y, x, f, g, across, down, u, v, before, after
    with nogil:
        for row in range(height):
            for column in range(width):
                out[row, column] = 0
            k = 1
            for octave in range(5):
                y = k * rows[row] + 4096
                top = <int64_t>y
                f = y - top
                across = f * f * (3 - 2 * f)
                first = table[top & 255]
                second = table[(top + 1) & 255]
                for column in range(width):
                    x = k * columns[column] + 4096
                    left = <int64_t>x
                    g = x - left
                    down = g * g * (3 - 2 * g)
                    lower = left & 255
                    upper = (left + 1) & 255
                    u = corner(gradients, table[first + lower], f, g)
                    v = corner(gradients, table[second + lower], f - 1, g)
                    before = u + across * (v - u)
                    u = corner(gradients, table[first + upper], f, g - 1)
                    v = corner(gradients, table[second + upper], f - 1, g - 1)
                    after = u + across * (v - u)
                    out[row, column] += fabs(1.5 * (before + down * (after - before))) / k
                k = k * 2


cdef inline double corner(const double[:, ::1] gradients, int64_t index, double f, double g) noexcept nogil:
    return gradients[index, 0] * f + gradients[index, 1] * g


def plasma(
    const double[::1] rows, const double[::1] columns, double time, int iterations, double sharpness,
    double[:, :, ::1] out,
):
    cdef Py_ssize_t height = rows.shape[0], width = columns.shape[0], row, column
    cdef int k
    cdef double frequency, slowness, divisor, first, second, shift, sine_of_time = libm_sin(time)
    cdef double* channels
    cdef double* y = <double*>malloc(2 * width * sizeof(double))
    cdef double* x = y + width
    if y == NULL:
        raise MemoryError
    with nogil:
        for row in range(height):
            for column in range(width):
                y[column] = rows[row]
                x[column] = columns[column]
            frequency = slowness = divisor = 1
            for k in range(iterations):
                shift = time / slowness
                for column in range(width):
                    first = cosine(y[column] * frequency + shift) / divisor
                    second = sine(x[column] * frequency + shift) / divisor
                    x[column] = x[column] + (first - 0.3 * second)
                    y[column] = y[column] + (second + 0.3 * first)
                frequency = frequency * 1.93
                slowness = slowness * 1.15
                divisor = divisor * (2.25 - sharpness)
            channels = &out[row, 0, 0]
            for column in range(width):
                channels[3 * column] = sine(x[column] - time)
                channels[3 * column + 1] = sine((x[column] + y[column] + sine_of_time) * 0.5)
                channels[3 * column + 2] = sine(y[column] + time)
    free(y)


def ray_weights(
    const double[::1] rows, const double[::1] columns, const double[::1] lengths, double exponent, double[:, ::1] out
):
    cdef Py_ssize_t height = rows.shape[0], width = columns.shape[0], count = lengths.shape[0], row, column
    cdef Py_ssize_t ray
    cdef double y, x, position, between, length, value
    with nogil:
        for row in range(height):
            y = rows[row]
            for column in range(width):
                x = columns[column]
                position = (atan2(x, y) + PI) / (2 * PI) * count
                ray = <Py_ssize_t>position
                between = position - ray
                length = lengths[ray % count]
                length = length + between * (lengths[(ray + 1) % count] - length)
                value = length * length / (x * x + y * y + 1e-4)
                if exponent != 1:
                    value = pow(value, exponent)
                between = between - 0.5
                value = (1 - between * between) * value
                out[row, column] = value if value < 1 else 1.0


def whiten(double[:, :, ::1] values, const double[:, ::1] weights):
    cdef Py_ssize_t row, column, c
    cdef double value
    with nogil:
        for row in range(values.shape[0]):
            for column in range(values.shape[1]):
                for c in range(3):
                    value = <float>values[row, column, c]
                    values[row, column, c] = value + weights[row, column] * (255 - value)


def add_values(
    const uint8_t[:, :, ::1] image, const double[::1] levels, const double[:, ::1] values, uint8_t[:, :, ::1] out
):
    cdef Py_ssize_t row, column, c
    cdef double value
    with nogil:
        for row in range(image.shape[0]):
            for column in range(image.shape[1]):
                for c in range(image.shape[2]):
                    value = levels[image[row, column, c]] + values[row, column]
                    value = value if value > 0 else 0.0
                    value = value if value < 255 else 255.0
                    out[row, column, c] = <uint8_t><int>value
