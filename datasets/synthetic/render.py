"""Renders one image of the synthetic set: background, person, passers-by, occluder, camera, JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np

from datasets.synthetic.appearance import Appearance, sample_appearance
from datasets.synthetic.camera import camera_of, photograph
from datasets.synthetic.canvas import Placement
from datasets.synthetic.person import render_person, sample_pose
from datasets.synthetic.scene import render_background, render_occluder, smooth_noise
from utils.seeds import derive_generator

# Height and width of an image in pixels, as in Market-1501, and how many times larger it is rendered.
HEIGHT, WIDTH = 128, 64
SUPERSAMPLING = 2

# Difficulty: rates of occluded people and of passers-by in the background, error of the bounding box in size and place
# (standard deviation), and spread of the body's direction around a camera's views (radians).
OCCLUSION_RATE = 0.14
PASSER_BY_RATE = 0.25
FRAMING_JITTER = 0.035
YAW_SPREAD = 0.35


@dataclass(frozen=True)
class Shot:
    """An image to render: identity `pid` (0: distractor, -1: junk), `camera` and `index`, both from 0."""

    pid: int
    camera: int
    index: int


def appearance_of(seed: int, shot: Shot) -> Appearance:
    """The person of a shot: one for each positive pid, a new one in every image of a distractor or junk."""
    if shot.pid > 0:
        return sample_appearance(derive_generator(seed, "appearance", shot.pid))
    return sample_appearance(derive_generator(seed, "appearance", shot.pid, shot.camera, shot.index))


def render_image(seed: int, shot: Shot) -> bytes:
    """Renders an image as the bytes of a 128 x 64 JPEG, a pure function of (seed, pid, camera, index)."""
    rng = derive_generator(seed, "picture", shot.pid, shot.camera, shot.index)
    height, width = HEIGHT * SUPERSAMPLING, WIDTH * SUPERSAMPLING
    camera = camera_of(shot.camera)
    image = render_background(seed, shot.camera, rng, height, width)
    texture = 1 + 0.07 * smooth_noise(rng, height, width, 11)
    centre = width * (0.5 + rng.normal(0, FRAMING_JITTER))
    scale = height * (0.9 + rng.normal(0, FRAMING_JITTER))
    feet = height * (0.965 + rng.normal(0, 0.6 * FRAMING_JITTER))
    if shot.pid < 0:
        centre, scale, feet = _bad_box(rng, height, width)
    elif rng.random() < 0.12:
        feet += height * rng.uniform(0.03, 0.12)  # the box misses the feet
    elif rng.random() < 0.06:
        feet -= height * rng.uniform(0.03, 0.08)  # the box is too low

    def render(person: Appearance, x: float, y: float, size: float, yaw: float) -> None:
        _darken_ground(image, x, y, size, camera.light)
        render_person(image, person, sample_pose(rng, yaw), Placement(x, y, size, camera.light), texture)

    def render_passer_by(near: bool) -> None:
        side = rng.choice([-1, 1])
        size = scale * (rng.uniform(1.0, 1.12) if near else rng.uniform(0.55, 0.85))
        x = centre + side * width * (rng.uniform(0.42, 0.55) if near else rng.uniform(0.25, 0.55))
        y = feet + (0.05 if near else -0.12) * height
        render(sample_appearance(rng), x, y, size, rng.uniform(0, 2 * np.pi))

    if rng.random() < PASSER_BY_RATE:
        render_passer_by(near=False)
    render(appearance_of(seed, shot), centre, feet, scale, _sample_yaw(rng, camera.views))
    occlusion = rng.random()
    if occlusion < 0.4 * OCCLUSION_RATE:
        render_passer_by(near=True)
    elif occlusion < OCCLUSION_RATE:
        render_occluder(image, rng)

    image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    image = photograph(image, camera, rng)
    quality = int(camera.quality + rng.integers(-6, 7))
    encoded, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not encoded:
        raise RuntimeError(f"OpenCV could not encode {shot} as JPEG")
    return data.tobytes()


def _sample_yaw(rng: np.random.Generator, views: tuple[float, float, float]) -> float:
    """Samples a direction in radians, 0 towards the camera; `views` weights front, side and back."""
    view = rng.choice(3, p=np.asarray(views) / sum(views))
    return float((0.0, rng.choice([-1, 1]) * np.pi / 2, np.pi)[view] + rng.normal(0, YAW_SPREAD))


def _bad_box(rng: np.random.Generator, height: int, width: int) -> tuple[float, float, float]:
    """Samples column, body height and row of the feet for a detection that shows a part of a body, or hardly any."""
    scale = height * rng.uniform(1.5, 2.2)
    return width * rng.uniform(0.1, 0.9), scale, height * rng.uniform(0.7, 2.0)


def _darken_ground(image: np.ndarray, x: float, y: float, size: float, light: float) -> None:
    """Renders the shadow around the feet, in place."""
    height, width = image.shape[:2]
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None]
    distance = ((columns - x + 0.05 * light * size) / (0.17 * size)) ** 2 + ((rows - y) / (0.03 * size)) ** 2
    image *= (1 - 0.5 * np.exp(-distance))[..., None]
