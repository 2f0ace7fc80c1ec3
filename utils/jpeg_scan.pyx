# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Follows the entropy-coded data of a JPEG to its end without computing a pixel (ITU-T T.81, annexes B, F and G).

Compressed data carry no checksum: what is damaged decodes to something, with a warning of libjpeg's that PIL drops. The
blocks and the data must end together, at a marker that may stand there; that is what is checked here.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    static uint64_t big_endian(uint64_t value) {
        const unsigned char* b = (const unsigned char*)&value;
        uint64_t result = 0;
        for (int i = 0; i < 8; i++) result = result << 8 | b[i];
        return result;
    }
    """
    uint64_t big_endian(uint64_t value) noexcept nogil

cdef enum:
    LOOKUP_BITS = 9  # codes up to this length are found in one step
    MAX_SCANS = 100  # as libtiff; a file of a few kB may otherwise ask for hours of work
    PADDING = 3  # bytes before the end-of-image marker that mean nothing: cameras fill up words of 32 bits
    # Of 8-bit images no coefficient exceeds 1024 by more than its rounding; those of damaged data drift without end.
    MAX_MEAN = 1280
    MAX_COEFFICIENT = 2048

cdef enum Verdict:
    WHOLE
    NO_END
    BAD_SEGMENT
    BAD_CODE
    ENDS_EARLY
    LEFT_OVER
    NO_RESTART
    OUT_OF_RANGE
    BAD_PROGRESSION
    INCOMPLETE
    TOO_MANY_SCANS
    NO_MEMORY

_MEANINGS = {
    NO_END: "image file is truncated: it ends without an end-of-image marker",
    BAD_SEGMENT: "a marker segment is damaged",
    BAD_CODE: "its compressed data hold an invalid code",
    ENDS_EARLY: "its compressed data end before the image is whole",
    LEFT_OVER: "compressed data are left over where the image is whole",
    NO_RESTART: "a restart marker is missing or out of order",
    OUT_OF_RANGE: "its compressed data give values far outside 8 bits",
    BAD_PROGRESSION: "its progressive scans do not follow one another",
    INCOMPLETE: "scans are missing before its end-of-image marker",
    TOO_MANY_SCANS: f"it has more than {MAX_SCANS} scans",
}

cdef struct Table:  # a Huffman code
    bint defined
    uint16_t lookup[1 << LOOKUP_BITS]  # length * 256 + symbol; 0: the code is longer
    int32_t last[17]  # the last code of each length, -1: none
    int32_t shift[17]  # code + shift: place in symbols
    uint8_t symbols[256]

cdef struct Component:
    int identifier, across, down  # blocks in an MCU
    int quantisation
    int64_t width, height  # in blocks, of a scan with this component alone
    int64_t stride, rows  # in blocks, with those that fill up MCUs
    int dc, ac  # tables of the scan
    int64_t mean  # of the last block, quantised
    bint complete
    int8_t bits[64]  # lowest bit known of each coefficient, -1: none yet
    int8_t most_bits[64]  # of each coefficient of an 8-bit image, in this scan
    uint64_t* nonzero  # a bit for each coefficient of each block

cdef struct Decoder:
    const uint8_t* data
    int64_t at, size  # next byte, end
    uint64_t held  # the next bits, from the highest down
    int count, borrowed  # bits held; how many of them are zeros after the end of the data
    Table tables[2][4]  # DC, AC
    int32_t steps[4][64]  # quantisation tables
    bint seen_frame, followed, progressive
    int width, height, num_components, most_across, most_down
    int restart_interval, scans
    Component components[4]
    int first, last, high, low  # of a progressive scan: coefficients, bits
    int64_t end_of_band_run, most_pixels


cdef inline int word(const uint8_t* data) noexcept nogil:
    return data[0] << 8 | data[1]


cdef void refill(Decoder* d) noexcept nogil:
    cdef int64_t after
    cdef uint64_t value
    if d.at + 8 <= d.size and d.borrowed == 0:
        memcpy(&value, d.data + d.at, 8)
        # No byte of it is 0xFF: the bytes of its complement are not 0.
        if ((~value - <uint64_t>0x0101010101010101) & value & <uint64_t>0x8080808080808080) == 0:
            value = big_endian(value)
            after = (64 - d.count) // 8
            if after == 8:
                d.held = value
            else:
                d.held |= value >> (64 - 8 * after) << (64 - 8 * after - d.count)
            d.count += 8 * after
            d.at += after
            return
    while d.count <= 56:
        value = 0
        if d.at < d.size and d.data[d.at] != 0xFF:
            value = d.data[d.at]
            d.at += 1
        else:
            after = d.at
            while after < d.size and d.data[after] == 0xFF:
                after += 1
            if after < d.size and d.data[after] == 0 and after > d.at:
                value = 0xFF
                d.at = after + 1
            else:
                d.borrowed += 8  # a marker, or the end of the file
        d.held |= value << (56 - d.count)
        d.count += 8


cdef inline int take(Decoder* d, int bits) noexcept nogil:
    """The next 0 to 16 bits."""
    if bits == 0:
        return 0
    if d.count < 16:
        refill(d)
    cdef int value = <int>(d.held >> (64 - bits))
    d.held <<= bits
    d.count -= bits
    return value


cdef inline int symbol(Decoder* d, const Table* table) noexcept nogil:
    """The next symbol, -1 where no code fits."""
    cdef int length, code, found
    if d.count < 16:
        refill(d)
    found = table.lookup[d.held >> (64 - LOOKUP_BITS)]
    if found:
        length = found >> 8
        d.held <<= length
        d.count -= length
        return found & 255
    for length in range(LOOKUP_BITS + 1, 17):
        code = <int>(d.held >> (64 - length))
        if code <= table.last[length]:
            d.held <<= length
            d.count -= length
            return table.symbols[(code + table.shift[length]) & 255]
    return -1


cdef inline bint ran_out(const Decoder* d) noexcept nogil:
    return d.count < d.borrowed


cdef inline Verdict bad_code(const Decoder* d) noexcept nogil:
    return ENDS_EARLY if d.count - 16 < d.borrowed else BAD_CODE


cdef Verdict read_tables(Decoder* d, int64_t at, int64_t end) noexcept nogil:
    """Huffman tables of a DHT segment."""
    cdef int length, i, code, place, number, total
    cdef Table* table
    while at < end:
        if end - at < 17 or d.data[at] & 0xEC:
            return BAD_SEGMENT
        table = &d.tables[d.data[at] >> 4][d.data[at] & 3]
        memset(table, 0, sizeof(Table))
        total = 0
        for length in range(1, 17):
            total += d.data[at + length]
        if total > 256 or end - at - 17 < total:
            return BAD_SEGMENT
        for i in range(total):
            table.symbols[i] = d.data[at + 17 + i]
        code = place = 0
        for length in range(1, 17):
            number = d.data[at + length]
            table.shift[length] = place - code
            table.last[length] = code + number - 1 if number else -1
            if code + number > 1 << length:
                return BAD_SEGMENT
            if length <= LOOKUP_BITS:
                for i in range(number << (LOOKUP_BITS - length)):
                    table.lookup[(code << (LOOKUP_BITS - length)) + i] = (
                        length << 8 | table.symbols[place + (i >> (LOOKUP_BITS - length))]
                    )
            code = code + number << 1
            place += number
        table.defined = True
        at += 17 + total
    return WHOLE


cdef Verdict read_quantisation(Decoder* d, int64_t at, int64_t end) noexcept nogil:
    cdef int wide, k
    cdef int32_t* steps
    while at < end:
        wide = d.data[at] >> 4
        if wide > 1 or d.data[at] & 15 > 3 or end - at < 65 + 64 * wide:
            return BAD_SEGMENT
        steps = d.steps[d.data[at] & 3]
        for k in range(64):
            steps[k] = word(d.data + at + 1 + 2 * k) if wide else d.data[at + 1 + k]
        at += 65 + 64 * wide
    return WHOLE


cdef Verdict read_frame(Decoder* d, int marker, int64_t at, int64_t end) noexcept nogil:
    cdef int i
    cdef int64_t mcus_across, mcus_down
    cdef Component* c
    if d.seen_frame or end - at < 6 or end - at < 6 + 3 * d.data[at + 5]:
        return BAD_SEGMENT
    d.seen_frame = True
    # Other processes (lossless, arithmetic) and depths are PIL's to read or to refuse.
    d.followed = marker <= 0xC2 and d.data[at] == 8
    d.progressive = marker == 0xC2
    d.height, d.width, d.num_components = word(d.data + at + 1), word(d.data + at + 3), d.data[at + 5]
    if not 1 <= <int64_t>d.height * d.width <= d.most_pixels or not 1 <= d.num_components <= 4:
        return BAD_SEGMENT
    d.most_across = d.most_down = 1
    for i in range(d.num_components):
        c = &d.components[i]
        c.identifier, c.across, c.down = d.data[at + 6 + 3 * i], d.data[at + 7 + 3 * i] >> 4, d.data[at + 7 + 3 * i] & 15
        c.quantisation = d.data[at + 8 + 3 * i] & 3
        if not (1 <= c.across <= 4 and 1 <= c.down <= 4):
            return BAD_SEGMENT
        d.most_across, d.most_down = max(d.most_across, c.across), max(d.most_down, c.down)
    mcus_across = (d.width + 8 * d.most_across - 1) // (8 * d.most_across)
    mcus_down = (d.height + 8 * d.most_down - 1) // (8 * d.most_down)
    for i in range(d.num_components):
        c = &d.components[i]
        c.width = (d.width * c.across + 8 * d.most_across - 1) // (8 * d.most_across)
        c.height = (d.height * c.down + 8 * d.most_down - 1) // (8 * d.most_down)
        c.stride, c.rows = mcus_across * c.across, mcus_down * c.down
        memset(c.bits, -1, 64)
        if d.progressive and d.followed:
            c.nonzero = <uint64_t*>calloc(c.stride * c.rows, sizeof(uint64_t))
            if c.nonzero == NULL:
                return NO_MEMORY
    return WHOLE


cdef inline Verdict follow_mean(Decoder* d, Component* c, int low) noexcept nogil:
    """The first coefficient, coded as the difference to the block before."""
    cdef int size = symbol(d, &d.tables[0][c.dc]), bits
    cdef int64_t mean
    if size < 0 or size > 15:
        return bad_code(d)
    bits = take(d, size)
    if size and bits < 1 << (size - 1):
        bits -= (1 << size) - 1
    c.mean += bits
    mean = c.mean * (1 << low) * d.steps[c.quantisation][0]
    if mean > MAX_MEAN + d.steps[c.quantisation][0] or mean < -MAX_MEAN - d.steps[c.quantisation][0]:
        return OUT_OF_RANGE
    return WHOLE


cdef inline Verdict follow_block(Decoder* d, Component* c) noexcept nogil:
    cdef int k = 1, found, size, used
    cdef const Table* table = &d.tables[1][c.ac]
    cdef Verdict verdict = follow_mean(d, c, 0)
    if verdict != WHOLE:
        return verdict
    while k < 64:
        if d.count < 32:
            refill(d)
        found = table.lookup[d.held >> (64 - LOOKUP_BITS)]
        used = found >> 8  # of a code that is found in one step, which is taken together with its value
        if used == 0:
            found = symbol(d, table)
            if found < 0:
                return bad_code(d)
        found &= 255
        size = found & 15
        d.held <<= used + size
        d.count -= used + size
        if size:
            k += found >> 4
            if k > 63:
                return bad_code(d)
            if size > c.most_bits[k]:
                return OUT_OF_RANGE
            k += 1
        elif found == 0xF0:
            k += 16
        else:
            break
    return WHOLE


cdef inline Verdict follow_band(Decoder* d, Component* c, uint64_t* nonzero) noexcept nogil:
    """The first bits of the coefficients of a band, in a progressive scan."""
    cdef int k = d.first, found, run
    if d.end_of_band_run > 0:
        d.end_of_band_run -= 1
        return WHOLE
    while k <= d.last:
        found = symbol(d, &d.tables[1][c.ac])
        if found < 0:
            return bad_code(d)
        run = found >> 4
        if found & 15:
            k += run
            if k > d.last:
                return bad_code(d)
            if found & 15 > c.most_bits[k]:
                return OUT_OF_RANGE
            take(d, found & 15)
            nonzero[0] |= <uint64_t>1 << k
            k += 1
        elif run == 15:
            k += 16
        else:
            d.end_of_band_run = (1 << run) + take(d, run) - 1
            break
    return WHOLE


cdef inline Verdict refine_band(Decoder* d, Component* c, uint64_t* nonzero) noexcept nogil:
    """One further bit of the coefficients of a band, in a progressive scan."""
    cdef int k = d.first, found, run
    while d.end_of_band_run == 0 and k <= d.last:
        found = symbol(d, &d.tables[1][c.ac])
        if found < 0 or found & 15 > 1:
            return bad_code(d)
        run = found >> 4
        if found & 15:
            take(d, 1)
        elif run < 15:
            d.end_of_band_run = (1 << run) + take(d, run)
            break
        while k <= d.last:
            if nonzero[0] >> k & 1:
                take(d, 1)
            elif run == 0:
                break
            else:
                run -= 1
            k += 1
        if found & 15:
            if k > d.last:
                return bad_code(d)
            nonzero[0] |= <uint64_t>1 << k
        k += 1
    if d.end_of_band_run > 0:
        while k <= d.last:
            if nonzero[0] >> k & 1:
                take(d, 1)
            k += 1
        d.end_of_band_run -= 1
    return WHOLE


cdef inline Verdict follow(Decoder* d, Component* c, int64_t row, int64_t column) noexcept nogil:
    cdef Verdict verdict
    if not d.progressive:
        verdict = follow_block(d, c)
    elif d.first > 0:
        verdict = (refine_band if d.high else follow_band)(d, c, c.nonzero + row * c.stride + column)
    elif d.high:
        take(d, 1)
        verdict = WHOLE
    else:
        verdict = follow_mean(d, c, d.low)
    return ENDS_EARLY if verdict == WHOLE and ran_out(d) else verdict


cdef Verdict find_marker(Decoder* d) noexcept nogil:
    """Moves to the next marker's second byte."""
    cdef int64_t skipped = 0, start
    if d.count > d.borrowed:
        skipped = (d.count - d.borrowed) // 8
    d.held = d.count = d.borrowed = 0
    while d.at < d.size:
        start = d.at
        while d.at < d.size and d.data[d.at] == 0xFF:
            d.at += 1
        if d.at < d.size and d.at > start and d.data[d.at] != 0:
            return LEFT_OVER if skipped > (PADDING if d.data[d.at] == 0xD9 else 0) else WHOLE
        d.at += 1
        skipped += d.at - start
    return NO_END


cdef Verdict restart(Decoder* d, int number) noexcept nogil:
    cdef int i
    cdef Verdict verdict = find_marker(d)
    if verdict != WHOLE:
        return verdict
    if d.data[d.at] != 0xD0 + number:
        return NO_RESTART
    d.at += 1
    d.end_of_band_run = 0
    for i in range(d.num_components):
        d.components[i].mean = 0
    return WHOLE


cdef Verdict begin_component(Decoder* d, Component* c) noexcept nogil:
    """Checks that a scan may follow the earlier ones, and that its tables are there."""
    cdef int k, known
    c.mean = 0
    for k in range(64):
        c.most_bits[k] = 1
        while c.most_bits[k] < 15 and d.steps[c.quantisation][k] << (c.most_bits[k] + d.low) <= MAX_COEFFICIENT:
            c.most_bits[k] += 1
    if not d.progressive:
        c.complete = True
        return WHOLE if d.tables[0][c.dc].defined and d.tables[1][c.ac].defined else BAD_SEGMENT
    if d.first and c.bits[0] < 0:
        return BAD_PROGRESSION
    for k in range(d.first, d.last + 1):
        known = max(0, c.bits[k])
        if known != d.high:
            return BAD_PROGRESSION
        c.bits[k] = d.low
    if d.first == 0 and d.high:  # a bit each, without codes
        return WHOLE
    return WHOLE if d.tables[d.first > 0][c.ac if d.first else c.dc].defined else BAD_SEGMENT


cdef Verdict begin_scan(Decoder* d, int64_t at, int64_t end, Component** chosen, int* number) noexcept nogil:
    cdef int i, j
    cdef Verdict verdict
    number[0] = d.data[at] if at < end else 0
    if not d.seen_frame or not 1 <= number[0] <= d.num_components or end - at < 4 + 2 * number[0]:
        return BAD_SEGMENT
    d.scans += 1
    if d.scans > MAX_SCANS:
        return TOO_MANY_SCANS
    d.first, d.last = d.data[end - 3], d.data[end - 2]
    d.high, d.low = (d.data[end - 1] >> 4, d.data[end - 1] & 15) if d.progressive else (0, 0)
    d.end_of_band_run = 0
    if d.progressive and (d.last > 63 or d.first > d.last or d.low > 13 or (d.high and d.low != d.high - 1) or
                          (d.last > 0 if d.first == 0 else number[0] > 1)):  # fmt: skip
        return BAD_PROGRESSION
    for i in range(number[0]):
        chosen[i] = NULL
        for j in range(d.num_components):
            if d.components[j].identifier == d.data[at + 1 + 2 * i]:
                chosen[i] = &d.components[j]
                break
        if chosen[i] == NULL or d.data[at + 2 + 2 * i] & 0xCC:
            return BAD_SEGMENT
        chosen[i].dc, chosen[i].ac = d.data[at + 2 + 2 * i] >> 4, d.data[at + 2 + 2 * i] & 3
        if d.followed:
            verdict = begin_component(d, chosen[i])
            if verdict != WHOLE:
                return verdict
    return WHOLE


cdef Verdict follow_scan(Decoder* d, int64_t at, int64_t end) noexcept nogil:
    """A scan, from its header (at to end) to the marker after its data."""
    cdef Component* chosen[4]
    cdef Component* c
    cdef int number = 0, i, x, y
    cdef int64_t mcu, across, down, row, column
    cdef Verdict verdict = begin_scan(d, at, end, chosen, &number)
    d.at = end
    if verdict != WHOLE or not d.followed:
        while verdict == WHOLE and d.at + 1 < d.size:  # data of another process: up to a marker, not one that restarts
            if d.data[d.at] == 0xFF and d.data[d.at + 1] != 0 and d.data[d.at + 1] & 0xF8 != 0xD0:
                break
            d.at += 1
        return verdict
    c = chosen[0]
    if number == 1:
        across, down = c.width, c.height
    else:
        across, down = c.stride // c.across, c.rows // c.down
    for mcu in range(across * down):
        if d.restart_interval and mcu and mcu % d.restart_interval == 0:
            verdict = restart(d, (mcu // d.restart_interval - 1) & 7)
            if verdict != WHOLE:
                return verdict
        row, column = mcu // across, mcu % across
        if number == 1:
            verdict = follow(d, c, row, column)
            if verdict != WHOLE:
                return verdict
            continue
        for i in range(number):
            c = chosen[i]
            for y in range(c.down):
                for x in range(c.across):
                    verdict = follow(d, c, row * c.down + y, column * c.across + x)
                    if verdict != WHOLE:
                        return verdict
    return WHOLE


cdef Verdict check_complete(const Decoder* d) noexcept nogil:
    cdef int i, k
    if not d.seen_frame or d.scans == 0:
        return INCOMPLETE
    if not d.followed:
        return WHOLE
    for i in range(d.num_components):
        if not d.progressive and not d.components[i].complete:
            return INCOMPLETE
        for k in range(64):
            if d.progressive and d.components[i].bits[k] != 0:
                return INCOMPLETE
    return WHOLE


cdef Verdict follow_file(Decoder* d) noexcept nogil:
    cdef int marker
    cdef int64_t at, end
    cdef Verdict verdict
    d.at = 2
    while True:
        verdict = find_marker(d)
        if verdict != WHOLE:
            return verdict
        marker = d.data[d.at]
        d.at += 1
        if marker == 0xD9:
            return check_complete(d)
        if marker == 1 or marker & 0xF8 == 0xD0:  # alone, without a segment
            continue
        at = d.at + 2
        if at > d.size:
            return NO_END
        end = d.at + word(d.data + d.at)
        if end < at or marker == 0xD8:
            return BAD_SEGMENT
        if end > d.size:
            return NO_END
        d.at = end
        if marker == 0xC4:
            verdict = read_tables(d, at, end)
        elif marker == 0xDB:
            verdict = read_quantisation(d, at, end)
        elif 0xC0 <= marker <= 0xCF and marker != 0xC8 and marker != 0xCC:
            verdict = read_frame(d, marker, at, end)
        elif marker == 0xDD:
            verdict = BAD_SEGMENT if end - at < 2 else WHOLE
            d.restart_interval = word(d.data + at) if verdict == WHOLE else 0
        elif marker == 0xDA:
            verdict = follow_scan(d, at, end)
        if verdict != WHOLE:
            return verdict


def find_damage(const uint8_t[::1] data not None, int64_t most_pixels) -> str:
    """What is wrong with a JPEG, in a few words; "" where its blocks and its data end together.

    Args:
        data: the file; what follows its first end-of-image marker is not looked at.
        most_pixels: a frame of more is damage.
    """
    cdef Verdict verdict
    cdef int i
    cdef bint at_end
    cdef Decoder* d
    if data.shape[0] < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return "it does not start as a JPEG does"
    d = <Decoder*>calloc(1, sizeof(Decoder))
    if d == NULL:
        raise MemoryError
    d.data, d.size, d.most_pixels = &data[0], data.shape[0], most_pixels
    with nogil:
        verdict = follow_file(d)
        for i in range(4):
            free(d.components[i].nonzero)
    at_end = d.at >= d.size - 1  # the last byte may be the first of a marker
    free(d)
    if verdict == ENDS_EARLY and at_end:
        verdict = NO_END
    if verdict == NO_MEMORY:
        raise MemoryError
    return _MEANINGS.get(verdict, "")
