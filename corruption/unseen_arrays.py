"""The functions of _unseen.pyx on whole arrays: what they compute, and what runs where the extension is not built."""

import numpy as np


def caustics(rows: np.ndarray, columns: np.ndarray, time: float, out: np.ndarray) -> None:
    """Writes caustics in [0, 1] to (H, W) `out`; rows (H,) and columns (W,) are phases."""
    p, q = np.broadcast_arrays(rows[:, None], columns)
    i, j, total = p, q, np.ones_like(out)
    for k in range(5):
        t = time * (1 - 3.5 / (k + 1))
        i, j = p + (np.cos(t - i) + np.sin(t + j)), q + (np.sin(t - j) + np.cos(t + i))
        total += 1 / np.hypot(0.005 * p / np.sin(i + t), 0.005 * q / np.cos(j + t))
    np.clip(np.abs(1.17 - (total / 5) ** 1.4) ** 8, 0, 1, out=out)


def refract(image: np.ndarray, caustics: np.ndarray, strength: float, lighting: float, out: np.ndarray) -> None:
    """Writes the image seen through the water whose slopes are those of the (H, W) caustics, and lit by them.

    A ray from above is refracted with index ratio 4 and displaced by up to `strength` pixels, rounded to 3 decimals;
    nearly vertical ones are not. The bilinear value is single precision where all four pixels are in the image.
    """
    height, width = caustics.shape
    padded = np.pad(caustics, 1)
    a = padded[2:, 1:-1] - padded[:-2, 1:-1]
    b = padded[1:-1, 2:] - padded[1:-1, :-2]
    cosine = 1 / np.sqrt(a * a + b * b + 1)
    bend = strength * cosine * (np.sqrt(1 - (1 - cosine * cosine) / 16) - cosine / 4)
    bend[cosine >= 0.999] = 0
    y = np.arange(height)[:, None] + np.round(a * bend, 3)
    x = np.arange(width) + np.round(b * bend, 3)
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    right_weight, bottom_weight = (x - left)[..., None], (y - top)[..., None]
    left_weight, top_weight = (1 - x + left)[..., None], (1 - y + top)[..., None]

    def pixels(row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inside = ((row >= 0) & (row < height) & (column >= 0) & (column < width))[..., None]
        values = image[row.clip(0, height - 1), column.clip(0, width - 1)] / np.float32(255)
        return np.where(inside, values, np.float32(0)), inside

    def interpolate(row: np.ndarray, row_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Along a row, times its weight; single where both pixels are in the image."""
        (first, first_inside), (second, second_inside) = pixels(row, left), pixels(row, left + 1)
        first, second = first * left_weight.astype(np.float32), second * right_weight.astype(np.float32)
        single = (first + second) * row_weight.astype(np.float32)
        inside = first_inside & second_inside
        return np.where(inside, single, (first.astype(np.float64) + second) * row_weight), inside

    (above, above_inside), (below, below_inside) = interpolate(top, top_weight), interpolate(top + 1, bottom_weight)
    light = (-lighting * b)[..., None], (lighting * a)[..., None]
    double = above + below + light[0] + light[1]
    single = above.astype(np.float32) + below.astype(np.float32)
    single = single + light[0].astype(np.float32) + light[1].astype(np.float32)
    values = np.where(above_inside & below_inside, single, double)
    out[...] = (np.clip(values, 0, 1) * 255).astype(np.uint8)


def perlin_turbulence(
    rows: np.ndarray, columns: np.ndarray, table: np.ndarray, gradients: np.ndarray, out: np.ndarray
) -> None:
    """Writes the sum over k = 1, 2, 4, 8, 16 of |Perlin noise(k row, k column)| / k to (H, W) `out`.

    rows (H,) and columns (W,): coordinates in cells. table (514,) int64, gradients (514, 2): see corruption.unseen.
    """
    out[...] = 0
    for k in (1, 2, 4, 8, 16):
        y, x = np.broadcast_arrays((k * rows + 4096)[:, None], k * columns + 4096)
        top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
        f, g = y - top, x - left
        near = [
            [
                (gradients[table[table[(top + i) % 256] + (left + j) % 256]] * np.stack([f - i, g - j], -1)).sum(-1)
                for i in (0, 1)
            ]
            for j in (0, 1)
        ]
        across, down = f * f * (3 - 2 * f), g * g * (3 - 2 * g)
        before, after = (first + across * (second - first) for first, second in near)
        out += np.abs(1.5 * (before + down * (after - before))) / k


def plasma(
    rows: np.ndarray, columns: np.ndarray, time: float, iterations: int, sharpness: float, out: np.ndarray
) -> None:
    """Writes plasma in [-1, 1] to (H, W, 3) `out`; rows (H,) and columns (W,) are coordinates."""
    y, x = np.broadcast_arrays(rows[:, None], columns)
    frequency, slowness, divisor = 1.0, 1.0, 1.0
    for _ in range(iterations):
        first = np.cos(y * frequency + time / slowness) / divisor
        second = np.sin(x * frequency + time / slowness) / divisor
        x, y = x + (first - 0.3 * second), y + (second + 0.3 * first)
        frequency, slowness, divisor = frequency * 1.93, slowness * 1.15, divisor * (2.25 - sharpness)
    out[..., 0] = np.sin(x - time)
    out[..., 1] = np.sin((x + y + np.sin(time)) * 0.5)
    out[..., 2] = np.sin(y + time)


def ray_weights(rows: np.ndarray, columns: np.ndarray, lengths: np.ndarray, exponent: float, out: np.ndarray) -> None:
    """Writes the weights of a star with rays of these lengths to (H, W) `out`; rows and columns start at its centre."""
    y, x = rows[:, None], columns
    count = len(lengths)
    position = (np.arctan2(x, y) + np.pi) / (2 * np.pi) * count
    ray = position.astype(np.int64)
    between = position - ray
    length = lengths[ray % count]
    length = length + between * (lengths[(ray + 1) % count] - length)
    squared = length**2 / (x**2 + y**2 + 1e-4)
    np.clip((1 - (between - 0.5) ** 2) * (squared if exponent == 1 else squared**exponent), 0, 1, out=out)


def whiten(values: np.ndarray, weights: np.ndarray) -> None:
    """Moves (H, W, 3) values, rounded to single precision first, towards 255 by (H, W) weights, in place."""
    values[...] = values.astype(np.float32)
    values += weights[..., None] * (255 - values)


def add_values(image: np.ndarray, levels: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    """Writes levels[image] + values, clipped and truncated; image and out (H, W, C), levels (256,), values (H, W)."""
    out[...] = np.clip(levels[image] + values[..., None], 0, 255)
