"""Where the synthetic pedestrians are seen: six places, what stands in the way, and what each camera makes of it."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from utils.seeds import derive_generator

# Difficulty: how far each camera's gains leave 1 (0: neutral, 1: as listed), how much light varies from picture to
# picture (log standard deviation) and how much cameras blur and add noise.
CAST_STRENGTH = 1.0
LIGHT_SPREAD = 0.16
SOFTNESS = 1.0

# Size of a camera's panorama, of which each picture shows a part, in pixels at drawing size.
PANORAMA_HEIGHT, PANORAMA_WIDTH = 256, 768


@dataclass(frozen=True)
class Camera:
    """A place and what its camera does to light.

    `gains`: RGB factors; `gamma`, `saturation`; `haze`: light added evenly; `light`: side it comes from, -1..1;
    `blur`: Gaussian sigma in pixels; `noise`: standard deviation in [0, 1]; `quality`: JPEG; `views`: how often people
    are seen from the front, the side and the back.
    """

    place: str
    gains: tuple[float, float, float]
    gamma: float
    saturation: float
    haze: float
    light: float
    blur: float
    noise: float
    quality: int
    views: tuple[float, float, float]


CAMERAS = (
    Camera("plaza", (1.12, 1.02, 0.84), 0.90, 1.0, 0.02, 0.8, 0.3, 0.010, 92, (0.6, 0.2, 0.2)),
    Camera("park", (0.86, 1.06, 0.92), 1.05, 1.1, 0.05, -0.6, 0.5, 0.015, 85, (0.25, 0.25, 0.5)),
    Camera("bricks", (0.72, 0.88, 1.18), 1.15, 0.8, 0.00, 0.3, 0.6, 0.030, 80, (0.3, 0.4, 0.3)),
    Camera("shops", (1.05, 0.96, 1.06), 0.80, 0.6, 0.10, -0.2, 0.4, 0.012, 90, (0.45, 0.1, 0.45)),
    Camera("road", (0.98, 1.0, 1.0), 1.35, 0.9, 0.00, -0.9, 0.7, 0.020, 75, (0.2, 0.55, 0.25)),
    Camera("hall", (1.25, 0.98, 0.62), 1.10, 0.9, 0.04, 0.0, 0.5, 0.035, 80, (0.45, 0.2, 0.35)),
)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """(height, width) float32 noise around 0, standard deviation about 0.6, smooth over `cell` pixels."""
    coarse = rng.normal(0, 1, (height // cell + 2, width // cell + 2)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@lru_cache(maxsize=16)
def panorama(seed: int, camera: int) -> np.ndarray:
    """The place behind a camera, (256, 768, 3) float32 RGB in [0, 1]; read only."""
    rng = derive_generator(seed, "panorama", camera)
    place = CAMERAS[camera % len(CAMERAS)].place
    image = np.zeros((PANORAMA_HEIGHT, PANORAMA_WIDTH, 3), np.float32)
    horizon = {"plaza": 80, "park": 70, "bricks": 110, "shops": 125, "road": 60, "hall": 95}[place]
    _WALLS[place](image, horizon, rng)
    _GROUNDS[place](image, horizon, rng)
    image *= 1 + 0.05 * smooth_noise(rng, *image.shape[:2], 5)[..., None]
    image *= 1 + 0.09 * smooth_noise(rng, *image.shape[:2], 60)[..., None]
    image = np.clip(image, 0, 1)
    image.flags.writeable = False
    return image


def _boxes(image, rng, count, top, bottom, width, height, colours) -> None:
    """Rectangles with a darker rim, standing at random columns."""
    for _ in range(count):
        x, y = int(rng.integers(0, PANORAMA_WIDTH)), int(rng.integers(top, bottom + 1))
        w, h = int(rng.integers(*width)), int(rng.integers(*height))
        colour = np.array(colours[rng.integers(len(colours))]) * rng.uniform(0.85, 1.1)
        cv2.rectangle(image, (x, y - h), (x + w, y), (0.6 * colour).tolist(), -1)
        cv2.rectangle(image, (x + 3, y - h + 3), (x + w - 3, y - 2), colour.tolist(), -1)


def _facade(image, horizon, rng) -> None:
    image[:horizon] = (0.66, 0.63, 0.57)
    for x in range(10, PANORAMA_WIDTH, 74):
        cv2.rectangle(image, (x, 4), (x + 40, horizon - 22), (0.27, 0.31, 0.35), -1)
        cv2.rectangle(image, (x, 4), (x + 40, horizon - 22), (0.82, 0.81, 0.77), 3)
        cv2.line(image, (x + 20, 4), (x + 20, horizon - 22), (0.8, 0.8, 0.76), 2)
    cv2.rectangle(image, (0, horizon - 9), (PANORAMA_WIDTH, horizon), (0.42, 0.40, 0.38), -1)
    _boxes(image, rng, 5, horizon, horizon, (30, 60), (45, 66), ((0.35, 0.25, 0.2), (0.3, 0.36, 0.36)))


def _trees(image, horizon, rng) -> None:
    image[:horizon] = (0.52, 0.60, 0.62)
    for _ in range(90):
        centre = int(rng.integers(0, PANORAMA_WIDTH)), int(rng.integers(-10, horizon - 8))
        green = np.array((0.20, 0.30, 0.15)) * rng.uniform(0.6, 1.5)
        cv2.ellipse(image, centre, (int(rng.integers(12, 34)), int(rng.integers(8, 22))), 0, 0, 360, green.tolist(), -1)
    for _ in range(9):
        x, w = int(rng.integers(0, PANORAMA_WIDTH)), int(rng.integers(5, 14))
        cv2.rectangle(image, (x, 0), (x + w, horizon + int(rng.integers(0, 14))), (0.24, 0.19, 0.15), -1)


def _bricks(image, horizon, rng) -> None:
    image[:horizon] = (0.50, 0.30, 0.24)
    for row, y in enumerate(range(0, horizon, 9)):
        cv2.line(image, (0, y), (PANORAMA_WIDTH, y), (0.60, 0.52, 0.46), 1)
        for x in range(12 * (row % 2), PANORAMA_WIDTH, 24):
            cv2.line(image, (x, y), (x, y + 9), (0.60, 0.52, 0.46), 1)
    _boxes(image, rng, 6, horizon - 30, horizon - 20, (40, 70), (50, 70), ((0.2, 0.23, 0.27), (0.7, 0.7, 0.66)))
    _boxes(image, rng, 3, horizon, horizon, (34, 48), (90, 105), ((0.22, 0.3, 0.25), (0.3, 0.22, 0.18)))


def _shop_fronts(image, horizon, rng) -> None:
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


def _parked_cars(image, horizon, rng) -> None:
    image[:horizon] = (0.45, 0.45, 0.44)
    _boxes(image, rng, 9, horizon - 8, horizon - 2, (40, 90), (40, 60), ((0.55, 0.5, 0.42), (0.4, 0.42, 0.45)))
    paints = ((0.75, 0.75, 0.76), (0.15, 0.16, 0.18), (0.45, 0.12, 0.12), (0.2, 0.28, 0.45))
    for x in range(-20, PANORAMA_WIDTH, 190):
        x += int(rng.integers(0, 40))
        paint = paints[rng.integers(len(paints))]
        cv2.ellipse(image, (x + 70, horizon - 12), (44, 26), 0, 180, 360, [0.7 * part for part in paint], -1)
        cv2.ellipse(image, (x + 70, horizon - 12), (36, 20), 0, 180, 360, (0.22, 0.25, 0.28), -1)
        cv2.rectangle(image, (x, horizon - 14), (x + 140, horizon + 8), paint, -1)
        for wheel in (28, 112):
            cv2.circle(image, (x + wheel, horizon + 8), 12, (0.07, 0.07, 0.07), -1)


def _hall_wall(image, horizon, rng) -> None:
    image[:horizon] = (0.72, 0.70, 0.66)
    for x in range(20, PANORAMA_WIDTH, 150):
        cv2.rectangle(image, (x, 0), (x + 28, horizon + 6), (0.56, 0.55, 0.53), -1)
        cv2.rectangle(image, (x, 0), (x + 8, horizon + 6), (0.66, 0.65, 0.63), -1)
    _boxes(image, rng, 7, horizon - 16, horizon - 10, (30, 56), (40, 66), ((0.25, 0.4, 0.55), (0.8, 0.75, 0.5)))
    cv2.rectangle(image, (0, horizon - 6), (PANORAMA_WIDTH, horizon), (0.3, 0.28, 0.27), -1)


def _tiles(image, horizon, rng, colour, line, spacing, slant) -> None:
    """Flagstones in perspective: rows that grow towards the camera, joints that fan out."""
    image[horizon:] = colour
    y, step = float(horizon), 5.0
    while y < PANORAMA_HEIGHT:
        cv2.line(image, (0, int(y)), (PANORAMA_WIDTH, int(y)), line, 1, cv2.LINE_AA)
        y, step = y + step, step * 1.3
    for x in range(-PANORAMA_WIDTH, 2 * PANORAMA_WIDTH, spacing):
        foot = int(x + (x - PANORAMA_WIDTH / 2) * slant)
        cv2.line(image, (x, horizon), (foot, PANORAMA_HEIGHT), line, 1, cv2.LINE_AA)


def _paving(image, horizon, rng) -> None:
    _tiles(image, horizon, rng, (0.60, 0.58, 0.54), (0.47, 0.45, 0.42), 30, 0.7)


def _meadow(image, horizon, rng) -> None:
    image[horizon:] = (0.33, 0.42, 0.22)
    image[horizon:] *= 1 + 0.14 * smooth_noise(rng, PANORAMA_HEIGHT - horizon, PANORAMA_WIDTH, 3)[..., None]
    path = np.array([[150, horizon], [330, horizon], [760, PANORAMA_HEIGHT], [-60, PANORAMA_HEIGHT]], np.int32)
    cv2.fillPoly(image, [path], (0.62, 0.56, 0.45), cv2.LINE_AA)


def _asphalt(image, horizon, rng) -> None:
    image[horizon:] = (0.36, 0.36, 0.37)
    cv2.rectangle(image, (0, horizon), (PANORAMA_WIDTH, horizon + 22), (0.50, 0.49, 0.47), -1)
    cv2.line(image, (0, horizon + 23), (PANORAMA_WIDTH, horizon + 23), (0.65, 0.64, 0.6), 3)
    for x in range(0, PANORAMA_WIDTH, 260):
        cv2.line(image, (x, 250), (x + 130, 215), (0.78, 0.77, 0.72), 8, cv2.LINE_AA)


def _mall_floor(image, horizon, rng) -> None:
    _tiles(image, horizon, rng, (0.70, 0.66, 0.60), (0.50, 0.44, 0.40), 64, 1.2)


def _street(image, horizon, rng) -> None:
    image[horizon:] = (0.41, 0.41, 0.42)
    cv2.rectangle(image, (0, horizon + 66), (PANORAMA_WIDTH, PANORAMA_HEIGHT), (0.56, 0.54, 0.51), -1)
    cv2.line(image, (0, horizon + 66), (PANORAMA_WIDTH, horizon + 66), (0.72, 0.71, 0.68), 5)
    for x in range(0, PANORAMA_WIDTH, 100):
        cv2.line(image, (x, horizon + 30), (x + 55, horizon + 30), (0.85, 0.85, 0.82), 4)
        cv2.line(image, (x, horizon + 66), (x - 60, PANORAMA_HEIGHT), (0.46, 0.44, 0.42), 1, cv2.LINE_AA)


def _hall_floor(image, horizon, rng) -> None:
    _tiles(image, horizon, rng, (0.52, 0.46, 0.40), (0.42, 0.37, 0.33), 80, 1.5)
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
    """A part of a camera's place, at a random column and size: (height, width, 3) float32 RGB in [0, 1]."""
    view = panorama(seed, camera)
    tall = int(PANORAMA_HEIGHT * rng.uniform(0.72, 1.0))
    wide = int(tall * width / height)
    x, y = int(rng.integers(0, PANORAMA_WIDTH - wide)), int(rng.integers(0, PANORAMA_HEIGHT - tall + 1))
    part = view[y : y + tall, x : x + wide]
    image = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    image *= 1 + 0.05 * smooth_noise(rng, height, width, 24)[..., None]
    if rng.random() < 0.3:
        _draw_cast_shadow(image, rng)
    return image


def _draw_cast_shadow(image: np.ndarray, rng: np.random.Generator) -> None:
    """The shadow of something outside the picture, across a part of it."""
    height, width = image.shape[:2]
    left, right = rng.uniform(-0.5, 1.5, 2) * height
    mask = np.zeros((height, width), np.uint8)
    corners = np.array([[0, left], [width, right], [width, height], [0, height]], np.int32)
    cv2.fillPoly(mask, [corners], 255)
    mask = cv2.blur(mask, (9, 9)).astype(np.float32)[..., None] / 255
    image *= 1 - 0.35 * mask


def render_occluder(image: np.ndarray, rng: np.random.Generator) -> None:
    """Something in front of the person: a post, a bench, a bicycle, a box or a car's bonnet; painted in place."""
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
        _draw_bicycle(image, rng, colour.tolist())
    elif kind == "box":
        x, w = int(rng.uniform(-0.3, 0.8) * width), int(rng.uniform(0.35, 0.6) * width)
        y = int(rng.uniform(0.62, 0.85) * height)
        cv2.rectangle(image, (x, y), (x + w, height), colour.tolist(), -1)
        cv2.rectangle(image, (x, y), (x + w, y + 8), (1.3 * colour).tolist(), -1)
    else:
        x, y = int(rng.uniform(0, 1) * width), int(rng.uniform(0.9, 1.05) * height)
        cv2.ellipse(image, (x, y), (width, int(0.2 * height)), 0, 180, 360, colour.tolist(), -1, cv2.LINE_AA)
        cv2.ellipse(image, (x, y), (int(0.8 * width), int(0.13 * height)), 0, 180, 360, (0.7 * colour).tolist(), -1)


def _draw_bicycle(image: np.ndarray, rng: np.random.Generator, colour: list[float]) -> None:
    height, width = image.shape[:2]
    x, y, r = int(rng.uniform(-0.1, 0.6) * width), int(0.9 * height), int(0.24 * width)
    hubs = (x, y), (x + int(2.6 * r), y)
    for hub in hubs:
        cv2.circle(image, hub, r, (0.07, 0.07, 0.07), 3, cv2.LINE_AA)
    seat, handle = (x + int(0.7 * r), y - int(1.3 * r)), (x + int(2.1 * r), y - int(1.5 * r))
    pedals = (x + int(1.2 * r), y)
    for start, end in ((hubs[0], seat), (seat, handle), (seat, pedals), (handle, pedals), (handle, hubs[1])):
        cv2.line(image, start, end, colour, 4, cv2.LINE_AA)


def photograph(image: np.ndarray, camera: int, rng: np.random.Generator) -> np.ndarray:
    """What a camera records of a scene: light, colour cast, softness and noise.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1].
        camera: index from 0; its style is that of CAMERAS.
        rng: generator of the picture's own variation.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    style = CAMERAS[camera % len(CAMERAS)]
    height, width = image.shape[:2]
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * style.saturation
    image = np.clip(image, 0, 1) ** (style.gamma * np.exp(rng.normal(0, 0.5 * LIGHT_SPREAD)))
    gains = np.asarray(style.gains) ** CAST_STRENGTH * np.exp(rng.normal(0, LIGHT_SPREAD) + rng.normal(0, 0.04, 3))
    across = np.linspace(-1, 1, width)[None, :, None] * (0.12 * style.light + rng.normal(0, 0.06))
    down = np.linspace(-1, 1, height)[:, None, None] * rng.normal(0, 0.08)
    image = (image * gains * (1 + across + down) * (1 - style.haze) + style.haze).astype(np.float32)
    sigma = SOFTNESS * style.blur * rng.uniform(0.6, 1.5)
    image = cv2.GaussianBlur(image, (0, 0), max(sigma, 0.05))
    if rng.random() < 0.12:
        image = cv2.blur(image, (int(rng.integers(2, 5)), 1))
    image += rng.normal(0, SOFTNESS * style.noise * rng.uniform(0.5, 1.5), image.shape)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
