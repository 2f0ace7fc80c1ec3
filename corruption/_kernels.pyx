# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Compiled loops of the corruptions; all release the GIL.

Sums are double and are added in the order of the published code (NumPy, SciPy), so that with the same random numbers
the results agree to the last bit.
"""

from libc.math cimport floor
from libc.stdint cimport int64_t, uint32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

ctypedef fused integer:
    int64_t
    signed char

ctypedef fused real:
    float
    double


cdef inline uint8_t to_grey_level(double value) noexcept nogil:
    """Clips a value to [0, 1], multiplies by 255 and truncates to an integer, as published."""
    value = value if value > 0.0 else 0.0  # this order compiles to max and min instructions
    value = value if value < 1.0 else 1.0
    return <uint8_t><int>(value * 255)


def to_uint8(const real[::1] values, uint8_t[::1] out):
    """`to_grey_level` of every value."""
    cdef Py_ssize_t i
    cdef real value
    with nogil:
        for i in range(values.shape[0]):
            if real is float:  # times 255 in float, as NumPy does for float arrays
                value = values[i] if values[i] > 0 else <real>0
                value = value if value < 1 else <real>1
                out[i] = <uint8_t><int>(value * <float>255)
            else:
                out[i] = to_grey_level(values[i])


def add_noise(const uint8_t[::1] image, const real[::1] noise, bint proportional, uint8_t[::1] out):
    """Adds noise to the image in [0, 1]: x + n, or x + x n if `proportional`."""
    cdef Py_ssize_t i
    cdef double value
    with nogil:
        if proportional:
            for i in range(image.shape[0]):
                value = image[i] / 255.0
                out[i] = to_grey_level(value + value * noise[i])
        else:
            for i in range(image.shape[0]):
                out[i] = to_grey_level(image[i] / 255.0 + noise[i])


def sample_by_level(
    const uint8_t[::1] image,
    const uint32_t[::1] uniforms,
    const uint32_t[:, ::1] thresholds,
    const uint8_t[:, ::1] guide,
    const uint8_t[::1] values,
    uint8_t[::1] out,
):
    """For each grey level x and 32-bit uniform u, writes values[k] for the smallest k with u <= thresholds[x, k].

    The search starts at guide[x, u >> 24]; the last threshold of a row is never read.
    """
    cdef Py_ssize_t i, last = thresholds.shape[1] - 1
    cdef int k
    with nogil:
        for i in range(image.shape[0]):
            k = guide[image[i], uniforms[i] >> 24]
            while k < last and uniforms[i] > thresholds[image[i], k]:
                k += 1
            out[i] = values[k]


cdef inline Py_ssize_t clamped(Py_ssize_t index, Py_ssize_t count) noexcept nogil:
    return 0 if index < 0 else count - 1 if index >= count else index


cdef inline Py_ssize_t reflected(Py_ssize_t index, Py_ssize_t count) noexcept nogil:
    """Index into an image padded with its mirror image, edges doubled: c b a | a b c | c b a."""
    index = index % (2 * count)
    if index < 0:
        index += 2 * count
    return index if index < count else 2 * count - 1 - index


cdef enum:
    BLOCK = 8  # values summed at a time, in registers


cdef void symmetric_sum(
    double* out, const double** before, const double** after, const double* weights, int radius, Py_ssize_t length
) noexcept nogil:
    """out = weights[radius] centre + sum over k from 0 of weights[k] (before[k] + after[k]); centre is before[radius].

    SciPy's correlate1d sums a symmetric kernel in this order.
    """
    cdef Py_ssize_t block, start, i
    cdef int k
    cdef double[BLOCK] total
    cdef const double* p
    cdef const double* q
    cdef double weight
    for block in range(length // BLOCK):
        start = block * BLOCK
        p = before[radius] + start
        weight = weights[radius]
        for i in range(BLOCK):
            total[i] = p[i] * weight
        for k in range(radius):
            p = before[k] + start
            q = after[k] + start
            weight = weights[k]
            for i in range(BLOCK):
                total[i] += (p[i] + q[i]) * weight
        for i in range(BLOCK):
            out[start + i] = total[i]
    for i in range(length - length % BLOCK, length):
        out[i] = before[radius][i] * weights[radius]
        for k in range(radius):
            out[i] += (before[k][i] + after[k][i]) * weights[k]


def symmetric_filter(
    const double[:, :, ::1] image, const double[::1] down, const double[::1] across, bint reflect, double[:, :, ::1] out
):
    """Separable symmetric filter, first down the columns, then along the rows.

    image, out: (H, W, C), not the same array. down, across: half kernels, outermost weight first, centre last.
    reflect: pad with the mirror image, edges doubled (SciPy's "reflect"); otherwise with the edge ("nearest").
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], channels = image.shape[2]
    cdef Py_ssize_t length = width * channels, row, column, source, c
    cdef int radius_down = down.shape[0] - 1, radius_across = across.shape[0] - 1, k
    cdef int radius = max(radius_down, radius_across)
    cdef double* padded = <double*>malloc((width + 2 * radius_across) * channels * sizeof(double))
    cdef const double** before = <const double**>malloc(2 * (radius + 1) * sizeof(double*))
    cdef const double** after = before + radius + 1
    cdef double* inner = padded + radius_across * channels
    if padded == NULL or before == NULL:
        free(padded)
        free(before)
        raise MemoryError
    with nogil:
        for row in range(height):
            for k in range(radius_down + 1):
                source = row - radius_down + k
                before[k] = &image[reflected(source, height) if reflect else clamped(source, height), 0, 0]
                source = row + radius_down - k
                after[k] = &image[reflected(source, height) if reflect else clamped(source, height), 0, 0]
            symmetric_sum(inner, before, after, &down[0], radius_down, length)
            for column in range(1, radius_across + 1):
                source = reflected(-column, width) if reflect else 0
                memcpy(inner - column * channels, inner + source * channels, channels * sizeof(double))
                source = reflected(width - 1 + column, width) if reflect else width - 1
                memcpy(inner + (width - 1 + column) * channels, inner + source * channels, channels * sizeof(double))
            for k in range(radius_across + 1):
                before[k] = inner - (radius_across - k) * channels
                after[k] = inner + (radius_across - k) * channels
            symmetric_sum(&out[row, 0, 0], before, after, &across[0], radius_across, length)
    free(padded)
    free(before)


def glass_shuffle(uint8_t[:, :, ::1] image, const integer[:, ::1] offsets, int delta):
    """One iteration of glass_blur's shuffle, in place; see corruption.blur.glass_blur.

    image: (H, W, 3); offsets: one (dx, dy) in [-delta, delta) per visited pixel, in the order of the visits.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1]
    cdef Py_ssize_t row, column, source_row, source_column, k = 0
    with nogil:
        for row in range(height - delta, delta, -1):
            for column in range(width - delta, delta, -1):
                source_row = row + offsets[k, 1]
                source_column = column + offsets[k, 0]
                image[row, column, 0] = image[source_row, source_column, 0]
                image[row, column, 1] = image[source_row, source_column, 1]
                image[row, column, 2] = image[source_row, source_column, 2]
                k += 1


cdef void weighted_sum(
    double* out, const double** sources, const double* weights, Py_ssize_t count, Py_ssize_t length
) noexcept nogil:
    """out = sum over k from 0 of weights[k] sources[k]."""
    cdef Py_ssize_t block, start, i, k
    cdef double[BLOCK] total
    cdef const double* p
    cdef double weight
    for block in range(length // BLOCK):
        start = block * BLOCK
        for i in range(BLOCK):
            total[i] = 0
        for k in range(count):
            p = sources[k] + start
            weight = weights[k]
            for i in range(BLOCK):
                total[i] += weight * p[i]
        for i in range(BLOCK):
            out[start + i] = total[i]
    for i in range(length - length % BLOCK, length):
        out[i] = 0
        for k in range(count):
            out[i] += weights[k] * sources[k][i]


def motion_filter(
    const double[:, :, ::1] padded, const double[::1] weights, const int64_t[:, ::1] shifts, double[:, :, ::1] out
):
    """out[h, w] = sum over k of weights[k] image[h - dy_k, w - dx_k]; the edge is repeated.

    padded: (H, W + 2 P, C), the image with its first and last column repeated P times; no |dx| exceeds P.
    shifts: (K, 2) dx, dy. out: (H, W, C).
    """
    cdef Py_ssize_t height = out.shape[0], width = out.shape[1], channels = out.shape[2], count = weights.shape[0]
    cdef Py_ssize_t margin = (padded.shape[1] - width) // 2, row, k
    cdef const double** sources = <const double**>malloc((count + 1) * sizeof(double*))
    if sources == NULL:
        raise MemoryError
    with nogil:
        for row in range(height):
            for k in range(count):
                sources[k] = &padded[clamped(row - shifts[k, 1], height), margin - shifts[k, 0], 0]
            weighted_sum(&out[row, 0, 0], sources, &weights[0], count, width * channels)
    free(sources)


def add_zoomed(const real[:, :, :] crop, double row_step, double column_step, real[:, :, ::1] out):
    """Adds to out[i, j] the bilinear value of `crop` at (i row_step, j column_step), 0 outside of it.

    crop: (h, w, C); out: (H, W, C). SciPy's zoom of order 1; the value is rounded to the type of `out` before adding.
    """
    cdef Py_ssize_t height = out.shape[0], width = out.shape[1], channels = out.shape[2]
    cdef Py_ssize_t last_row = crop.shape[0] - 1, last_column = crop.shape[1] - 1, length = width * channels
    cdef Py_ssize_t i, j, at, current = -2, stride = crop.strides[1] // <Py_ssize_t>sizeof(real)
    cdef double position, weight
    cdef real* total
    cdef double* rows = <double*>malloc(2 * length * sizeof(double))
    cdef double* above = rows
    cdef double* below = rows + length
    cdef double* swap
    if rows == NULL:
        raise MemoryError
    with nogil:
        for i in range(height):
            position = i * row_step
            if position > last_row:
                break
            at = <Py_ssize_t>floor(position)
            weight = position - at
            if at != current:
                if at == current + 1:
                    swap = above
                    above = below
                    below = swap
                else:
                    interpolate_row(&crop[at, 0, 0], stride, last_column, width, channels, column_step, above)
                interpolate_row(
                    &crop[min(at + 1, last_row), 0, 0], stride, last_column, width, channels, column_step, below
                )
                current = at
            total = &out[i, 0, 0]
            for j in range(length):
                total[j] += <real>(above[j] * (1 - weight) + below[j] * weight)
    free(rows)


cdef void interpolate_row(
    const real* row, Py_ssize_t stride, Py_ssize_t last, Py_ssize_t width, Py_ssize_t channels, double step, double* out
) noexcept nogil:
    """out[j] = the row of pixels at position j step, linearly interpolated, 0 beyond the last pixel."""
    cdef Py_ssize_t j, c, at, following
    cdef double position, weight
    for j in range(width):
        position = j * step
        if position > last:
            for c in range(channels):
                out[j * channels + c] = 0
            continue
        at = <Py_ssize_t>position
        weight = position - at
        following = stride if at < last else 0
        for c in range(channels):
            out[j * channels + c] = row[at * stride + c] * (1 - weight) + row[at * stride + following + c] * weight


cdef inline double displaced(double total, double amplitude, double uniform) noexcept nogil:
    """The mean of four neighbours, displaced at random."""
    return total / 4 + amplitude * (-amplitude + 2 * amplitude * uniform)


def plasma(double[:, ::1] field, const real[::1] uniforms, double decay):
    """The diamond-square fractal of `fog`, not yet scaled to [0, 1].

    field: (N, N), N a power of two, written; uniforms: N^2 - 1 random numbers in [0, 1).
    """
    cdef Py_ssize_t size = field.shape[0], step = size, half, i, j, row, column, k = 0
    cdef Py_ssize_t up, left, down, right
    cdef double amplitude = 100, total
    with nogil:
        field[0, 0] = 0
        while step >= 2:
            half = step // 2
            for i in range(size // step):  # middles of squares
                row = i * step
                down = (row + step) % size
                for j in range(size // step):
                    column = j * step
                    right = (column + step) % size
                    total = (field[row, column] + field[down, column]) + (field[row, right] + field[down, right])
                    field[row + half, column + half] = displaced(total, amplitude, uniforms[k])
                    k += 1
            for i in range(size // step):  # middles of upper edges
                row = i * step
                up = (row - half + size) % size
                for j in range(size // step):
                    column = j * step
                    right = (column + step) % size
                    total = (field[row + half, column + half] + field[up, column + half]) \
                        + (field[row, column] + field[row, right])
                    field[row, column + half] = displaced(total, amplitude, uniforms[k])
                    k += 1
            for i in range(size // step):  # middles of left edges
                row = i * step
                down = (row + step) % size
                for j in range(size // step):
                    column = j * step
                    left = (column - half + size) % size
                    total = (field[row + half, column + half] + field[row + half, left]) \
                        + (field[row, column] + field[down, column])
                    field[row + half, column] = displaced(total, amplitude, uniforms[k])
                    k += 1
            step = half
            amplitude /= decay


def add_snow(
    const uint8_t[:, :, ::1] image, const float[:, ::1] grey, const uint8_t[:, ::1] flakes, double image_weight,
    uint8_t[:, :, ::1] out,
):
    """Mixes the image with a whitened one, and adds the flakes once as they are and once turned by 180 degrees.

    image, out: (H, W, 3); grey: (H, W) in [0, 1]; flakes: (H, W) grey levels; image_weight: of the image in the mix.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], row, column, c
    cdef float weight = <float>image_weight, white_weight = <float>(1 - image_weight), value, white
    cdef double total
    with nogil:
        for row in range(height):
            for column in range(width):
                white = grey[row, column] * <float>1.5 + <float>0.5
                for c in range(3):
                    value = <float>image[row, column, c] / <float>255
                    value = weight * value + white_weight * (value if value > white else white)
                    total = value + flakes[row, column] / 255.0
                    out[row, column, c] = to_grey_level(total + flakes[height - 1 - row, width - 1 - column] / 255.0)


def blend(
    const uint8_t[:, :, ::1] image, const uint8_t[:, :, :] texture, double image_weight, double texture_weight,
    uint8_t[:, :, ::1] out,
):
    """image_weight * image + texture_weight * texture, in grey levels."""
    cdef Py_ssize_t row, i, length = image.shape[1] * image.shape[2]
    cdef const uint8_t* x
    cdef const uint8_t* y
    cdef uint8_t* z
    cdef double value
    with nogil:
        for row in range(image.shape[0]):
            x = &image[row, 0, 0]
            y = &texture[row, 0, 0]  # pixels of a row are contiguous, rows are not
            z = &out[row, 0, 0]
            for i in range(length):
                value = image_weight * x[i] + texture_weight * y[i]
                z[i] = <uint8_t><int>(255.0 if value > 255.0 else value)


def adjust_hsv(
    const uint8_t[::1] image, double saturation_factor, double saturation_shift, double value_shift, uint8_t[::1] out
):
    """Saturation times a factor plus a shift, value plus a shift, both clipped to [0, 1]; HSV and back as in skimage.

    image, out: (3 N,), the RGB values of N pixels.
    """
    cdef Py_ssize_t i, pixel
    cdef double red, green, blue, value, low, delta, hue, saturation, fraction, p, q, t
    cdef int sector
    with nogil:
        for pixel in range(image.shape[0] // 3):
            i = 3 * pixel
            red = image[i] / 255.0
            green = image[i + 1] / 255.0
            blue = image[i + 2] / 255.0
            value = max(max(red, green), blue)
            low = min(min(red, green), blue)
            delta = value - low
            if delta == 0.0:
                hue = 0.0
                saturation = 0.0
            else:
                saturation = delta / value
                if blue == value:
                    hue = 4.0 + (red - green) / delta
                elif green == value:
                    hue = 2.0 + (blue - red) / delta
                else:
                    hue = (green - blue) / delta
                hue = hue / 6.0
                if hue < 0.0:
                    hue = hue + 1.0
            saturation = saturation * saturation_factor + saturation_shift
            saturation = 0.0 if saturation < 0.0 else 1.0 if saturation > 1.0 else saturation
            value = value + value_shift
            value = 1.0 if value > 1.0 else value
            sector = <int>(hue * 6)
            fraction = hue * 6 - sector
            p = value * (1 - saturation)
            q = value * (1 - fraction * saturation)
            t = value * (1 - (1 - fraction) * saturation)
            if sector == 0 or sector == 6:
                red, green, blue = value, t, p
            elif sector == 1:
                red, green, blue = q, value, p
            elif sector == 2:
                red, green, blue = p, value, t
            elif sector == 3:
                red, green, blue = p, q, value
            elif sector == 4:
                red, green, blue = t, p, value
            else:
                red, green, blue = value, p, q
            out[i] = to_grey_level(red)
            out[i + 1] = to_grey_level(green)
            out[i + 2] = to_grey_level(blue)


def displace(const float[:, :, ::1] image, const float[:, :, ::1] shifts, float[:, :, ::1] out):
    """out[h, w] = image at (h + dy, w + dx), bilinear; padded with the mirror image (SciPy's "reflect").

    shifts: (H, W, 2) dx, dy.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], channels = image.shape[2]
    cdef Py_ssize_t row, column, c, top, bottom, left, right
    cdef double y, x, row_weight, column_weight
    with nogil:
        for row in range(height):
            for column in range(width):
                y = row + <double>shifts[row, column, 1]
                x = column + <double>shifts[row, column, 0]
                top = <Py_ssize_t>floor(y)
                left = <Py_ssize_t>floor(x)
                row_weight = y - top
                column_weight = x - left
                bottom = reflected(top + 1, height)
                top = reflected(top, height)
                right = reflected(left + 1, width)
                left = reflected(left, width)
                for c in range(channels):
                    out[row, column, c] = <float>(
                        image[top, left, c] * ((1 - row_weight) * (1 - column_weight))
                        + image[top, right, c] * ((1 - row_weight) * column_weight)
                        + image[bottom, left, c] * (row_weight * (1 - column_weight))
                        + image[bottom, right, c] * (row_weight * column_weight)
                    )
