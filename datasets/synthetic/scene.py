"""The scenes of the synthetic set: the six places that cameras see, and what stands in front of a person."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from datasets.synthetic.camera import camera_of
from utils.seeds import derive_generator

# Size of a camera's panorama, of which each image shows a crop, in pixels at rendering size.
PANORAMA_HEIGHT, PANORAMA_WIDTH = 256, 768

Colour = tuple[float, float, float]


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """(height, width) float32 noise around 0, standard deviation about 0.6, smooth over `cell` pixels."""
    coarse = rng.normal(0, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@lru_cache(maxsize=16)
def panorama(seed: int, camera: int) -> np.ndarray:
    """Renders all that a camera may see, (256, 768, 3) float32 RGB in [0, 1]; read-only."""
    rng = derive_generator(seed, "panorama", camera)
    place = camera_of(camera).place
    image = np.zeros((PANORAMA_HEIGHT, PANORAMA_WIDTH, 3), np.float32)
    horizon = {"plaza": 80, "park": 70, "bricks": 110, "shops": 125, "road": 60, "hall": 95}[place]
    _WALLS[place](image, horizon, rng)
    _GROUNDS[place](image, horizon, rng)
    image *= 1 + 0.05 * smooth_noise(rng, PANORAMA_HEIGHT, PANORAMA_WIDTH, 5)[..., None]
    image *= 1 + 0.09 * smooth_noise(rng, PANORAMA_HEIGHT, PANORAMA_WIDTH, 60)[..., None]
    np.clip(image, 0, 1, out=image)
    image.flags.writeable = False
    return image


def _boxes(
    image: np.ndarray,
    rng: np.random.Generator,
    count: int,
    rows: tuple[int, int],
    width: tuple[int, int],
    height: tuple[int, int],
    colours: Sequence[Colour],
) -> None:
    """Rectangles with a darker rim: `rows` is the range of their lower edges, columns are random."""
    for _ in range(count):
        x, y = int(rng.integers(0, PANORAMA_WIDTH)), int(rng.integers(rows[0], rows[1] + 1))
        w, h = int(rng.integers(*width)), int(rng.integers(*height))
        colour = np.array(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.85, 1.1)
        cv2.rectangle(image, (x, y - h), (x + w, y), (0.6 * colour).tolist(), -1)
        cv2.rectangle(image, (x + 3, y - h + 3), (x + w - 3, y - 2), colour.tolist(), -1)


def _facade(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[:horizon] = (0.66, 0.63, 0.57)
    for x in range(10, PANORAMA_WIDTH, 74):
        cv2.rectangle(image, (x, 4), (x + 40, horizon - 22), (0.27, 0.31, 0.35), -1)
        cv2.rectangle(image, (x, 4), (x + 40, horizon - 22), (0.82, 0.81, 0.77), 3)
        cv2.line(image, (x + 20, 4), (x + 20, horizon - 22), (0.8, 0.8, 0.76), 2)
    cv2.rectangle(image, (0, horizon - 9), (PANORAMA_WIDTH, horizon), (0.42, 0.40, 0.38), -1)
    _boxes(image, rng, 5, (horizon, horizon), (30, 60), (45, 66), ((0.35, 0.25, 0.2), (0.3, 0.36, 0.36)))


def _trees(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[:horizon] = (0.52, 0.60, 0.62)
    for _ in range(90):
        centre = int(rng.integers(0, PANORAMA_WIDTH)), int(rng.integers(-10, horizon - 8))
        green = np.array((0.20, 0.30, 0.15)) * rng.uniform(0.6, 1.5)
        cv2.ellipse(image, centre, (int(rng.integers(12, 34)), int(rng.integers(8, 22))), 0, 0, 360, green.tolist(), -1)
    for _ in range(9):
        x, w = int(rng.integers(0, PANORAMA_WIDTH)), int(rng.integers(5, 14))
        cv2.rectangle(image, (x, 0), (x + w, horizon + int(rng.integers(0, 14))), (0.24, 0.19, 0.15), -1)


def _bricks(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[:horizon] = (0.50, 0.30, 0.24)
    for row, y in enumerate(range(0, horizon, 9)):
        cv2.line(image, (0, y), (PANORAMA_WIDTH, y), (0.60, 0.52, 0.46), 1)
        for x in range(12 * (row % 2), PANORAMA_WIDTH, 24):
            cv2.line(image, (x, y), (x, y + 9), (0.60, 0.52, 0.46), 1)
    _boxes(image, rng, 6, (horizon - 30, horizon - 20), (40, 70), (50, 70), ((0.2, 0.23, 0.27), (0.7, 0.7, 0.66)))
    _boxes(image, rng, 3, (horizon, horizon), (34, 48), (90, 105), ((0.22, 0.3, 0.25), (0.3, 0.22, 0.18)))


def _shop_fronts(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[:horizon] = (0.74, 0.74, 0.72)
    signs = ((0.7, 0.25, 0.2), (0.2, 0.35, 0.55), (0.75, 0.65, 0.3), (0.25, 0.42, 0.3))
    for x in range(0, PANORAMA_WIDTH, 128):
        cv2.rectangle(image, (x + 5, 30), (x + 118, horizon - 8), (0.40, 0.42, 0.42), -1)
        for _ in range(9):
            left, base = x + int(rng.integers(8, 100)), horizon - 12 - int(rng.integers(0, 40))
            colour = rng.uniform(0.25, 0.8, 3).tolist()
            top, right = base - int(rng.integers(8, 30)), left + int(rng.integers(6, 16))
            cv2.rectangle(image, (left, top), (right, base), colour, -1)
        cv2.rectangle(image, (x + 5, 4), (x + 118, 26), signs[rng.integers(len(signs))], -1)
        cv2.line(image, (x + 62, 30), (x + 62, horizon - 8), (0.8, 0.8, 0.8), 3)


def _parked_cars(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[:horizon] = (0.45, 0.45, 0.44)
    _boxes(image, rng, 9, (horizon - 8, horizon - 2), (40, 90), (40, 60), ((0.55, 0.5, 0.42), (0.4, 0.42, 0.45)))
    paints = ((0.75, 0.75, 0.76), (0.15, 0.16, 0.18), (0.45, 0.12, 0.12), (0.2, 0.28, 0.45))
    for x in range(-20, PANORAMA_WIDTH, 190):
        x += int(rng.integers(0, 40))
        paint = paints[rng.integers(len(paints))]
        cv2.ellipse(image, (x + 70, horizon - 12), (44, 26), 0, 180, 360, [0.7 * channel for channel in paint], -1)
        cv2.ellipse(image, (x + 70, horizon - 12), (36, 20), 0, 180, 360, (0.22, 0.25, 0.28), -1)
        cv2.rectangle(image, (x, horizon - 14), (x + 140, horizon + 8), paint, -1)
        for wheel in (28, 112):
            cv2.circle(image, (x + wheel, horizon + 8), 12, (0.07, 0.07, 0.07), -1)


def _hall_wall(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[:horizon] = (0.72, 0.70, 0.66)
    for x in range(20, PANORAMA_WIDTH, 150):
        cv2.rectangle(image, (x, 0), (x + 28, horizon + 6), (0.56, 0.55, 0.53), -1)
        cv2.rectangle(image, (x, 0), (x + 8, horizon + 6), (0.66, 0.65, 0.63), -1)
    _boxes(image, rng, 7, (horizon - 16, horizon - 10), (30, 56), (40, 66), ((0.25, 0.4, 0.55), (0.8, 0.75, 0.5)))
    cv2.rectangle(image, (0, horizon - 6), (PANORAMA_WIDTH, horizon), (0.3, 0.28, 0.27), -1)


def _tiles(image: np.ndarray, horizon: int, colour: Colour, line: Colour, spacing: int, slant: float) -> None:
    """Floor tiles in perspective: rows grow towards the camera, joints fan out."""
    image[horizon:] = colour
    y, step = float(horizon), 5.0
    while y < PANORAMA_HEIGHT:
        cv2.line(image, (0, int(y)), (PANORAMA_WIDTH, int(y)), line, 1, cv2.LINE_AA)
        y, step = y + step, step * 1.3
    for x in range(-PANORAMA_WIDTH, 2 * PANORAMA_WIDTH, spacing):
        foot = int(x + (x - PANORAMA_WIDTH / 2) * slant)
        cv2.line(image, (x, horizon), (foot, PANORAMA_HEIGHT), line, 1, cv2.LINE_AA)


def _paving(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    _tiles(image, horizon, (0.60, 0.58, 0.54), (0.47, 0.45, 0.42), 30, 0.7)


def _meadow(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[horizon:] = (0.33, 0.42, 0.22)
    image[horizon:] *= 1 + 0.14 * smooth_noise(rng, PANORAMA_HEIGHT - horizon, PANORAMA_WIDTH, 3)[..., None]
    path = np.array([[150, horizon], [330, horizon], [760, PANORAMA_HEIGHT], [-60, PANORAMA_HEIGHT]], np.int32)
    cv2.fillPoly(image, [path], (0.62, 0.56, 0.45), cv2.LINE_AA)


def _asphalt(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[horizon:] = (0.36, 0.36, 0.37)
    cv2.rectangle(image, (0, horizon), (PANORAMA_WIDTH, horizon + 22), (0.50, 0.49, 0.47), -1)
    cv2.line(image, (0, horizon + 23), (PANORAMA_WIDTH, horizon + 23), (0.65, 0.64, 0.6), 3)
    for x in range(0, PANORAMA_WIDTH, 260):
        cv2.line(image, (x, 250), (x + 130, 215), (0.78, 0.77, 0.72), 8, cv2.LINE_AA)


def _mall_floor(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    _tiles(image, horizon, (0.70, 0.66, 0.60), (0.50, 0.44, 0.40), 64, 1.2)


def _street(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    image[horizon:] = (0.41, 0.41, 0.42)
    cv2.rectangle(image, (0, horizon + 66), (PANORAMA_WIDTH, PANORAMA_HEIGHT), (0.56, 0.54, 0.51), -1)
    cv2.line(image, (0, horizon + 66), (PANORAMA_WIDTH, horizon + 66), (0.72, 0.71, 0.68), 5)
    for x in range(0, PANORAMA_WIDTH, 100):
        cv2.line(image, (x, horizon + 30), (x + 55, horizon + 30), (0.85, 0.85, 0.82), 4)
        cv2.line(image, (x, horizon + 66), (x - 60, PANORAMA_HEIGHT), (0.46, 0.44, 0.42), 1, cv2.LINE_AA)


def _hall_floor(image: np.ndarray, horizon: int, rng: np.random.Generator) -> None:
    _tiles(image, horizon, (0.52, 0.46, 0.40), (0.42, 0.37, 0.33), 80, 1.5)
    cv2.rectangle(image, (0, 186), (PANORAMA_WIDTH, 198), (0.75, 0.68, 0.35), -1)


_WALLS = {
    "plaza": _facade,
    "park": _trees,
    "bricks": _bricks,
    "shops": _shop_fronts,
    "road": _parked_cars,
    "hall": _hall_wall,
}
_GROUNDS = {
    "plaza": _paving,
    "park": _meadow,
    "bricks": _asphalt,
    "shops": _mall_floor,
    "road": _street,
    "hall": _hall_floor,
}


def render_background(seed: int, camera: int, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Renders a random crop of a camera's panorama, sometimes with a cast shadow.

    Args:
        seed: of the set.
        camera: index from 0.
        rng: generator of the image.
        height, width: of the result, in pixels.

    Returns:
        (height, width, 3) float32 RGB in [0, 1].
    """
    crop_height = int(PANORAMA_HEIGHT * rng.uniform(0.72, 1.0))
    crop_width = int(crop_height * width / height)
    x = int(rng.integers(0, PANORAMA_WIDTH - crop_width))
    y = int(rng.integers(0, PANORAMA_HEIGHT - crop_height + 1))
    crop = panorama(seed, camera)[y : y + crop_height, x : x + crop_width]
    image: np.ndarray = cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)
    image *= 1 + 0.05 * smooth_noise(rng, height, width, 24)[..., None]
    if rng.random() < 0.3:
        _render_cast_shadow(image, rng)
    return image


def _render_cast_shadow(image: np.ndarray, rng: np.random.Generator) -> None:
    """The shadow of something outside the image, across a part of it."""
    height, width = image.shape[:2]
    left, right = rng.uniform(-0.5, 1.5, 2) * height
    shape = np.zeros((height, width), np.uint8)
    corners = np.array([[0, left], [width, right], [width, height], [0, height]], np.int32)
    cv2.fillPoly(shape, [corners], 255)
    mask = cv2.blur(shape, (9, 9)).astype(np.float32)[..., None] / 255
    image *= 1 - 0.35 * mask


def render_occluder(image: np.ndarray, rng: np.random.Generator) -> None:
    """Renders something in front of the person, in place: a post, a bench, a bicycle, a box or a car's bonnet."""
    height, width = image.shape[:2]
    kind = rng.choice(["post", "bench", "bicycle", "box", "bonnet"])
    shade = float(rng.uniform(0.12, 0.6))
    colour = np.clip(shade + rng.normal(0, 0.06, 3), 0.05, 0.9)
    if kind == "post":
        x, w = int(rng.uniform(0.05, 0.95) * width), int(rng.uniform(0.06, 0.13) * width)
        cv2.rectangle(image, (x, 0), (x + w, height), colour.tolist(), -1)
        cv2.rectangle(image, (x, 0), (x + w // 3, height), (1.2 * colour).tolist(), -1)
    elif kind == "bench":
        y = int(rng.uniform(0.68, 0.85) * height)
        for row in range(3):
            top = y + 13 * row
            cv2.rectangle(image, (0, top), (width, top + 8), (colour * (1.1 - 0.1 * row)).tolist(), -1)
    elif kind == "bicycle":
        _render_bicycle(image, rng, colour.tolist())
    elif kind == "box":
        x, w = int(rng.uniform(-0.3, 0.8) * width), int(rng.uniform(0.35, 0.6) * width)
        y = int(rng.uniform(0.62, 0.85) * height)
        cv2.rectangle(image, (x, y), (x + w, height), colour.tolist(), -1)
        cv2.rectangle(image, (x, y), (x + w, y + 8), (1.3 * colour).tolist(), -1)
    else:
        x, y = int(rng.uniform(0, 1) * width), int(rng.uniform(0.9, 1.05) * height)
        cv2.ellipse(image, (x, y), (width, int(0.2 * height)), 0, 180, 360, colour.tolist(), -1, cv2.LINE_AA)
        cv2.ellipse(image, (x, y), (int(0.8 * width), int(0.13 * height)), 0, 180, 360, (0.7 * colour).tolist(), -1)


def _render_bicycle(image: np.ndarray, rng: np.random.Generator, colour: list[float]) -> None:
    height, width = image.shape[:2]
    x, y, r = int(rng.uniform(-0.1, 0.6) * width), int(0.9 * height), int(0.24 * width)
    hubs = (x, y), (x + int(2.6 * r), y)
    for hub in hubs:
        cv2.circle(image, hub, r, (0.07, 0.07, 0.07), 3, cv2.LINE_AA)
    seat, handle = (x + int(0.7 * r), y - int(1.3 * r)), (x + int(2.1 * r), y - int(1.5 * r))
    pedals = (x + int(1.2 * r), y)
    for start, end in ((hubs[0], seat), (seat, handle), (seat, pedals), (handle, pedals), (handle, hubs[1])):
        cv2.line(image, start, end, colour, 4, cv2.LINE_AA)
