"""A rendered pedestrian, for looking at corruptions without a data set."""

import cv2
import numpy as np


def render_sample_image() -> np.ndarray:
    """Renders a pedestrian in front of a wall, (256, 128, 3) uint8 RGB."""
    image = np.full((256, 128, 3), (176, 184, 190), np.uint8)
    _render_background(image)
    _render_pedestrian(image)
    return image


def _render_background(image: np.ndarray) -> None:
    for row, column in np.ndindex(11, 5):  # bricks
        left, top = column * 32 - 16 * (row % 2), row * 18
        cv2.rectangle(image, (left, top), (left + 29, top + 15), (188, 150 + 3 * row, 128), -1)
    cv2.rectangle(image, (0, 196), (127, 255), (112, 116, 112), -1)  # pavement
    cv2.ellipse(image, (66, 238), (38, 8), 0, 0, 360, (78, 80, 78), -1)  # shadow


def _render_pedestrian(image: np.ndarray) -> None:
    for foot in (50, 76):
        cv2.line(image, (63, 140), (foot, 232), (38, 52, 104), 17)  # leg
        cv2.ellipse(image, (foot + 4, 236), (12, 6), 0, 0, 360, (40, 32, 28), -1)  # shoe
    cv2.line(image, (46, 76), (32, 138), (176, 38, 44), 13)  # arms
    cv2.line(image, (80, 76), (94, 134), (176, 38, 44), 13)
    cv2.rectangle(image, (44, 66), (82, 146), (200, 46, 52), -1)  # jacket
    for top in range(78, 146, 16):  # stripes
        cv2.rectangle(image, (44, top), (82, top + 5), (236, 226, 206), -1)
    cv2.rectangle(image, (84, 128), (112, 162), (46, 104, 70), -1)  # bag
    cv2.circle(image, (63, 42), 19, (222, 178, 148), -1)  # face
    cv2.ellipse(image, (63, 34), (20, 15), 0, 180, 360, (62, 42, 30), -1)  # hair
