"""The cameras of the synthetic set: where each stands, and what it does to light, colour and sharpness."""

from dataclasses import dataclass

import cv2
import numpy as np

# Difficulty: strength of each camera's colour cast (0: neutral, 1: as listed), variation of light between images (log
# standard deviation), and strength of blur and noise.
CAST_STRENGTH = 1.0
LIGHT_SPREAD = 0.16
SOFTNESS = 1.0


@dataclass(frozen=True)
class Camera:
    """A place and the response of its camera.

    Attributes:
        place: what it sees, see scene.py.
        gains: RGB factors.
        gamma: exponent on values in [0, 1].
        saturation: factor; 0: grey.
        haze: light added evenly.
        light: side that the light comes from, -1 to 1.
        blur: Gaussian sigma in pixels.
        noise: standard deviation in [0, 1].
        quality: of the JPEG.
        views: how often it sees people from the front, the side and the back.
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


def camera_of(index: int) -> Camera:
    """The camera of an index from 0; with more cameras than CAMERAS, they repeat."""
    return CAMERAS[index % len(CAMERAS)]


def photograph(image: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Applies a camera's response to a scene: light, colour cast, blur and noise.

    Args:
        image: (H, W, 3) float32 RGB in [0, 1].
        camera: its response.
        rng: generator of the image's own variation.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * camera.saturation
    image = np.clip(image, 0, 1) ** (camera.gamma * np.exp(rng.normal(0, 0.5 * LIGHT_SPREAD)))
    gains = np.asarray(camera.gains) ** CAST_STRENGTH * np.exp(rng.normal(0, LIGHT_SPREAD) + rng.normal(0, 0.04, 3))
    across = np.linspace(-1, 1, width)[None, :, None] * (0.12 * camera.light + rng.normal(0, 0.06))
    down = np.linspace(-1, 1, height)[:, None, None] * rng.normal(0, 0.08)
    image = (image * gains * (1 + across + down) * (1 - camera.haze) + camera.haze).astype(np.float32)
    sigma = SOFTNESS * camera.blur * rng.uniform(0.6, 1.5)
    blurred: np.ndarray = cv2.GaussianBlur(image, (0, 0), max(sigma, 0.05))
    if rng.random() < 0.12:
        blurred = cv2.blur(blurred, (int(rng.integers(2, 5)), 1))
    noise = rng.normal(0, SOFTNESS * camera.noise * rng.uniform(0.5, 1.5), blurred.shape)
    np.add(blurred, noise, out=blurred)  # float64, rounded to float32
    return np.rint(np.clip(blurred, 0, 1) * 255).astype(np.uint8)
