"""One picture of the synthetic set: who stands before which camera, how, behind what, and how they are cut out."""

from dataclasses import dataclass

import cv2
import numpy as np

from datasets.synthetic.appearance import Appearance, sample_appearance
from datasets.synthetic.person import Placement, render_person, sample_pose
from datasets.synthetic.scene import CAMERAS, photograph, render_background, render_occluder, smooth_noise
from utils.seeds import derive_generator

# Height and width of a picture in pixels, as in Market-1501, and how much larger it is drawn.
HEIGHT, WIDTH = 128, 64
SUPERSAMPLING = 2

# Difficulty: shares of pictures in which something or somebody stands in front or walks behind, how far (standard
# deviation) a box is off in size and place, and how far (radians) people turn from the views of a camera.
OCCLUSION_RATE = 0.14
PASSER_BY_RATE = 0.25
FRAMING_JITTER = 0.035
YAW_SPREAD = 0.35


@dataclass(frozen=True)
class Shot:
    """A picture to take: identity `pid` (0: distractor, -1: junk), `camera` and `index`, both from 0."""

    pid: int
    camera: int
    index: int


def appearance_of(seed: int, shot: Shot) -> Appearance:
    """Who a shot shows: one person per positive pid, somebody else in every picture of a distractor or of junk."""
    if shot.pid > 0:
        return sample_appearance(derive_generator(seed, "appearance", shot.pid))
    return sample_appearance(derive_generator(seed, "appearance", shot.pid, shot.camera, shot.index))


def render_image(seed: int, shot: Shot) -> bytes:
    """A picture as a JPEG file of 128 x 64 pixels (height, width): a pure function of (seed, pid, camera, index)."""
    rng = derive_generator(seed, "picture", shot.pid, shot.camera, shot.index)
    height, width = HEIGHT * SUPERSAMPLING, WIDTH * SUPERSAMPLING
    style = CAMERAS[shot.camera % len(CAMERAS)]
    image = render_background(seed, shot.camera, rng, height, width)
    texture = 1 + 0.07 * smooth_noise(rng, height, width, 11)
    centre = width * (0.5 + rng.normal(0, FRAMING_JITTER))
    scale = height * (0.9 + rng.normal(0, FRAMING_JITTER))
    feet = height * (0.965 + rng.normal(0, 0.6 * FRAMING_JITTER))
    if shot.pid < 0:
        centre, scale, feet = _bad_box(rng, height, width)
    elif rng.random() < 0.12:
        feet += height * rng.uniform(0.03, 0.12)  # a box that misses the feet
    elif rng.random() < 0.06:
        feet -= height * rng.uniform(0.03, 0.08)  # and one that is too low

    def stand(person, x, y, size, yaw):
        _darken_ground(image, x, y, size, style.light)
        render_person(image, person, sample_pose(rng, yaw), Placement(x, y, size, style.light), texture)

    def passer_by(near: bool):
        side = rng.choice([-1, 1])
        size = scale * (rng.uniform(1.0, 1.12) if near else rng.uniform(0.55, 0.85))
        x = centre + side * width * (rng.uniform(0.42, 0.55) if near else rng.uniform(0.25, 0.55))
        y = feet + (0.05 if near else -0.12) * height
        stand(sample_appearance(rng), x, y, size, rng.uniform(0, 2 * np.pi))

    if rng.random() < PASSER_BY_RATE:
        passer_by(near=False)
    stand(appearance_of(seed, shot), centre, feet, scale, _draw_yaw(rng, style.views))
    hidden = rng.random()
    if hidden < 0.4 * OCCLUSION_RATE:
        passer_by(near=True)
    elif hidden < OCCLUSION_RATE:
        render_occluder(image, rng)

    picture = photograph(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), shot.camera, rng)
    quality = int(style.quality + rng.integers(-6, 7))
    done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"OpenCV could not encode {shot} as JPEG")
    return data.tobytes()


def _draw_yaw(rng: np.random.Generator, views: tuple[float, float, float]) -> float:
    """A direction in radians, 0 towards the camera, as often front, side and back as `views` says."""
    view = rng.choice(3, p=np.asarray(views) / sum(views))
    return float((0.0, rng.choice([-1, 1]) * np.pi / 2, np.pi)[view] + rng.normal(0, YAW_SPREAD))


def _bad_box(rng: np.random.Generator, height: int, width: int) -> tuple[float, float, float]:
    """Column, body height and row of the feet for a detection that shows a part of a body, or hardly any."""
    scale = height * rng.uniform(1.5, 2.2)
    return width * rng.uniform(0.1, 0.9), scale, height * rng.uniform(0.7, 2.0)


def _darken_ground(image: np.ndarray, x: float, y: float, size: float, light: float) -> None:
    """The shadow around somebody's feet, painted in place."""
    height, width = image.shape[:2]
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)[None]
    distance = ((columns - x + 0.05 * light * size) / (0.17 * size)) ** 2 + ((rows - y) / (0.03 * size)) ** 2
    image *= (1 - 0.5 * np.exp(-distance))[..., None]
